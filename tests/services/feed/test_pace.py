import pytest

from schemas.market import BarClosed
from services.feed.core import Numbered, Tick
from services.feed.pace import MarketTime, Pace, Speed, parse_speed
from shared.bars import Good

MINUTE = 60_000


def tick(close: int | None, rows: int = 1) -> Tick:
    bar = Good(BarClosed("BTCUSDT", MINUTE, 0, 1.0, 1.0, 1.0, 1.0, 1.0, "replay"), "")
    return Tick(close, tuple(Numbered(n, bar) for n in range(rows)))


def moments(speed: Speed, ticks: list[Tick]) -> list[float]:
    """When each tick is due, where each goes out the moment it is."""
    pace = Pace(speed, 1000.0)
    found = []
    for each in ticks:
        found.append(pace.due(each))
        pace.sent(each, found[-1])
    return found


def test_a_rate_counts_rows() -> None:
    assert moments(50.0, [tick(1), tick(2), tick(3, 100), tick(4)]) == [1000.0, 1000.02, 1000.04, 1002.04]


def test_market_time_counts_closes() -> None:
    ticks = [tick(None), tick(MINUTE), tick(3 * MINUTE), tick(63 * MINUTE)]
    assert moments(MarketTime(60.0), ticks) == [1000.0, 1000.0, 1002.0, 1062.0]


def test_without_a_pace_everything_is_due() -> None:
    assert moments(None, [tick(1), tick(2), tick(3)]) == [1000.0] * 3


def test_time_lost_is_caught_up_where_it_was_little_and_given_up_where_it_was_much() -> None:
    pace = Pace(10.0, 0.0)
    pace.sent(tick(1), 0.9)
    assert pace.due(tick(2)) == pytest.approx(0.1)
    pace.sent(tick(2), 30.1)
    assert pace.due(tick(3)) == pytest.approx(30.2)


@pytest.mark.parametrize(
    ("text", "speed"), [("max", None), ("0", None), ("50", 50.0), ("2.5", 2.5), ("60x", MarketTime(60.0))]
)
def test_a_speed_is_read_as_people_write_it(text: str, speed: Speed) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "fast", "-1", "x", "nan", "inf", "1e9"])
def test_what_is_no_speed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected bars a second"):
        parse_speed(text)
