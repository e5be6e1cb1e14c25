"""Which bars are refused: impossible ones, and those that do not come after the last of their symbol."""

from typing import NamedTuple

from schemas.market import BarClosed
from schemas.operations import Refusal


class RefusedBar(NamedTuple):
    """A bar that was not taken in. It changed nothing."""

    reason: Refusal
    detail: str


def impossible(bar: BarClosed) -> RefusedBar | None:
    """Whether a bar cannot be one, whatever came before it."""
    if bar.open_time % bar.interval_ms:
        return RefusedBar("off_grid", f"open_time {bar.open_time} is not a multiple of {bar.interval_ms} ms")
    if not (bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high):
        prices = f"open {bar.open}, high {bar.high}, low {bar.low}, close {bar.close}"
        return RefusedBar("impossible_prices", f"expected low <= open, close <= high, got {prices}")
    return None


def out_of_order(last: BarClosed, bar: BarClosed) -> RefusedBar:
    """Why a bar that does not come after the last one is refused."""
    if bar.open_time < last.open_time:
        return RefusedBar("out_of_order", f"the bar at {last.open_time} was taken before the one at {bar.open_time}")
    if _content(bar) == _content(last):
        return RefusedBar("duplicate", f"the bar at {bar.open_time} was taken before, with the same content")
    return RefusedBar(
        "conflict", f"the bar at {bar.open_time} was taken before as {_content(last)}, now {_content(bar)}"
    )


def _content(bar: BarClosed) -> tuple[float, float, float, float, float]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume
