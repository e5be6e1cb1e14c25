"""Every command of README, tutorials and how-to pages, typed as it stands there (CONTRIBUTING, *Pages*).

What a page leaves to its reader (a file of bars, an artifact to look at) is made before it; what its examples stand for
is looked up when they are met. A command that is not run says why in ``reading``."""

import csv
import gzip
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from bench.installation import free_port
from shared.bars import Good
from shared.synthetic.market import SyntheticMarket
from tests.pages.reader import Reader
from tests.pages.reading import ROOT, blocks

pytestmark = pytest.mark.long

HOUR_MS: Final = 3_600_000
BARS: Final = "BTCUSDT-1h.csv.gz"
TRAINED: Final = 20_000
"""Rows of the tutorial's file on which it trains. It feeds the rest."""
FED: Final = 700

StandsFor = Mapping[str, str | Callable[[], str]]
NOTHING: Final[StandsFor] = MappingProxyType({})
Codes = Mapping[str, Collection[int]]
"""Exit codes besides 0 that a page says a command may have, by the beginning of the command."""


def write_bars(file: Path, count: int) -> None:
    """Write hourly bars of a market with a planted signal."""
    with gzip.open(file, "wt", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(("open_time", "open", "high", "low", "close", "volume"))
        for row in SyntheticMarket(("BTCUSDT",), "sequence", 1, count, HOUR_MS).rows():
            assert isinstance(row, Good)
            bar = row.bar
            rows.writerow((bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume))


def read(reader: Reader, page: str, stands_for: StandsFor = NOTHING, codes: Codes = MappingProxyType({})) -> None:
    """Type every command of a page that is run. Fails with each that did not end as expected."""
    wrong = []
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        for command in block.commands:
            if not command.not_run:
                others = [code for begun, more in codes.items() if command.text.startswith(begun) for code in more]
                wrong += reader.follow(command, stands_for, (0, *others))
    if wrong:
        pytest.fail(f"{page}:\n\n" + "\n\n".join(wrong), pytrace=False)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Someone with a clone."""
    here = Reader(tmp_path)
    try:
        yield here
    finally:
        here.close()


def test_the_readme(reader: Reader) -> None:
    read(reader, "README.md")


def test_live_in_fifteen_minutes(reader: Reader) -> None:
    exchange, port = "docs/tutorial/live.md", free_port()
    reader.type(f".venv/bin/python -m tests.exchange.serve --port {port} --interval 5m &")
    toml = re.search(r"```toml\n(.*?)```", (ROOT / exchange).read_text(encoding="utf-8"), re.DOTALL)
    assert toml is not None
    reader.settings = f'{toml[1]}local = "http://127.0.0.1:{port}"\n'
    read(reader, exchange)


def test_rotate_keys(reader: Reader) -> None:
    """With an installation of its own: from the first trusted key on every command must be signed."""
    reader.must("conclave up --one-process --detach")
    read(reader, "docs/how-to/rotate-keys.md", {"<public>": lambda: reader.last(r"^([0-9a-f]{64})$")})
    reader.must("conclave down")


def test_first_decisions_and_what_to_look_at_next(reader: Reader) -> None:
    write_bars(reader.brought / BARS, TRAINED + FED)
    read(reader, "docs/tutorial/first-decisions.md")
    read(reader, "docs/how-to/look-at-it-in-a-browser.md")
    read(reader, "docs/how-to/trade-on-paper.md")
