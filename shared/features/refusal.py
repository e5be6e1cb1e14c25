"""Refuse impossible bars, and bars that are not later than the last bar of their symbol."""

from typing import NamedTuple

from schemas.market import BarClosed
from schemas.operations import Refusal


class RefusedBar(NamedTuple):
    """A refused bar. It changed nothing."""

    reason: Refusal
    detail: str


def impossible(bar: BarClosed) -> RefusedBar | None:
    """Return why a bar is impossible by itself; None if it is possible."""
    if bar.open_time % bar.interval_ms:
        return RefusedBar("off_grid", f"open_time {bar.open_time} is not a multiple of {bar.interval_ms} ms")
    if not (bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high):
        prices = f"open {bar.open}, high {bar.high}, low {bar.low}, close {bar.close}"
        return RefusedBar("impossible_prices", f"expected low <= open, close <= high, got {prices}")
    return None


def out_of_order(last: BarClosed, bar: BarClosed) -> RefusedBar:
    """Return why a bar that is not later than the last bar is refused."""
    if bar.open_time < last.open_time:
        return RefusedBar("out_of_order", f"the bar at {last.open_time} was accepted before the bar at {bar.open_time}")
    if _content(bar) == _content(last):
        return RefusedBar("duplicate", f"the bar at {bar.open_time} was accepted before, with the same content")
    return RefusedBar(
        "conflict", f"the bar at {bar.open_time} was accepted before as {_content(last)}, now {_content(bar)}"
    )


def _content(bar: BarClosed) -> tuple[float, float, float, float, float]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume
