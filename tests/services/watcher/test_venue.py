"""Which events of an exchange people are notified of."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.documentation.examples.venue import venue
from schemas.venue import BarsAbsent, ClockMeasured, FeedInterrupted, FeedWaiting
from services.watcher.alerts import ALERTS
from services.watcher.core import observe
from services.watcher.state import State
from services.watcher.text import describe

EVENTS: dict[type, Any] = {type(each.envelope.event): each.envelope.event for each in venue()}


def test_every_notice_has_an_alert() -> None:
    found = [described for event in EVENTS.values() if (described := describe(event))]
    assert len(found) == 4
    assert {alert for alert, _, _ in found} <= ALERTS.keys()


@pytest.mark.parametrize(
    ("routine", "length_ms", "noticed"), [(False, 60_000, True), (False, 59_999, False), (True, 600_000, False)]
)
def test_an_interruption_is_reported_if_it_was_long_and_unplanned(routine: bool, length_ms: int, noticed: bool) -> None:
    event = replace(EVENTS[FeedInterrupted], routine=routine, length_ms=length_ms)
    assert bool(describe(event)) == noticed


def test_an_interval_without_trades_is_no_notice_and_a_clock_is_one_while_no_bar_is_live() -> None:
    assert describe(replace(EVENTS[BarsAbsent], reason="no_trades")) is None
    assert describe(EVENTS[ClockMeasured]) is None
    described = describe(replace(EVENTS[ClockMeasured], usable=False, offset_ms=-9_000))
    assert described is not None
    assert described[0] == "exchange-clock"


@pytest.mark.parametrize("over", [replace(EVENTS[FeedInterrupted], cause="unreachable"), EVENTS[ClockMeasured]])
def test_an_exchange_that_does_not_answer_is_an_alert_while_it_lasts_until_it_answers_or_the_feed_starts_again(
    over: Any,
) -> None:
    state = State()
    (raised,) = observe(state, EVENTS[FeedWaiting], 0, 100_000)
    assert (raised.alert, raised.kind, raised.subject) == ("exchange-waiting", "raised", "binance")
    assert observe(state, EVENTS[FeedWaiting], 0, 160_000) == []
    assert observe(state, replace(EVENTS[FeedInterrupted], cause="disconnected", routine=True), 0, 170_000) == []
    (resolved,) = observe(state, over, 0, 220_000)
    assert (resolved.alert, resolved.kind) == ("exchange-waiting", "resolved")
    assert observe(state, over, 0, 230_000) == []
