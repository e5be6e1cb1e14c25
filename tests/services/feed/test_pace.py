"""When each row is due."""

import pytest

from services.feed.pace import Pace


def moments(speed: float | None, sizes: list[int]) -> list[float]:
    """Return when groups of so many rows are due, if each is sent at that moment."""
    pace = Pace(speed, 1000.0)
    due = []
    for rows in sizes:
        due.append(pace.due())
        pace.sent(rows, due[-1])
    return due


def test_a_rate_counts_rows() -> None:
    assert moments(50.0, [1, 1, 100, 1]) == [1000.0, 1000.02, 1000.04, 1002.04]


def test_without_a_pace_everything_is_due() -> None:
    assert moments(None, [1, 1, 1]) == [1000.0] * 3


def test_a_short_delay_is_caught_up_and_a_long_one_is_dropped_from_the_plan() -> None:
    pace = Pace(10.0, 0.0)
    pace.sent(1, 0.9)
    assert pace.due() == pytest.approx(0.1)
    pace.sent(1, 30.1)
    assert pace.due() == pytest.approx(30.2)
