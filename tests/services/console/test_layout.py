"""The console breaks no word at the width of a terminal, in tables or in text: a part of a number is another number."""

import io
import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.columns import Columns
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.recorded import BEFORE, checked, market, record, verdict
from schemas.control import SetGatePolicy
from services.console.output import Terminal, coloured, terminal_table
from shared.gates.policies import digest_of
from shared.report.tables import TextTable
from tests.services.console.conftest import Desk

FRAME: Final = re.compile(r"[─-╿]")
SHA: Final = "0123456789abcdef" * 4


def printed(renderable: Any, width: int) -> str:
    """What a terminal of ``width`` columns, or a pipe, is given."""
    console = Terminal()
    console.width, console.file = width, io.StringIO()
    console.print(renderable)
    return str(console.file.getvalue())


def words_of(output: str) -> set[str]:
    words = FRAME.sub(" ", output).split()
    return {*words, *(word.removesuffix(":") for word in words)}


word = st.one_of(
    st.integers(-(10**12), 10**12).map("{:,}".format),
    st.floats(-1e9, 1e9).map("{:+.6f}".format),
    st.text("0123456789abcdef", min_size=8, max_size=64),
    st.sampled_from(["passed", "2026-11-29", "00:00", "[+2,431.5,", "same_everywhere", "of"]),
)
cell = st.lists(word, max_size=8).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> TextTable:
    columns = draw(st.integers(1, 9))
    rows = draw(st.lists(st.tuples(*[cell] * columns), min_size=1, max_size=4))
    heads = draw(st.tuples(*[st.lists(word, max_size=2).map(" ".join)] * columns))
    return TextTable(draw(cell), heads, rows)


@settings(max_examples=150)
@given(tables(), cell, st.sampled_from([60, 80, 100]), st.sampled_from([True, False]))
@example(TextTable("", ("",), [("",)]), "", 60, False)
@example(TextTable(SHA, ("a", "b"), [(SHA, SHA)]), SHA, 60, False)
def test_every_word_of_a_table_is_whole_at_any_width(table: TextTable, caption: str, width: int, no_wrap: bool) -> None:
    shown = terminal_table(table, caption)
    for column in shown.columns:
        column.no_wrap = no_wrap
    output = printed(shown, width)
    expected = {each for row in table.rows for value in row for each in value.split()}
    expected |= {each for value in (table.title, caption) for each in value.split()}
    assert {FRAME.sub("", each) for each in expected} - {""} <= words_of(output)
    assert output == printed(shown, width), "a table may be printed twice"


def test_a_short_cell_stays_on_one_line_and_long_text_is_wrapped() -> None:
    table = Table("when (UTC)", "skill", "why")
    table.add_row("2026-11-29 23:45", "+1,234.5 [+1,200.1, +1,300.2]", "the exchange was down " * 6)
    lines = printed(table, 80).splitlines()
    assert any("2026-11-29 23:45" in line and "+1,234.5 [+1,200.1," in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_table_that_is_too_wide_is_a_block_a_row_with_the_names_of_its_columns() -> None:
    heads = ("gate", "kind", "value", "interval", "samples", "threshold", "verdict", "detail")
    row = ("same_everywhere", "critical", "0.00123", "0.001 to 0.002", "1,234,567", "0.05", "passed", "of 123 bars")
    output = printed(terminal_table(TextTable("gates", heads, [row, ("skill", *row[1:])])), 60)
    assert output == (
        "gates\n"
        "same_everywhere\n"
        "  kind: critical   value: 0.00123   interval: 0.001 to 0.002\n"
        "  samples: 1,234,567   threshold: 0.05   verdict: passed\n"
        "  detail: of 123 bars\n"
        "skill\n"
        "  kind: critical   value: 0.00123   interval: 0.001 to 0.002\n"
        "  samples: 1,234,567   threshold: 0.05   verdict: passed\n"
        "  detail: of 123 bars\n"
    )


def test_a_table_of_two_columns_that_is_too_wide_is_a_line_a_row() -> None:
    rows = [("state folder", "/srv/" + "conclave/" * 9), ("entries", "1,234,567")]
    output = printed(terminal_table(TextTable("doctor", ("what", "found"), rows)), 80)
    assert output == f"doctor\nstate folder:\n/srv/{'conclave/' * 9}\nentries: 1,234,567\n"


@pytest.mark.parametrize("within", [Group, lambda table: Columns([table, table]), lambda table: Group(table, "x")])
def test_a_table_within_another_thing_is_fitted_too(within: Any) -> None:
    table = Table("id", "twice", title=SHA)
    table.add_row(SHA, SHA)
    assert SHA in words_of(printed(within(table), 80))


@pytest.mark.parametrize("text", [f"stored {SHA}{SHA}", Text(f"stored {SHA}{SHA}", "red")])
def test_a_word_of_a_text_that_is_longer_than_a_line_runs_over_its_end(text: Any) -> None:
    assert printed(text, 60) == f"stored\n{SHA}{SHA}\n"


COMMANDS: Final[tuple[tuple[str, ...], ...]] = (
    ("status",),
    ("history",),
    ("diff", "2", "5"),
    ("decisions",),
    ("doctor",),
    ("keys", "list"),
    ("train", "status"),
    ("artifacts", "list"),
    ("shadow", "report"),
    ("money",),
    ("gates",),
    ("gates", "explain", "VERDICT"),
    ("gates", "contributions"),
    ("gates", "replay", "--policy", "classic"),
    ("verify", "--jobs", "1"),
    ("archive", "status"),
    ("recover",),
    ("dead-letters", "list"),
)


@pytest.fixture
def recorded(desk: Desk) -> str:
    """Candidates with scores and verdicts, and reasons that are long. Returns the id of a verdict."""
    policy = SetGatePolicy("default", {"least_rows": 1_234_567})
    desk.issue(*BEFORE, policy)
    rows = list(market(60))
    desk.with_log(lambda log: record(log, "scores", [*rows, checked(rows[0], 1_234_567, 1_234_567)]))
    judged = verdict("failed", scores=123_456_789, policy_digest=digest_of(policy))
    (id_,) = desk.with_log(lambda log: record(log, "gates", [judged]))
    return str(id_)


def test_every_number_that_a_command_prints_is_whole_at_80_and_at_60_columns(
    desk: Desk, recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbers(command: tuple[str, ...], width: int) -> set[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        output = desk(*(recorded if each == "VERDICT" else each for each in command)).out
        return {each.strip(";,.:()") for each in words_of(output) if re.search(r"\d", each)}

    for command in COMMANDS:
        wide = numbers(command, 2000)
        narrow = {width: numbers(command, width) for width in (80, 60)}
        lasting = wide & numbers(command, 2000)  # others are measured: an age, a size
        assert {width: lasting - found for width, found in narrow.items()} == {80: set(), 60: set()}, command


@pytest.mark.parametrize("word", ["a\x1b[2Jb", "a\x9b2Jb", "a\u202eb", "a\rb"])
@pytest.mark.parametrize("shown", [str, Text, coloured, lambda word: Text.assemble("by ", (word, "bold"))])
def test_no_word_controls_the_terminal_whatever_shows_it(word: str, shown: Callable[[str], Any]) -> None:
    table = Table("column")
    table.add_row(shown(word))
    for each in (shown(word), table):
        text = printed(each, 80)
        assert word[1] not in text, text
        assert word[-1] in text
