"""Docstrings, comments and messages of the code: "behind" does not mean after, and no coined word replaces a term."""

import io
import re
import tokenize
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = [
    str(path.relative_to(ROOT))
    for package in ("schemas", "services", "shared", "bench")
    for path in (ROOT / package, *sorted((ROOT / package).iterdir()))
    if (path / "__init__.py").is_file()
]
"""Packages, and the packages in them. Of the former only their own modules are looked at."""
NAMED: Final = re.compile(r"``((?:bench|schemas|services|shared|tests)(?:\.\w+)+)(?:\(\))?``")
"""A dotted name in a docstring: of a module, or of what one defines."""
FILE: Final = re.compile(r"`((?:bench|deploy|docs|schemas|services|shared|systemd|tests)/[\w./-]+\w)`")
ALLOWED: Final = (
    "behind the market",
    "far behind",
    "fall behind",
    "falls behind",
    "lag behind",
)
"""Where "behind" means a lag, as it does in English."""
PINNED: Final = (
    "changed behind the chain",
    "changed behind version",
    "the door gives",
    "nobody voted",
    "nobody else votes",
    "nobody could ever",
    "nobody: the server was emptied",
    "over the ghost's",
    "register it anew",
)
"""Texts that are recorded, pinned by histories, or a message that is kept."""
PROSE: Final = {"STRING", "COMMENT", "FSTRING_MIDDLE"}
MISUSED: Final = re.compile(
    r"\b(behind|doors?|rosters?|summons?|ghosts?|incumbents?|anew|whoever|nobody|somebody|told|voices?|lets? go)\b",
    re.IGNORECASE,
)


def misused(source: str) -> list[int]:
    """The lines on which a comment or a text has one of the words. A text that is one word is a value, and so is a word
    in double backquotes."""
    lines = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type] in PROSE and not MISUSED.fullmatch(token.string.strip("\"'")):
            text = re.sub(r"``.*?``", "", " ".join(token.string.split()))
            for phrase in (*ALLOWED, *PINNED):
                text = text.replace(phrase, "")
            if MISUSED.search(text):
                lines.append(token.start[0])
    return lines


def modules(folder: str) -> list[Path]:
    """The modules in a package of a package with those of its folders; of a package, its own."""
    return sorted((ROOT / folder).rglob("*.py") if "/" in folder else (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_code_uses_terms_and_no_coined_words(folder: str) -> None:
    files = modules(folder)
    assert files
    assert [f"{file.relative_to(ROOT)}:{line}" for file in files for line in misused(file.read_text("utf-8"))] == []


def exists(name: str) -> bool:
    """Whether a dotted name is that of a module, or of a name in one. Nothing is imported."""
    path, parts = ROOT, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if parts and (path / f"{parts[0]}.py").is_file():
        path /= f"{parts.pop(0)}.py"
    source = (path if path.is_file() else path / "__init__.py").read_text("utf-8")
    return all(re.search(rf"\b{part}\b", source) for part in parts)


@pytest.mark.parametrize("folder", ["", *FOLDERS, "tests"])
def test_every_module_and_file_that_the_code_names_exists(folder: str) -> None:
    files = sorted((ROOT / "tests").rglob("*.py")) if folder == "tests" else modules(folder)
    for file in files:
        text = file.read_text("utf-8")
        assert [name for name in NAMED.findall(text) if not exists(name)] == [], file
        assert [name for name in FILE.findall(text) if not (ROOT / name).exists() and "/out/" not in name] == [], file


def test_a_name_that_moved_is_found() -> None:
    assert exists("shared.log.redis.RedisLog")
    assert exists("shared.control")
    assert not exists("shared.log.redis.Moved")
    assert not exists("shared.moved.RedisLog")


def test_a_misuse_is_found_and_a_lag_a_name_and_a_value_are_not() -> None:
    assert (
        misused('behind = 1\nreason = "behind"\nwarn("a service has been far behind")\n# ``ghost`` is a field\n') == []
    )
    assert misused('"""The door."""\nfail("nobody answers")\n# it begins anew\n') == [1, 2, 3]
    assert misused('"""The rows behind the first."""\n# what lies behind\nfail(f"lost behind {entry}")\n') == [1, 2, 3]
