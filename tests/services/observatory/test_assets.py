"""What pages load: as it was published, with its licence, and nothing from outside."""

import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

from services.observatory.web.assets import PLACES, asset

ROOT = Path(__file__).parents[3]
HERE = ROOT / "services" / "observatory"
VENDOR = HERE / "static" / "vendor"
FILES = tomllib.loads((VENDOR / "vendored.toml").read_text())["file"]
OWN = sorted(
    path for kind in ("html", "js", "css", "svg") for path in HERE.rglob(f"*.{kind}") if VENDOR not in path.parents
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["name"])
def test_a_library_is_as_it_was_published_and_has_its_licence(file: dict[str, str]) -> None:
    assert sha256((VENDOR / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    licence = (VENDOR / file["licence_file"]).read_text()
    words = {"0BSD": "Permission to use, copy, modify, and/or distribute", "Apache-2.0": "Apache License"}
    assert words[file["licence"]] in licence


def test_every_vendored_file_is_named_and_is_loaded() -> None:
    assert {path.name for path in VENDOR.glob("*.js")} == {file["name"] for file in FILES}
    loaded = {path.rpartition("/")[2] for _, path in PLACES.values() if "/vendor/" in path}
    assert loaded == {file["name"] for file in FILES}
    assert {path.name for path in (VENDOR / "licences").iterdir()} == {
        file["licence_file"].rpartition("/")[2] for file in FILES
    }


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_page_script_or_style_sheet_of_ours_names_another_host(path: Path) -> None:
    known = ("http://www.w3.org/2000/svg", "https://www.tradingview.com/")  # a name space, and a link that is due
    found = [
        address
        for address in re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[\w/.]*", path.read_text())
        if address not in known
    ]
    assert found == []


def test_the_notice_of_the_charts_is_on_their_page() -> None:
    page = (HERE / "templates" / "symbol.html").read_text()
    assert "https://www.tradingview.com/" in page
    assert "TradingView, Inc." in page


@pytest.mark.parametrize("name", PLACES)
def test_an_asset_has_an_address_that_changes_with_it(name: str) -> None:
    found = asset(name)
    assert found.digest == sha256(found.data).hexdigest()[:16]
    assert found.data
