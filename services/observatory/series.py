"""What is kept of one series of bars: the last bars, decisions and orders, and the money of its fills. Pure.

Each stream changes fields of its own. So the result does not depend on the order in which streams are read.
"""

from typing import Final

import msgspec
from msgspec import Struct, field, structs

from schemas.common import Action, Origin
from schemas.decisions import DecisionMade, IntentStatus
from schemas.market import BarClosed
from schemas.orders import IntentRefused, OrderEnded, OrderEvent, OrderFilled, OrderPlaced
from schemas.venue import BarsAbsent, HoleReason
from shared.money.equity import SeriesMoney

DAY_MS: Final = 86_400_000
KEPT: Final = 300
"""The most points of one kind in a series."""
KEPT_BYTES: Final = 256 * 1024
"""The most bytes of one kind in a series: a decision with forty ballots takes 1.5 KiB."""
HOLES: Final = 50
PARTS: Final = 10_000
"""Probabilities and weights are kept in ten-thousandths."""
SHORT: Final = 12
REASON: Final = 160


class Ring(Struct, array_like=True):
    """The newest points of one kind, encoded, oldest first. ``size``: their bytes."""

    items: list[bytes] = field(default_factory=list)
    size: int = 0

    def push(self, item: bytes) -> None:
        """Add a point, and drop the oldest ones above ``KEPT`` and ``KEPT_BYTES``."""
        self.items.append(item)
        self.size += len(item)
        while len(self.items) > KEPT or (self.size > KEPT_BYTES and len(self.items) > 1):
            self.size -= len(self.items.pop(0))

    def copy(self) -> "Ring":
        """Return a ring with the same points."""
        return Ring(list(self.items), self.size)


class BarPoint(Struct, array_like=True, frozen=True):
    """A closed bar, and its entry on ``market``."""

    entry: str
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class MemberPoint(Struct, array_like=True, frozen=True):
    """One ballot of a decision. ``action``: that of the ballot under the action policy, which need not be the most
    probable class. ``sell``, ``buy``, ``weight`` and ``effect`` are in ten-thousandths. ``artifact`` are
    its first twelve digits. A shadow has neither weight nor effect."""

    model: str
    artifact: str
    shadow: bool
    action: Action
    sell: int
    buy: int
    weight: int = 0
    effect: int = 0

    @property
    def hold(self) -> int:
        """The probability of HOLD, in ten-thousandths."""
        return PARTS - self.sell - self.buy


class AbsentPoint(Struct, array_like=True, frozen=True):
    """A member that did not vote, and why."""

    model: str
    reason: str


class DecisionPoint(Struct, array_like=True, frozen=True):
    """A decision, its event id and its entry on ``decisions``."""

    id: str
    entry: str
    open_time: int
    origin: Origin
    version: int
    status: str
    intent: IntentStatus
    action: Action
    confidence: float
    sell: int
    buy: int
    consensus: int
    total: int
    closed_by: str
    members: tuple[MemberPoint, ...]
    absent: tuple[AbsentPoint, ...]

    @property
    def hold(self) -> int:
        """The probability of HOLD, in ten-thousandths."""
        return PARTS - self.sell - self.buy


class OrderPoint(Struct, array_like=True, frozen=True):
    """What became of an intent: ``kind`` is placed, filled, refused or ended. ``detail``: the reason, in words.
    ``position``: what is held after a fill."""

    entry: str
    kind: str
    open_time: int
    decision: str
    side: str = ""
    quantity: float = 0.0
    price: float = 0.0
    position: float = 0.0
    fee: float = 0.0
    detail: str = ""


class HolePoint(Struct, array_like=True, frozen=True):
    """Bars that the exchange does not have: the first, how many, and why."""

    first: int
    count: int
    reason: HoleReason


class DailyMoney(SeriesMoney, array_like=True):
    """The money of a series, its fees and fills. ``day`` is the UTC day of the last fill; the fields that begin with it
    are as of before its first fill."""

    fees: float = 0.0
    fills: int = 0
    day: int = 0
    day_cash: float = 0.0
    day_held: float = 0.0

    def fill(self, fill: OrderFilled) -> None:
        """Apply a fill."""
        day = fill.filled_at // DAY_MS
        if day > self.day:
            self.day, self.day_cash, self.day_held = day, self.cash, self.held
        super().fill(fill)
        self.fees += fill.fee
        self.fills += 1

    def before(self, day: int) -> tuple[float, float]:
        """Return cash and holding at the beginning of a day, which must not be earlier than that of the last fill."""
        return (self.day_cash, self.day_held) if self.day == day else (self.cash, self.held)


class SeriesState(Struct):
    """One series: the bars of a symbol and interval. Live and replayed bars share a series, synthetic ones have their
    own. ``day`` is the UTC day of the last bar, ``day_open`` the last close before it."""

    symbol: str
    interval_ms: int
    synthetic: bool
    partition: int
    bars: Ring = field(default_factory=Ring)
    decisions: Ring = field(default_factory=Ring)
    orders: Ring = field(default_factory=Ring)
    bar: BarPoint | None = None
    decision: DecisionPoint | None = None
    money: DailyMoney = field(default_factory=DailyMoney)
    holes: list[HolePoint] = field(default_factory=list)
    day: int = -1
    day_open: float = 0.0
    late: int = 0

    @property
    def name(self) -> str:
        """Its name in addresses: ``BTCUSDT.60000``, ``BTCUSDT.60000.synthetic``."""
        return name_of(self.symbol, self.interval_ms, synthetic=self.synthetic)

    def copy(self) -> "SeriesState":
        """Return a series that later events of this one do not change."""
        return structs.replace(
            self,
            bars=self.bars.copy(),
            decisions=self.decisions.copy(),
            orders=self.orders.copy(),
            money=structs.replace(self.money),
            holes=list(self.holes),
        )


def name_of(symbol: str, interval_ms: int, *, synthetic: bool) -> str:
    """Return the name of a series."""
    return f"{symbol}.{interval_ms}{'.synthetic' if synthetic else ''}"


def add_bar(series: SeriesState, entry: str, bar: BarClosed) -> None:
    """Add a bar. One that was written twice, or out of order, is left out: the first counts, as for all services."""
    last = series.bar
    if last is not None and bar.open_time <= last.open_time:
        return
    day = bar.open_time // DAY_MS
    if day != series.day:
        series.day, series.day_open = day, last.close if last is not None else bar.open
    series.bar = BarPoint(entry, bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume)
    series.bars.push(msgspec.msgpack.encode(series.bar))


def add_decision(series: SeriesState, entry: str, name: str, made: DecisionMade) -> None:
    """Add a decision with the event id ``name``."""
    counted = [
        MemberPoint(
            ballot.model,
            ballot.artifact[:SHORT],
            False,
            ballot.action,
            parts(ballot.probabilities[0]),
            parts(ballot.probabilities[2]),
            parts(ballot.weight),
            parts(ballot.effect),
        )
        for ballot in made.counted
    ]
    shadows = [
        MemberPoint(
            ballot.model,
            ballot.artifact[:SHORT],
            True,
            ballot.action,
            parts(ballot.probabilities[0]),
            parts(ballot.probabilities[2]),
        )
        for ballot in made.shadow
    ]
    series.decision = DecisionPoint(
        id=name,
        entry=entry,
        open_time=made.open_time,
        origin=made.origin,
        version=made.control_version,
        status=made.status,
        intent=made.intent,
        action=made.action,
        confidence=made.confidence,
        sell=parts(made.probabilities[0]),
        buy=parts(made.probabilities[2]),
        consensus=made.consensus_count,
        total=made.total_models,
        closed_by=made.closed_by,
        members=(*counted, *shadows),
        absent=tuple(AbsentPoint(member.model, member.reason[:REASON]) for member in made.absent),
    )
    series.decisions.push(msgspec.msgpack.encode(series.decision))


def add_order(series: SeriesState, entry: str, event: OrderEvent) -> None:
    """Add what became of an intent."""
    if isinstance(event, OrderFilled):
        series.money.fill(event)
    series.orders.push(msgspec.msgpack.encode(_order_point(entry, event)))


def _order_point(entry: str, event: OrderEvent) -> OrderPoint:
    match event:
        case OrderPlaced():
            return OrderPoint(
                entry=entry,
                kind="placed",
                open_time=event.open_time,
                decision=event.decision,
                side=event.side,
                quantity=event.quantity,
                price=event.reference,
                detail="a halt closes the position" if event.cause == "halt" else "",
            )
        case IntentRefused():
            return OrderPoint(
                entry=entry,
                kind="refused",
                open_time=event.open_time,
                decision=event.decision,
                detail=f"{event.reason}: {event.detail}"[:REASON],
            )
        case OrderFilled():
            return OrderPoint(
                entry=entry,
                kind="filled",
                open_time=event.open_time,
                decision=event.decision,
                side=event.side,
                quantity=event.quantity,
                price=event.price,
                position=event.position,
                fee=event.fee,
            )
        case OrderEnded():
            return OrderPoint(
                entry=entry,
                kind="ended",
                open_time=event.open_time,
                decision=event.decision,
                quantity=event.unfilled,
                detail=f"{event.reason}: {event.detail}"[:REASON] if event.detail else event.reason,
            )


def add_holes(series: SeriesState, event: BarsAbsent) -> None:
    """Add bars that the exchange does not have."""
    series.holes.append(HolePoint(event.first, event.count, event.reason))
    del series.holes[:-HOLES]


_bar: Final = msgspec.msgpack.Decoder(BarPoint).decode
_decision: Final = msgspec.msgpack.Decoder(DecisionPoint).decode
_order: Final = msgspec.msgpack.Decoder(OrderPoint).decode


def bars_of(series: SeriesState, last: int = KEPT) -> list[BarPoint]:
    """Return the last bars that are kept, oldest first."""
    return [_bar(item) for item in series.bars.items[-last:]]


def decisions_of(series: SeriesState, last: int = KEPT) -> list[DecisionPoint]:
    """Return the last decisions that are kept, oldest first."""
    return [_decision(item) for item in series.decisions.items[-last:]]


def orders_of(series: SeriesState) -> list[OrderPoint]:
    """Return the orders that are kept, oldest first."""
    return [_order(item) for item in series.orders.items]


def parts(value: float) -> int:
    """Return a share in ten-thousandths."""
    return round(value * PARTS)
