"""What became of each intent is recomputed to the byte; a change, an omission and an addition is found at its place."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

import shared.audit.orders
from bench.recorded_rounds import Recorded
from schemas.codec import Encoded, decode, encode
from schemas.control import SetExecutionPolicy
from schemas.decisions import FenceClosed, FenceOpened, IntentIssued
from schemas.market import BarClosed
from schemas.orders import IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from services.console.audit.verify import audited
from services.executor.core import MARGIN_MS
from shared.audit.findings import Difference, Findings
from shared.audit.source import EntryRange
from shared.audit.trades import OTHERS
from shared.log import Entry, StreamKey
from shared.runtime.service import Received
from tests.services.executor.world import FIRST, FREE, MINUTE, Run, bar_of, commands, decided, story

ORDERS, TRADES, INTENTS = StreamKey("orders"), StreamKey("trades"), StreamKey("intents")
CAPPED = SetExecutionPolicy(total_cap=15_000.0, symbol_cap=20_000.0, volume_share=0.05, cooldown_bars=1)
MOVES = [
    (100.0, 101.0, "BUY"), (101.0, 102.0, "HOLD"), (102.0, 99.0, "SELL"), (99.0, 98.0, "SELL"), (98.0, 97.0, "BUY"),
    (97.0, 99.0, "BUY"), (99.0, 99.0, "HOLD"), (99.0, 99.0, "HOLD"),
]  # fmt: skip
LIVE: dict[str, Any] = {"origin": "live"}


class Story:
    """A record that an executor made: ``told`` are the events before it, each is handled and written on its own."""

    def __init__(self, told: Sequence[Encoded], *policies: SetExecutionPolicy, **more: Any) -> None:
        self.source = Recorded()
        control = commands(*policies)
        for number, envelope in enumerate(control, 1):
            data = encode("control", envelope.event).data
            self.source.places.setdefault(StreamKey("control"), []).append(
                Entry(StreamKey("control"), f"{number}-0", data)
            )
        self.run = Run(control)
        self.source._clock = FIRST
        self.more = more
        self.tell(told)

    def tell(self, told: Sequence[Encoded], **more: Any) -> None:
        for each in told:
            event = each.envelope.event
            if isinstance(event, BarClosed):
                self.source._clock = max(self.source._clock, event.open_time + event.interval_ms)
            entry = self.source.write(each.stream, each.data)
            received = [Received(each.stream, entry.id, each.envelope)]
            for written in self.run.take(received, now=self.source._clock, **{**self.more, **more}):
                self.source.write(written.stream, written.data)

    def fence(self, event: FenceClosed | FenceOpened) -> None:
        self.source._clock += 10 * MINUTE
        self.source.write("decisions", encode("decisions", event).data)
        self.source._clock += 10 * MINUTE

    def audit(self) -> Findings:
        return audited(self.source, Path("nowhere"), ("orders",))

    def places(self, kind: type) -> list[int]:
        return [at for at, entry in enumerate(self.source.places[ORDERS]) if isinstance(event_of(entry), kind)]

    def replace(self, place: StreamKey, at: int, /, **changes: Any) -> Entry:
        """Change an event, as somebody may who can write what the executor writes: under an id that fits."""
        entries = self.source.places[place]
        envelope = decode(place.stream, entries[at].data)
        changed = encode(
            place.stream,
            structs.replace(envelope.event, **changes),
            causation=envelope.causation,
            correlation=envelope.correlation,
            flags=envelope.flags,
        )
        entries[at] = Entry(place, entries[at].id, changed.data)
        return entries[at]


def event_of(entry: Entry) -> Any:
    return decode(entry.place.stream, entry.data).event


def traded(*policies: SetExecutionPolicy, **about: Any) -> Story:
    told = [each for pair in (story("BTC", MOVES, **about), story("ETH", MOVES[2:], **about)) for each in pair]
    return Story(sorted(told, key=lambda each: each.envelope.event.open_time), *(policies or (FREE,)))


def first(findings: Findings) -> Difference:
    assert findings.first is not None
    return findings.first


ACTION = st.sampled_from(["BUY", "SELL", "HOLD", ""])
MANY = st.lists(st.tuples(st.floats(50.0, 200.0), st.floats(50.0, 200.0), ACTION), min_size=2, max_size=12)
POLICY = st.builds(
    SetExecutionPolicy,
    total_cap=st.sampled_from([10_000.0, 25_000.0]),
    symbol_cap=st.sampled_from([10_000.0, 30_000.0]),
    volume_share=st.sampled_from([0.0, 0.05]),
    cooldown_bars=st.sampled_from([0, 2]),
    latency_ms=st.sampled_from([0, 90_000]),
    venue=st.sampled_from(["paper", "paper", "none"]),
)


@settings(deadline=None, max_examples=60)
@given(MANY, MANY, POLICY, st.sampled_from(["live", "replay"]))
def test_an_honest_record_is_recomputed_to_the_byte(
    btc: list[Any], eth: list[Any], policy: SetExecutionPolicy, origin: str
) -> None:
    told = [each for pair in (story("BTC", btc, origin=origin), story("ETH", eth, origin=origin)) for each in pair]
    record = Story(sorted(told, key=lambda each: each.envelope.event.open_time), policy)
    findings = record.audit()
    written = len(record.source.places.get(ORDERS, ())), len(record.source.places.get(TRADES, ()))
    assert (findings.count, findings.unchecked) == (0, {})
    assert (findings.equal.get("orders", 0), findings.equal.get("trades", 0)) == written


def test_every_kind_of_event_is_in_a_record_that_is_the_same() -> None:
    record = traded(CAPPED)
    kinds = {type(event_of(entry)) for entry in record.source.places[ORDERS]}
    assert kinds == {OrderPlaced, IntentRefused, OrderFilled, OrderEnded}
    assert record.source.places[TRADES]
    assert record.audit().code == 0


CHANGES: list[tuple[type, dict[str, Any]]] = [
    (OrderFilled, {"price": 90.0}),
    (OrderFilled, {"fee": 0.5}),
    (OrderFilled, {"position": 7.0}),
    (OrderFilled, {"open_time": FIRST + 7 * MINUTE}),
    (OrderPlaced, {"quantity": 1.0}),
    (OrderPlaced, {"valid_until": 2**50}),
    (IntentRefused, {"reason": "cooldown"}),
    (IntentRefused, {"reason": "no_bar"}),
    (OrderEnded, {"unfilled": 1.0}),
]


@pytest.mark.parametrize(("kind", "changes"), CHANGES, ids=lambda each: each.__name__ if isinstance(each, type) else "")
def test_a_forged_event_is_found_at_its_place(kind: type, changes: dict[str, Any]) -> None:
    record = traded(CAPPED)
    entry = record.replace(ORDERS, record.places(kind)[0], **changes)
    found = first(record.audit())
    assert (found.layer, found.stream, found.entry) == ("order", "orders", entry.id)
    assert next(iter(changes)) in found.detail


@pytest.mark.parametrize("kind", [OrderPlaced, IntentRefused, OrderFilled, OrderEnded])
def test_an_event_that_is_missing_is_found_with_what_it_should_have_followed(kind: type) -> None:
    record = traded(CAPPED)
    gone = record.places(kind)[0]
    removed = event_of(record.source.places[ORDERS].pop(gone))
    findings = record.audit()
    found = first(findings)
    assert (found.layer, found.missing, found.symbol) == ("order", True, removed.symbol)
    cause = record.source.places[StreamKey(found.stream)]
    about = next(event_of(entry) for entry in cause if entry.id == found.entry)
    if isinstance(removed, OrderPlaced | IntentRefused):
        assert isinstance(about, IntentIssued)
        assert about.open_time == removed.open_time
    else:
        assert (type(about), about.order) == (OrderPlaced, removed.order)
    assert findings.count == 1, "what follows from it is as it was"


def test_the_last_fill_is_missing_only_if_the_executor_had_read_its_bar() -> None:
    record = Story(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")]), FREE)
    removed = record.source.places[ORDERS].pop()
    assert isinstance(event_of(removed), OrderFilled)
    assert record.audit().code == 0, "it may be on its way"
    told = [*story("ETH", [(50.0, 50.0, "BUY")], first=2), *story("ETH", [(50.0, 50.0, "HOLD")], first=3)]
    record.tell(told)
    assert first(record.audit()).detail == "its OrderFilled is missing"


def test_a_doubled_event_and_one_that_nothing_causes_are_found() -> None:
    for kind in (OrderPlaced, IntentRefused, OrderFilled, OrderEnded):
        record = traded(CAPPED)
        orders = record.source.places[ORDERS]
        at = record.places(kind)[0]
        again = Entry(ORDERS, orders[at].id.replace("-0", "-1"), orders[at].data)
        orders.insert(at + 1, again)
        found = record.audit()
        assert (first(found).entry, found.count) == (again.id, 1), kind


@pytest.mark.parametrize("how", ["changed", "missing", "doubled"])
def test_a_closed_trade_follows_from_its_fill(how: str) -> None:
    record = traded()
    trades = record.source.places[TRADES]
    match how:
        case "changed":
            expected = record.replace(TRADES, 0, exit_price=1.0).id
        case "missing":
            trade = decode("trades", trades.pop(0).data)
            fills = {decode("orders", each.data).id: each.id for each in record.source.places[ORDERS]}
            expected = fills[trade.causation]
        case _:
            trades.insert(1, Entry(TRADES, trades[0].id.replace("-0", "-1"), trades[0].data))
            expected = trades[1].id
    assert first(record.audit()).entry == expected


@pytest.mark.parametrize("kind", [OrderPlaced, IntentRefused, OrderFilled, OrderEnded])
def test_events_that_are_missing_with_the_first_trade_are_differences_at_places_that_exist(kind: type) -> None:
    made = traded(FREE if kind is not OrderEnded else CAPPED)
    for at in range(len(made.places(kind))):
        told = traded(FREE if kind is not OrderEnded else CAPPED)
        del told.source.places[ORDERS][told.places(kind)[at]]
        del told.source.places[TRADES][0]
        findings = told.audit()
        assert findings.differences
        assert first(findings).entry


def test_a_trade_of_a_decision_that_was_never_traded_may_be_of_another_program() -> None:
    record = traded(SetExecutionPolicy(venue="none"))
    honest = traded()
    for entry in honest.source.places[TRADES]:
        record.source.places.setdefault(TRADES, []).append(entry)
    findings = record.audit()
    assert (findings.code, findings.notes) == (0, {OTHERS: len(honest.source.places[TRADES])})


def test_orders_and_refusals_of_live_bars_have_the_time_of_their_entry() -> None:
    def changed(kind: type, name: str, change: Callable[[int], int | None]) -> Findings:
        record = traded(CAPPED, **LIVE)
        at = record.places(kind)[0]
        record.replace(ORDERS, at, **{name: change(getattr(event_of(record.source.places[ORDERS][at]), name))})
        return record.audit()

    for kind, name in ((OrderPlaced, "placed_at"), (IntentRefused, "at")):
        assert changed(kind, name, lambda at: at).code == 0
        assert "no time" in first(changed(kind, name, lambda _: None)).detail
        assert "later than that of its entry" in first(changed(kind, name, lambda at: at + 5 * MINUTE)).detail
        assert changed(kind, name, lambda at: at - 5 * MINUTE).code in {1, 3}


def test_an_intent_that_expired_is_recomputed_with_its_recorded_time() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")], valid_ms=1, **LIVE)
    record = Story([each for each in told if each.stream != "intents"], FREE)
    record.source._clock += 5 * MINUTE
    record.tell([each for each in told if each.stream == "intents"])
    (refused,) = record.places(IntentRefused)
    assert event_of(record.source.places[ORDERS][refused]).reason == "expired"
    assert record.audit().code == 0


HALTED = FenceClosed("c9", "ada", "a test", FIRST)


def test_an_intent_may_be_refused_for_a_halt_only_while_the_fence_is_closed() -> None:
    for closed in (True, False):
        record = Story(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")]), FREE)
        record.fence(FenceOpened("c8", "ada", "a test", FIRST))
        if closed:
            record.fence(HALTED)
        record.tell(story("BTC", [(100.0, 100.0, "SELL")], first=2), halted=True)
        findings = record.audit()
        assert findings.code == (0 if closed else 1)
        assert closed or "the fence was open" in first(findings).detail


def test_an_order_while_the_fence_is_closed_is_found() -> None:
    record = Story(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")]), FREE)
    record.fence(HALTED)
    record.tell(story("BTC", [(100.0, 100.0, "SELL")], first=2))
    assert first(record.audit()).detail == "it was placed though the fence was closed"


def test_positions_that_a_halt_closes_are_recomputed() -> None:
    def closed(flat: bool = True) -> Story:
        policy = structs.replace(FREE, flat_on_halt=flat)
        record = Story(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")]), policy)
        record.fence(HALTED)
        record.tell(story("BTC", [(110.0, 110.0, ""), (110.0, 110.0, "")], first=2), halted=True)
        return record

    record = closed()
    assert record.audit().code == 0
    (at,) = [at for at in record.places(OrderPlaced) if event_of(record.source.places[ORDERS][at]).cause == "halt"]
    assert isinstance(event_of(record.source.places[ORDERS][-1]), OrderFilled)
    entry = record.replace(ORDERS, at, quantity=1.0)
    assert first(record.audit()).entry == entry.id
    forged = closed(flat=False)
    closing = record.source.places[ORDERS][at]
    forged.source.append("orders", closed().source.places[ORDERS][at].data, int(closing.id.split("-")[0]))
    assert "closes nothing on a halt" in first(forged.audit()).detail


def test_what_an_exchange_did_is_not_recomputed_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    record = traded()
    monkeypatch.setattr(shared.audit.orders, "VENUES", {})
    findings = record.audit()
    (reason,) = findings.unchecked
    assert (findings.code, reason) == (3, "orders: at the venue paper, which alone knows what was traded")
    assert findings.unchecked[reason] == len(record.source.places[ORDERS])
    trade = record.replace(TRADES, 0, exit_price=1.0)
    assert first(record.audit()).entry == trade.id, "trades follow from the fills as they were recorded"


def test_an_intent_without_its_bar_is_refused_in_the_record_and_when_recomputed() -> None:
    bar = bar_of("BTC", 0, 100.0)
    record = Story([bar, *decided(bar_of("BTC", 1, 100.0), "BUY")], FREE)
    record.source._clock += 2 * MARGIN_MS
    record.tell([bar_of("ETH", 3, 100.0)])
    assert [event_of(entry).reason for entry in record.source.places[ORDERS]] == ["no_bar"]
    assert record.audit().code == 0


def test_only_what_lies_within_the_range_is_compared() -> None:
    record = traded(CAPPED)
    changed = record.replace(ORDERS, record.places(OrderFilled)[0], price=90.0)
    later = audited(record.source, Path("nowhere"), ("orders",), EntryRange(changed.id))
    assert later.code == 0
    assert 0 < later.equal["orders"] < len(record.source.places[ORDERS])
