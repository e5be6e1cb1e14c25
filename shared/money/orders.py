"""Decide the order that follows from an intent, or why there is none."""

from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from schemas.codec import Envelope
from schemas.common import Action, Origin
from schemas.control import SetExecutionPolicy, SetVotingPolicy
from schemas.decisions import IntentIssued
from schemas.orders import IntentRefused, OrderPlaced, Reason, Side
from schemas.predictions import PredictionMade
from schemas.scores import PredictionScored
from shared.money.positions import Holding
from shared.money.venue import exchange_of, limit_price, venue_of

NO_VENUE: Final = "none"
"""The venue of a policy under which nothing is traded."""
TOLERANCE: Final = 1.0 + 1e-9
"""By which factor an exposure may exceed its cap, so that rounding refuses nothing."""


class TradeSignal(NamedTuple):
    """What an intent says, and its event id (hex)."""

    id: str
    symbol: str
    interval_ms: int
    open_time: int
    origin: Origin
    decision: str
    control_version: int
    action: Literal["SELL", "BUY"]
    valid_until: int


def lone_signal(
    made: PredictionMade | PredictionScored, event: str, action: Action, policy: SetVotingPolicy
) -> TradeSignal | None:
    """Return the signal of a prediction that decides alone; None for HOLD. ``event``: the id (hex) of the prediction,
    which stands for its decision too."""
    if action == "HOLD":
        return None
    return TradeSignal(
        id=event,
        symbol=made.symbol,
        interval_ms=made.interval_ms,
        open_time=made.open_time,
        origin=made.origin,
        decision=event,
        control_version=made.control_version,
        action=action,
        valid_until=made.open_time + made.interval_ms + policy.valid_ms,
    )


class Forbidden(NamedTuple):
    """Why no order may go to a venue, whatever the intent."""

    reason: Reason
    detail: str


class Bounds(NamedTuple):
    """How long the executor keeps what an intent needs: ``bars`` of its series after it, and ``margin_ms`` of
    ``market`` after it until its bar is taken to be missing."""

    bars: int
    margin_ms: int


def signal_of(envelope: Envelope[IntentIssued]) -> TradeSignal:
    """Return what an intent says."""
    intent = envelope.event
    return TradeSignal(
        id=envelope.id.hex(),
        symbol=intent.symbol,
        interval_ms=intent.interval_ms,
        open_time=intent.open_time,
        origin=intent.origin,
        decision=intent.decision,
        control_version=intent.control_version,
        action=intent.action,
        valid_until=intent.valid_until,
    )


class Situation(NamedTuple):
    """What else an order depends on. ``reference``: the close of the intent's bar (None: there is no such bar).
    ``others``: the notional amount that all other symbols are committed to, and ``share`` the cap of all together.
    ``at``: the server's time, None if no clock counts. ``halted``: no order may be placed. ``forbidden``: none may go
    to the policy's venue."""

    reference: float | None
    others: float
    share: float
    at: int | None = None
    halted: bool = False
    forbidden: Forbidden | None = None


def order_for(
    holding: Holding, signal: TradeSignal, policy: SetExecutionPolicy, situation: Situation
) -> OrderPlaced | IntentRefused:
    """Return the order for an intent, or the refusal. The first reason that applies is given.

    An intent closes what is held on the other side, and opens ``notional`` on its own, in addition to what is held
    there. Where only the cap of all symbols forbids opening, the other side is closed. At an exchange only live intents
    are traded, and what is not held is not sold."""
    at = situation.at if signal.origin == "live" else None
    if signal.open_time <= holding.last_intent:
        return _refused(signal, at, "repeated", f"an intent for the bar at {holding.last_intent} was read before")
    if policy.venue == NO_VENUE:
        return _refused(signal, at, "no_venue", f"version {signal.control_version} of control names no venue")
    if situation.halted:
        return _refused(signal, at, "halted", "the fence of the partition is closed")
    if at is not None and at > signal.valid_until:
        return _refused(signal, at, "expired", f"read {at - signal.valid_until} ms after valid_until")
    venue = venue_of(policy)
    at_exchange = bool(exchange_of(venue))
    if at_exchange and signal.origin != "live":
        return _refused(signal, at, "not_live", f"a bar whose origin is {signal.origin} is not traded at {venue}")
    if situation.forbidden is not None:
        return _refused(signal, at, *situation.forbidden)
    if (elsewhere := holding.held_at) not in {"", venue}:
        text = f"what is held was bought at {elsewhere}, and an order at {venue} cannot close it"
        return _refused(signal, at, "other_venue", text)
    if situation.reference is None:
        return _refused(signal, at, "no_bar", "the bar of the intent was not read, so there is no price")
    bars = (signal.open_time - holding.last_order) // signal.interval_ms
    if holding.last_order >= 0 and bars < policy.cooldown_bars:
        return _refused(signal, at, "cooldown", f"{bars} bars since the last order, {policy.cooldown_bars} are needed")
    position = holding.position
    closes = abs(position) if holding.side != signal.action else 0.0
    held = holding.exposure(signal.action)
    adds = policy.notional
    if at_exchange and signal.action == "SELL":
        if not closes:
            return _refused(signal, at, "no_short", f"nothing is held, and {venue} sells only what is held")
        held = adds = 0.0
    opens = adds / situation.reference
    if situation.others + held + adds > situation.share * TOLERANCE:
        if not closes:
            text = f"{situation.others + held + adds:.2f} of at most {situation.share:.2f} in all"
            return _refused(signal, at, "total_cap", text)
        opens = 0.0
    elif held + adds > policy.symbol_cap * TOLERANCE:
        text = f"{held + adds:.2f} of at most {policy.symbol_cap:.2f}"
        return _refused(signal, at, "symbol_cap", text)
    return OrderPlaced(
        symbol=signal.symbol,
        interval_ms=signal.interval_ms,
        open_time=signal.open_time,
        origin=signal.origin,
        order=signal.id,
        decision=signal.decision,
        control_version=signal.control_version,
        venue=venue,
        cause="intent",
        side=signal.action,
        quantity=closes + opens,
        closes=closes,
        reference=situation.reference,
        valid_until=signal.valid_until,
        placed_at=at,
        limit=limit_price(policy, signal.action, situation.reference) if at_exchange else None,
    )


def closing_order(
    holding: Holding,
    open_time: int,
    close: float,
    version: int,
    venue: str,
    at: int | None,
    policy: SetExecutionPolicy | None = None,
) -> OrderPlaced:
    """Return the order that closes all of a holding during a halt, after the bar at ``open_time``. ``policy``: has the
    limit of an order at an exchange. There another one may follow within the bar, once this one has closed a part."""
    oldest, quantity = holding.lots[0], abs(holding.position)
    side: Side = "SELL" if holding.side == "BUY" else "BUY"
    named = f"flat {holding.symbol} {holding.interval_ms} {oldest.decision} {open_time}"
    if policy is not None:
        named += f" {quantity!r}"
    return OrderPlaced(
        symbol=holding.symbol,
        interval_ms=holding.interval_ms,
        open_time=open_time,
        origin=oldest.origin,
        order=blake2b(named.encode(), digest_size=16).hexdigest(),
        decision=oldest.decision,
        control_version=version,
        venue=venue,
        cause="halt",
        side=side,
        quantity=quantity,
        closes=quantity,
        reference=close,
        valid_until=None,
        placed_at=at if oldest.origin == "live" else None,
        limit=limit_price(policy, side, close) if policy is not None else None,
    )


def _refused(signal: TradeSignal, at: int | None, reason: Reason, detail: str) -> IntentRefused:
    return IntentRefused(
        symbol=signal.symbol,
        interval_ms=signal.interval_ms,
        open_time=signal.open_time,
        origin=signal.origin,
        intent=signal.id,
        decision=signal.decision,
        control_version=signal.control_version,
        reason=reason,
        detail=detail,
        at=at,
    )
