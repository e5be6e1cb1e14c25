"""Given an exchange that does not answer, when it lasts for a minute, then it is reported before it is over."""

import pytest

from schemas.venue import FeedInterrupted, FeedWaiting, Interruption
from services.feed.live import health
from services.feed.live.state import Live

NAME = "binance"


def waits(live: Live, at: int) -> list[tuple[str, int]]:
    found = [event for _, event in health.lasting(live, NAME, at).events]
    assert all(isinstance(event, FeedWaiting) for event in found)
    return [(event.cause, event.began) for event in found if isinstance(event, FeedWaiting)]


@pytest.mark.parametrize("cause", ["unreachable", "rate_limited"])
def test_given_no_answer_when_a_minute_is_over_then_it_is_reported_once_for_each_interruption(
    cause: Interruption,
) -> None:
    live = Live()
    health.interrupted(live, NAME, cause, 1_000, "503")
    assert waits(live, 60_999) == []
    assert waits(live, 61_000) == [(cause, 1_000)]
    assert waits(live, 500_000) == []
    ((_, over),) = health.restored(live, NAME, cause, 600_000).events
    assert isinstance(over, FeedInterrupted)
    assert over.length_ms == 599_000
    health.interrupted(live, NAME, cause, 700_000, "503")
    assert waits(live, 761_000) == [(cause, 700_000)]


@pytest.mark.parametrize("cause", ["disconnected", "silent"])
def test_given_answers_by_rest_when_only_the_stream_is_gone_then_no_wait_is_reported(cause: Interruption) -> None:
    live = Live()
    health.interrupted(live, NAME, cause, 0, "1006")
    assert waits(live, 600_000) == []
