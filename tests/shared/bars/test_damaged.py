"""A damaged file of any format is read, or refused with a reason; nothing else is raised."""

import functools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import fuzz_samples as samples
from shared.bars import Good, SourceError, open_source
from shared.bars.amount import estimated_rows
from shared.bars.columns import ROLES, stated_columns
from shared.bars.times import parse_zone

TABLES = functools.cache(samples.tables)
KINDS: dict[str, Callable[[Path], list[bytes]]] = {
    "csv": lambda _: samples.texts_of_programs(),
    "json": lambda _: samples.responses(),
    "zip": lambda _: [samples.zipped()],
    "parquet": lambda folder: TABLES(folder)[0],
    "feather": lambda folder: TABLES(folder)[1],
}
TOKENS = [b"", b"\x00", b"NaN", b"-1", b"9" * 40, b"null", b"[]", b"{}", b'"', b",", b"\n", b"1e999", b"+"]
PIECES = st.sampled_from(TOKENS)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), PIECES | st.binary(max_size=9)), min_size=1, max_size=4)


def damaged(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, length, piece in edits:
        at = int(place * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), edits=EDITS, zone=st.sampled_from([None, "Europe/Athens"]), columns=st.booleans())
def test_a_damaged_file_is_read_or_refused(
    kind: str,
    data: st.DataObject,
    edits: list[tuple[float, int, bytes]],
    zone: str | None,
    columns: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / f"BTC-USDT-1m.{kind}"
    path.write_bytes(damaged(data.draw(st.sampled_from(KINDS[kind](folder))), edits))
    said = stated_columns(["time=1,volume=6,close=5"]) if columns else ()
    with suppress(SourceError):
        for row in open_source(path, zone=parse_zone(zone) if zone else None, columns=said):
            assert isinstance(row, Good) or row.detail


@pytest.mark.parametrize("lines", range(4))
def test_a_file_that_ends_after_its_first_lines_is_read_or_refused(lines: int, tmp_path: Path) -> None:
    """A header alone is what an exchange without trades in a month writes."""
    texts = [*samples.texts_of_programs(), b"open_time,open,high,low,close,volume\n"]
    for number, data in enumerate(text + end for text in texts for end in (b"", b"\n", b"\r\n\r\n")):
        path = tmp_path / f"{number}" / "BTC-USDT-1m.csv"
        path.parent.mkdir()
        path.write_bytes(b"".join(data.splitlines(keepends=True)[:lines]))
        with suppress(SourceError):
            source = open_source(path)
            assert estimated_rows(source) is not None
            for row in source.rows():
                assert isinstance(row, Good) or row.detail


@given(st.text(max_size=30))
def test_a_zone_is_one_or_is_refused(text: str) -> None:
    with suppress(SourceError):
        parse_zone(text)


@given(st.lists(st.text(max_size=12), max_size=4))
def test_stated_columns_are_roles_or_are_refused(words: list[str]) -> None:
    with suppress(SourceError):
        assert all(role in ROLES and column for role, column in stated_columns(words))
