"""Count how often the ensemble acts, and compare its return with acting never and with acting always.

A round counts once, by the first score of a voting artifact that was not late. *Always* is BUY or SELL in each round,
by the larger probability of the pool; *never* is HOLD, which earns and costs nothing. Returns are those of the label's
horizon and not of an account: positions overlap, so their sum is for comparison only.
"""

from math import expm1

from msgspec import Struct, field

from schemas.common import ACTIONS, Action
from schemas.scores import PredictionScored


class ActingFold(Struct, array_like=True, forbid_unknown_fields=True):
    """Sums over rounds with an outcome. ``actions``: by SELL, HOLD, BUY. ``decided``, ``always``: sums of returns less
    costs (fractions); ``paid``: the costs in them. ``latest``: the open time of the newest round, by series."""

    actions: list[int] = field(default_factory=lambda: [0, 0, 0])
    decided: float = 0.0
    decided_paid: float = 0.0
    always: float = 0.0
    always_paid: float = 0.0
    since: int = 0
    until: int = 0
    latest: dict[str, int] = field(default_factory=dict)


class Acting(Struct, frozen=True):
    """How often the ensemble acted from bar ``since`` to bar ``until``, over ``rounds`` rounds with an outcome.

    ``decided``: the sum of returns of its actions, less ``decided_costs``; the same of acting ``always``. Fractions."""

    rounds: int
    sell: int
    hold: int
    buy: int
    decided: float
    decided_costs: float
    always: float
    always_costs: float
    since: int
    until: int


def evolve(state: ActingFold, event: PredictionScored) -> None:
    """Add a score, in place."""
    if event.role != "voting" or event.late or event.decided is None:
        return
    series = f"{event.symbol} {event.interval_ms}"
    if event.open_time <= state.latest.get(series, -1):
        return
    state.latest[series] = event.open_time
    state.since = min(state.since, event.open_time) if state.until else event.open_time
    state.until = max(state.until, event.open_time)
    state.actions[ACTIONS.index(event.decided)] += 1
    rose = expm1(event.forward_return)
    if event.decided != "HOLD":
        state.decided += _signed(event.decided, rose) - event.cost
        state.decided_paid += event.cost
    sell, _, buy = event.pool_with
    state.always += _signed("BUY" if buy >= sell else "SELL", rose) - event.cost
    state.always_paid += event.cost


def _signed(action: Action, rose: float) -> float:
    return rose if action == "BUY" else -rose


def acting_of(state: ActingFold) -> Acting | None:
    """Return what was counted; None before the first round with an outcome."""
    sell, hold, buy = state.actions
    if not sum(state.actions):
        return None
    return Acting(
        rounds=sell + hold + buy,
        sell=sell,
        hold=hold,
        buy=buy,
        decided=state.decided,
        decided_costs=state.decided_paid,
        always=state.always,
        always_costs=state.always_paid,
        since=state.since,
        until=state.until,
    )
