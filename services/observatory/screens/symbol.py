"""The screen Symbol: what happened on this series? Pure."""

from itertools import pairwise

from msgspec import Struct

from services.observatory.core import State
from services.observatory.screens.now import Around, LastDecision, SeriesNow, day_of, last_decision, series_now
from services.observatory.series import bars_of, decisions_of, orders_of
from shared.control import State as Control
from shared.log.leases import id_order


class Candle(Struct, frozen=True):
    """One bar."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class OrderMark(Struct, frozen=True):
    """An order, a fill, a refusal or an end, at the bar by which it happened."""

    kind: str
    open_time: int
    at: int
    decision: str
    side: str
    quantity: float
    price: float
    position: float
    detail: str


class Hole(Struct, frozen=True):
    """Bars that are not on the log: from ``first``, ``count`` of them. ``reason``: what the exchange says, or that they
    are missing."""

    first: int
    count: int
    reason: str


class SymbolScreen(Struct, frozen=True):
    """The whole screen: what is kept of one series, oldest first."""

    series: SeriesNow
    bars: tuple[Candle, ...]
    decisions: tuple[LastDecision, ...]
    orders: tuple[OrderMark, ...]
    holes: tuple[Hole, ...]
    members: tuple[str, ...]


def screen(state: State, control: Control, around: Around, name: str, *, after: int = -1) -> SymbolScreen | None:
    """Return the screen of a series; None if there is no such series. ``after``: only bars, decisions and orders of
    bars that opened later (ms)."""
    series = state.series.get(name)
    if series is None:
        return None
    bars = bars_of(series)
    decisions = [decision for decision in decisions_of(series) if decision.open_time > after]
    members = {
        f"{member.model}{f' {member.artifact}' if member.shadow else ''}"
        for decision in decisions
        for member in decision.members
    }
    return SymbolScreen(
        series=series_now(series, control, around.now, day_of(state)),
        bars=tuple(
            Candle(bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume)
            for bar in bars
            if bar.open_time > after
        ),
        decisions=tuple(last_decision(series, decision) for decision in decisions),
        orders=tuple(
            OrderMark(
                kind=each.kind,
                open_time=each.open_time,
                at=id_order(each.entry)[0],
                decision=each.decision,
                side=each.side,
                quantity=each.quantity,
                price=each.price,
                position=each.position,
                detail=each.detail,
            )
            for each in orders_of(series)
            if each.open_time > after
        ),
        holes=holes_of(
            [bar.open_time for bar in bars], series.interval_ms, [(h.first, h.count, h.reason) for h in series.holes]
        ),
        members=tuple(sorted(members)),
    )


def holes_of(opened: list[int], interval_ms: int, known: list[tuple[int, int, str]]) -> tuple[Hole, ...]:
    """Return where bars are missing among those that are kept, with the reason of the exchange if it gave one."""
    reasons = {first: (count, reason) for first, count, reason in known}
    holes = []
    for before, after in pairwise(opened):
        missing = (after - before) // interval_ms - 1
        if missing > 0:
            first = before + interval_ms
            count, reason = reasons.pop(first, (missing, "missing"))
            holes.append(Hole(first, max(count, missing), reason.replace("_", " ")))
    return tuple(holes)
