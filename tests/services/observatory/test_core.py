"""What is shown follows from the streams alone, in bounded memory."""

from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.operations import StorageFailed, StorageRecovered
from schemas.venue import BarsAbsent
from services.feed.core import Memo
from services.observatory import core
from services.observatory.core import State
from services.observatory.screens import now, symbol
from services.observatory.screens.now import Around
from services.observatory.series import KEPT, KEPT_BYTES, Ring, bars_of, decisions_of
from shared.control.state import State as Control
from shared.log import GroupView, StreamKey
from tests.services.observatory.events import BEGIN, DAY, MINUTE, bar, decision, fill, given

NAME = "BTCUSDT.60000"


def shown(state: State, at: int = BEGIN + 2 * MINUTE, control: Control | None = None) -> now.Now:
    return now.screen(state, control or Control(), Around(now=at))


@pytest.mark.parametrize(("ended", "down"), [(True, 0), (False, 1)])
def test_a_feed_that_does_not_run_is_finished_only_if_all_of_its_source_is_sent(ended: bool, down: int) -> None:
    memo = msgspec.msgpack.encode(Memo("1f", "bars.csv", 1, 500, ended, ()))
    feed = GroupView("feed", 0, 1, "nobody", False, {}, {}, memo=memo)
    screen = now.screen(State(), Control(), Around(now=BEGIN, views=[feed]))
    assert [group.finished for group in screen.groups] == [ended]
    assert screen.status.groups_down == down


def test_a_decision_is_shown_with_every_ballot_and_who_is_absent() -> None:
    state = given(given(State(), "market", bar(0)), "decisions", decision(0), begin=BEGIN + MINUTE + 40)
    (series,) = shown(state).series
    assert series.decision is not None
    assert [(m.model, m.shadow, m.action, m.buy) for m in series.decision.members] == [
        ("a", False, "BUY", 0.6),
        ("a", True, "SELL", 0.2),
    ]
    assert [(m.model, m.reason) for m in series.decision.absent] == [("b", "not_loaded: no such file")]
    assert (series.condition, series.decision.latency_ms, series.decision.consensus) == ("issued", 40, 1)


def test_a_decision_of_another_bar_has_no_latency() -> None:
    state = given(given(State(), "market", bar(0), bar(1)), "decisions", decision(0))
    (series,) = shown(state).series
    assert series.decision is not None
    assert series.decision.latency_ms is None


@pytest.mark.parametrize(
    ("fields", "at", "control", "condition"),
    [
        ({"status": "no_quorum", "action": "HOLD", "intent": "no_quorum"}, 2, Control(), "no_quorum"),
        ({"action": "HOLD", "intent": "hold"}, 2, Control(), "hold"),
        ({"intent": "stale"}, 2, Control(), "stale"),
        ({}, 2, Control(halted=True), "halted"),
        ({"intent": "halted"}, 2, Control(), "halted"),
        ({}, 4, Control(), "issued"),
        ({}, 6, Control(), "overdue"),
        ({"origin": "replay"}, 6, Control(), "issued"),
    ],
)
def test_the_condition_of_a_series(fields: dict[str, Any], at: int, control: Control, condition: str) -> None:
    state = given(State(), "decisions", decision(0, **fields))
    (series,) = shown(state, BEGIN + at * MINUTE, control).series
    assert series.condition == condition


def test_what_needs_attention_comes_first_and_pages_cover_all() -> None:
    state = State()
    for number in range(now.PAGE + 2):
        given(state, "decisions", decision(0, symbol=f"S{number:03d}"))
    given(state, "decisions", decision(0, "HOLD", symbol="ZZZ", status="no_quorum", intent="no_quorum"))
    first, second = (now.screen(state, Control(), Around(now=BEGIN), page=page) for page in (1, 2))
    assert first.series[0].symbol == "ZZZ"
    assert (first.pages, len(first.series), len(second.series)) == (2, now.PAGE, 3)
    assert len({series.name for series in (*first.series, *second.series)}) == first.count == now.PAGE + 3
    assert now.screen(state, Control(), Around(now=BEGIN), page=99).page == 2
    assert [s.symbol for s in now.screen(state, Control(), Around(now=BEGIN), search="zz").series] == ["ZZZ"]


def test_a_bar_that_was_written_twice_or_out_of_order_counts_once() -> None:
    state = given(State(), "market", bar(0, 1.5), bar(1, 2.5), bar(1, 9.5), bar(0, 9.5))
    assert [point.close for point in bars_of(state.series[NAME])] == [1.5, 2.5]


def test_missing_bars_are_holes_with_the_reason_of_the_exchange() -> None:
    state = given(State(), "market", bar(0), bar(3), bar(6))
    absent = BarsAbsent(
        exchange="binance",
        symbol="BTCUSDT",
        interval_ms=MINUTE,
        first=BEGIN + MINUTE,
        count=2,
        reason="not_published",
        policy="none",
        detail="",
        at=BEGIN,
    )
    given(state, "venue", absent)
    screen = symbol.screen(state, Control(), Around(now=BEGIN), NAME)
    assert screen is not None
    assert [(hole.first - BEGIN, hole.count, hole.reason) for hole in screen.holes] == [
        (MINUTE, 2, "not published"),
        (4 * MINUTE, 2, "missing"),
    ]


def test_the_gain_of_the_day_counts_from_the_last_close_before_it() -> None:
    state = given(State(), "market", bar(0, 100.0), bar(0, 110.0, begin=BEGIN + DAY), bar(1, 112.0, begin=BEGIN + DAY))
    given(state, "orders", fill(0, "BUY", 10.0, 100.0, 10.0), fill(1, "SELL", 4.0, 111.0, 6.0, day=1))
    money = shown(state, control=Control()).money
    assert money.equity == pytest.approx(100_000 - 1000 - 1 + 444 - 1 + 6 * 112)
    assert money.day_gain == pytest.approx((444 - 1 + 6 * 112) - 10 * 100.0)
    assert (money.positions, money.fills, money.gross, money.day) == (1, 2, 6 * 112.0, BEGIN + DAY)


def test_an_alert_stands_until_it_is_resolved_and_both_are_noted() -> None:
    state = given(State(), "alarms", StorageFailed(group="voter", host="vm", file="x.bin", detail="full", at=BEGIN))
    assert [alert.alert for alert in shown(state).status.alerts] == ["storage-failed"]
    given(state, "alarms", StorageRecovered(group="voter", host="vm", file="x.bin", at=BEGIN), begin=BEGIN + 5 * MINUTE)
    assert shown(state).status.alerts == ()
    assert [(notice.alert, notice.kind) for notice in shown(state).notices] == [
        ("storage-failed", "resolved"),
        ("storage-failed", "raised"),
    ]


def test_decisions_are_counted_for_the_version_that_made_them() -> None:
    state = given(State(), "decisions", decision(0), decision(1, "HOLD"), decision(2, control_version=4))
    assert {number: version.count for number, version in state.versions.items()} == {3: 2, 4: 1}
    assert state.versions[3].actions == {"BUY": 1, "HOLD": 1}


def test_memory_is_bounded_however_many_events_come() -> None:
    state = given(State(), "market", *(bar(number) for number in range(KEPT + 50)))
    given(state, "decisions", *(decision(number) for number in range(KEPT + 50)))
    series = state.series[NAME]
    assert len(bars_of(series)) == len(decisions_of(series)) == KEPT
    assert bars_of(series)[-1].open_time == decisions_of(series)[-1].open_time == BEGIN + (KEPT + 49) * MINUTE
    size = len(core.snapshot(state))
    given(state, "market", *(bar(number) for number in range(KEPT + 50, 2 * KEPT)))
    given(state, "decisions", *(decision(number) for number in range(KEPT + 50, 2 * KEPT)))
    assert len(core.snapshot(state)) < 1.02 * size


def test_a_ring_of_large_points_is_bounded_in_bytes() -> None:
    ring = Ring()
    for _ in range(40):
        ring.push(bytes(KEPT_BYTES // 10))
    assert ring.size == sum(map(len, ring.items)) <= KEPT_BYTES
    ring.push(bytes(2 * KEPT_BYTES))
    assert len(ring.items) == 1


EVENTS = [
    *(("market", bar(number, 100.0 + number)) for number in range(4)),
    *(("decisions", decision(number)) for number in range(4)),
    *(("orders", fill(number, "BUY", 1.0, 100.0, number + 1.0)) for number in range(4)),
]


@drawn(st.permutations(["market"] * 4 + ["decisions"] * 4 + ["orders"] * 4), st.integers(0, 12))
def test_the_order_in_which_streams_are_read_and_a_restart_change_nothing(order: list[str], restart: int) -> None:
    """Only the order within a stream counts: after a crash the streams are read side by side in another way."""
    left = {
        stream: [(n, e) for n, (s, e) in enumerate(EVENTS) if s == stream]
        for stream in ("market", "decisions", "orders")
    }
    state = State()
    for read, stream in enumerate(order):
        if read == restart:
            state = core.initial(core.snapshot(state))
        number, event = left[stream].pop(0)
        core.apply(state, StreamKey(stream), f"{BEGIN + number}-0", encode(stream, event).envelope)
    straight = State()
    for number, (stream, event) in enumerate(EVENTS):
        core.apply(straight, StreamKey(stream), f"{BEGIN + number}-0", encode(stream, event).envelope)
    assert shown(state) == shown(straight)
    screens = [symbol.screen(each, Control(), Around(now=BEGIN), NAME) for each in (state, straight)]
    assert screens[0] == screens[1]


def test_a_snapshot_that_is_cut_is_refused() -> None:
    data = core.snapshot(given(State(), "market", bar(0)))
    with pytest.raises(msgspec.DecodeError):
        core.initial(data[:-3])
