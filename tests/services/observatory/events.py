"""Events of a small market, for tests of the projections."""

from typing import Any

from schemas.codec import encode
from schemas.common import Action
from schemas.decisions import AbsentMember, CountedBallot, DecisionMade, ShadowBallot
from schemas.market import BarClosed
from schemas.orders import OrderFilled
from services.observatory import core
from services.observatory.core import State
from shared.log import StreamKey

MINUTE = 60_000
DAY = 86_400_000
BEGIN = 1_704_067_200_000
A, B, HEAD, EVENT = "a1" * 32, "b1" * 32, "0" * 64, "ee" * 16


def bar(number: int, close: float = 100.0, symbol: str = "BTCUSDT", begin: int = BEGIN) -> BarClosed:
    return BarClosed(
        symbol=symbol,
        interval_ms=MINUTE,
        open_time=begin + number * MINUTE,
        open=close,
        high=close + 1,
        low=close - 1,
        close=close,
        volume=5.0,
        origin="live",
    )


def decision(number: int, action: Action = "BUY", symbol: str = "BTCUSDT", **other: Any) -> DecisionMade:
    counted = CountedBallot(
        model="a",
        artifact=A,
        event=EVENT,
        action=action,
        confidence=0.6,
        probabilities=(0.1, 0.3, 0.6),
        weight=1.0,
        effect=0.25,
        pivotal=True,
    )
    fields: dict[str, Any] = {
        "symbol": symbol,
        "interval_ms": MINUTE,
        "open_time": BEGIN + number * MINUTE,
        "origin": "live",
        "control_version": 3,
        "control_head": HEAD,
        "policy": "logpool",
        "status": "decided",
        "action": action,
        "confidence": 0.6,
        "probabilities": (0.1, 0.3, 0.6),
        "consensus_count": 1,
        "total_models": 2,
        "counted": (counted,),
        "absent": (AbsentMember("b", B, "not_loaded: no such file", None),),
        "shadow": (ShadowBallot("a", B, EVENT, "SELL", (0.5, 0.3, 0.2)),),
        "closed_by": "complete",
        "intent": "hold" if action == "HOLD" else "issued",
        "decided_at": BEGIN + (number + 1) * MINUTE,
    }
    return DecisionMade(**{**fields, **other})


def fill(number: int, side: str, quantity: float, price: float, position: float, day: int = 0) -> OrderFilled:
    at = BEGIN + day * DAY + number * MINUTE
    return OrderFilled(
        symbol="BTCUSDT",
        interval_ms=MINUTE,
        open_time=at,
        origin="live",
        order=EVENT,
        decision=EVENT,
        venue="paper",
        side=side,  # type: ignore[arg-type]  # one of two words
        quantity=quantity,
        price=price,
        market_price=price,
        fee=1.0,
        position=position,
        filled_at=at,
    )


def given(state: State, stream: str, *events: Any, begin: int = BEGIN + MINUTE, step: int = MINUTE) -> State:
    """The state after events of one stream, one entry a minute."""
    for number, event in enumerate(events):
        entry = f"{begin + number * step}-0"
        core.apply(state, StreamKey(stream), entry, encode(stream, event).envelope)
    return state
