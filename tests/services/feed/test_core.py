"""The fold of the feed: what is written, what becomes a dead letter, and how it resumes from its memo."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.catalogue import partition_of
from schemas.codec import ROOT, Encoded, decode, framed
from schemas.market import BarClosed, FundingPublished
from schemas.operations import DeadLetter
from services.feed.core import Numbered, OtherSourceError, State, handle, initial, snapshot, split, ticks
from shared.bars import Good, RefusedRow, Row
from shared.bars.rows import InputRow

HOUR = 3_600_000


def bar(n: int, symbol: str = "BTCUSDT", close: float = 11.0, interval: int = HOUR, **other: Any) -> BarClosed:
    content: dict[str, Any] = {"open": 10.0, "high": 12.0, "low": 9.0, "volume": 5.0, "origin": "replay", **other}
    return BarClosed(symbol=symbol, interval_ms=interval, open_time=n * HOUR, close=close, **content)


def good(n: int, symbol: str = "BTCUSDT", close: float = 11.0) -> Good:
    return Good(bar(n, symbol, close), f"{symbol}.csv:{n}")


def fresh() -> State:
    return initial(b"", "source", "bars.csv", 1)


def numbered(*rows: Row | InputRow) -> list[Numbered]:
    return [Numbered(n, row) for n, row in enumerate(rows)]


def events(outputs: tuple[Encoded, ...]) -> list[Any]:
    return [decode(encoded.stream, encoded.data).event for encoded in outputs]


def test_a_good_bar_goes_out_as_a_root_event() -> None:
    handled = handle(fresh(), numbered(good(0)), 1)
    (encoded,) = handled.outputs
    envelope = decode("market", encoded.data)
    assert encoded.stream == "market"
    assert envelope.event == bar(0)
    assert (envelope.causation, envelope.correlation, envelope.flags) == (ROOT, envelope.id, 0)
    assert not framed("market", encoded.data).fault
    assert handled[1:4] == (1, 0, 0)


def test_a_refused_row_becomes_a_dead_letter_with_file_and_line() -> None:
    refused = RefusedRow("not_finite", "high nan", "BTCUSDT.csv:7", "1,nan", "BTCUSDT")
    handled = handle(fresh(), numbered(refused), 1)
    assert events(handled.outputs) == [
        DeadLetter(service="feed", source="BTCUSDT.csv:7", reason="not_finite", detail="high nan", raw="1,nan")
    ]
    assert handled.outputs[0].stream == "dead"
    assert handled[1:4] == (0, 1, 0)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (bar(5), "duplicate"),
        (bar(5, close=11.5), "conflict"),
        (bar(4), "out_of_order"),
        (bar(6, interval=7 * HOUR), "off_grid"),
        (bar(6, low=-1.0), "bad_row"),
    ],
)
def test_a_bar_out_of_its_place_is_set_aside_and_changes_nothing(second: BarClosed, reason: str) -> None:
    state = fresh()
    handled = handle(state, numbered(good(5), Good(second, "BTCUSDT.csv:9"), good(6)), 3)
    first, dead, last = events(handled.outputs)
    assert (first, last) == (bar(5), bar(6))
    assert (dead.service, dead.source, dead.reason) == ("feed", "BTCUSDT.csv:9", reason)
    assert str(second.open_time) in dead.raw
    assert handled[1:4] == (2, 1, 0)


def test_each_symbol_and_interval_has_an_order_of_its_own() -> None:
    rows = numbered(good(5), good(3, "ETHUSDT"), Good(bar(4, interval=2 * HOUR), "BTCUSDT.csv:1"))
    assert handle(fresh(), rows, 3).sent == 3


def test_a_long_text_is_cut_to_what_a_dead_letter_holds() -> None:
    refused = RefusedRow("bad_row", "d" * 3000, "x" * 3000 + ":17", "r" * 3000)
    (letter,) = events(handle(fresh(), numbered(refused), 1).outputs)
    assert (len(letter.detail), len(letter.raw), letter.source[-4:]) == (2000, 2000, "x:17")


def test_the_share_of_traced_bars_is_the_one_asked_for() -> None:
    rows = numbered(*(good(n) for n in range(2000)))

    def flagged(share: float) -> int:
        return sum(encoded.envelope.sampled for encoded in handle(fresh(), rows, 2000, share).outputs)

    assert (flagged(0.0), flagged(1.0)) == (0, 2000)
    assert 20 < flagged(0.05) < 200


def test_tracing_changes_no_id() -> None:
    traced, plain = (handle(fresh(), numbered(good(0)), 1, share).outputs[0] for share in (1.0, 0.0))
    assert traced.envelope.id == plain.envelope.id


def test_rows_that_close_together_are_one_tick() -> None:
    lost = RefusedRow("bad_row", "", "f:1", "")
    rows: list[Row] = [lost, good(0, "A"), lost, good(0, "B"), good(1, "A"), lost, good(2, "A"), good(2, "B")]
    found = [(tick.close, [one.number for one in tick.rows]) for tick in ticks(rows, 10, 100)]
    assert found == [
        (None, [10]),
        (HOUR, [11, 12, 13]),
        (2 * HOUR, [14, 15]),
        (3 * HOUR, [16, 17]),
    ]


def test_a_tick_has_an_end() -> None:
    rows = [RefusedRow("bad_row", "", f"f:{n}", "") for n in range(25)]
    assert [len(tick.rows) for tick in ticks(rows, 0, 10)] == [10, 10, 5]


def test_a_row_goes_to_the_partition_of_its_symbol() -> None:
    symbols = [f"S{n}" for n in range(20)]
    rows = numbered(*(good(0, symbol) for symbol in symbols), RefusedRow("bad_row", "", "a/b.csv:3", ""))
    parts = split(rows, 3)
    assert sorted(row for part in parts for row in part) == sorted(rows)
    for partition, part in enumerate(parts):
        for _, row, _ in part:
            name = row.bar.symbol if isinstance(row, Good) else "a/b.csv"
            assert partition_of(name, 3) == partition


def test_references_come_first_among_those_that_close_together() -> None:
    rows: list[Row] = [good(0, "A"), good(0, "R"), good(0, "Z"), good(1, "A"), good(1, "Q"), good(1, "R")]
    found = [[one.number for one in tick.rows] for tick in ticks(rows, 10, 100, {"R", "Q"})]
    assert found == [[11, 10, 12], [14, 15, 13]]


def test_a_tick_that_is_cut_stays_resumable() -> None:
    rows = [good(0, symbol) for symbol in ("A", "B", "R", "S")]
    assert [[one.number for one in tick.rows] for tick in ticks(rows, 0, 2, {"R", "S"})] == [[0, 1], [2, 3]]


def test_a_reference_is_copied_into_the_other_partitions_and_counted_once() -> None:
    rows = numbered(good(0, "R"), good(0, "A"), RefusedRow("bad_row", "", "f:1", "", "R"), good(0, "R"))
    parts = split(rows, 3, {"R"})
    home = partition_of("R", 3)
    found = [handle(fresh(), part, 4) for part in parts]
    kinds = [[type(one.envelope.event).__name__ for one in each.outputs] for each in found]
    assert [part.count("ReferenceCopied") for part in kinds] == [int(partition != home) for partition in range(3)]
    assert kinds[home].count("DeadLetter") == 2
    assert (sum(each.sent for each in found), sum(each.refused for each in found)) == (2, 2)
    copies = [one.envelope.event for each in found for one in each.outputs if one.stream == "market"]
    plain = [structs.asdict(copy) for copy in copies if copy.symbol == "R"]
    assert plain[0] == plain[1] == plain[2]


rows_of_any_kind = st.lists(
    st.builds(good, st.integers(0, 15), st.sampled_from(["A", "B", "C"]), st.sampled_from([10.5, 11.0]))
    | st.builds(RefusedRow, st.just("bad_row"), st.just(""), st.sampled_from(["f:1", "g:2"]), st.text(max_size=3)),
    max_size=40,
)


@given(rows_of_any_kind, st.lists(st.integers(0, 40), max_size=6), st.integers(1, 3))
def test_a_feed_resumes_from_its_memo_alone(rows: list[Row], cuts: list[int], partitions: int) -> None:
    """The same bytes are written, however the rows are cut into batches, and wherever the feed begins again from its
    memo and from too early a row."""
    whole = initial(b"", "source", "bars.csv", partitions)
    expected = handle(whole, numbered(*rows), len(rows)).outputs
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    memo = b""
    found: list[Encoded] = []
    for start, stop in pairwise(bounds):
        state = initial(memo, "source", "bars.csv", partitions)
        found += handle(state, numbered(*rows)[max(start - 3, 0) : stop], stop).outputs
        memo = snapshot(state)
    assert [encoded.data for encoded in found] == [encoded.data for encoded in expected]


def test_another_source_is_refused_in_the_middle_of_one() -> None:
    state = fresh()
    handle(state, numbered(good(0), good(1)), 2)
    with pytest.raises(OtherSourceError, match=r"2 rows of bars.csv .* more.csv is another source.*restart"):
        initial(snapshot(state), "other", "more.csv", 1)


@pytest.mark.parametrize("way", ["ended", "restart"])
def test_bars_of_a_new_source_that_the_market_has_are_skipped(way: str) -> None:
    state = fresh()
    handle(state, numbered(good(0), good(1), good(1, "ETHUSDT")), 3)
    state.ended = way == "ended"
    grown = initial(snapshot(state), "grown", "bars.csv", 1, restart=way == "restart")
    assert grown.rows == 0
    handled = handle(grown, numbered(good(0), good(1), good(2), good(2), good(0, "SOLUSDT")), 5)
    assert [(found.stream, found.envelope.event) for found in handled.outputs if found.stream == "market"] == [
        ("market", bar(2)),
        ("market", bar(0, "SOLUSDT")),
    ]
    assert handled[1:4] == (2, 1, 2)


def test_what_is_skipped_stays_so_after_a_restart() -> None:
    state = fresh()
    handle(state, numbered(good(5)), 1)
    grown = initial(snapshot(state), "grown", "bars.csv", 1, restart=True)
    handle(grown, numbered(good(3)), 1)
    again = initial(snapshot(grown), "grown", "bars.csv", 1)
    assert handle(again, [Numbered(1, good(4)), Numbered(2, good(5)), Numbered(3, good(6))], 4)[1:4] == (1, 0, 2)


def test_a_source_that_goes_on_has_not_ended() -> None:
    state = fresh()
    handle(state, numbered(good(0)), 1)
    state.ended = True
    longer = initial(snapshot(state), "source", "bars.csv", 1)
    handle(longer, [Numbered(1, good(1))], 2)
    with pytest.raises(OtherSourceError):
        initial(snapshot(longer), "other", "more.csv", 1)


def test_the_count_of_partitions_cannot_change() -> None:
    with pytest.raises(OtherSourceError, match="written 1 partitions so far and is now asked for 2"):
        initial(snapshot(fresh()), "source", "bars.csv", 2)


def test_inputs_are_written_where_they_stand_and_counted_apart() -> None:
    funding = InputRow(FundingPublished(symbol="BTCUSDT", at=HOUR, origin="replay", rate=0.0001), "funding.csv:2")
    handled = handle(fresh(), numbered(funding, good(0), funding, good(1)), 4)
    assert events(handled.outputs) == [funding.event, bar(0), funding.event, bar(1)]
    assert handled[1:] == (2, 0, 0, 2)


def test_an_input_is_sent_to_the_partition_of_its_symbol_before_the_bars_that_read_it() -> None:
    names = ("BTCUSDT", "ETHUSDT", "REF")
    rows: list[Row | InputRow] = []
    for n in range(3):
        rows += [
            InputRow(FundingPublished(symbol=name, at=(n + 1) * HOUR, origin="replay", rate=0.0001), f"f:{n}")
            for name in names
        ]
        rows += [good(n, name) for name in names]
    in_order = [each for tick in ticks(rows, 0, 100, {"REF"}) for each in tick.rows]
    assert sorted(each.number for each in in_order) == list(range(len(rows)))
    for partition, part in enumerate(split(in_order, 2, {"REF"})):
        published: dict[str, int] = {}
        for event in events(handle(initial(b"", "source", "bars.csv", 2), part, len(rows)).outputs):
            if isinstance(event, FundingPublished):
                assert partition_of(event.symbol, 2) == partition
                published[event.symbol] = event.at
            elif isinstance(event, BarClosed):
                assert published[event.symbol] >= event.open_time + HOUR
