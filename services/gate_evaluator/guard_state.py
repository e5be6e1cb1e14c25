"""Compare a champion that replaced another with that former champion, which continues in shadow; a voting policy too.

A score of a former voting policy has the decision of the one in force in it, so the two are one pair."""

from typing import Any, Final

from msgspec import Struct, field, structs

from schemas.common import ACTIONS, ENSEMBLE
from schemas.scores import PredictionScored
from shared.control.state import PolicyCandidate
from shared.gates import guard
from shared.gates.guard import DEFAULT_GUARD, ChampionWatch, Finding
from shared.gates.rows import Row, Scales, row_of

CHECK_EVERY: Final = 20
"""The guards are checked after so many scores and failures. Gates are checked less often, since a shadow does no
harm."""
PAIRS: Final = 256
"""Scores of a champion that may wait for the former champion's. The oldest is then folded without a counterpart."""
CONFIRM_BLOCKS: Final = 10
"""A probation is confirmed after so many blocks without an alarm."""


class ChampionGuard(Struct, array_like=True):
    """The champion ``artifact``, which replaced ``former`` in configuration ``version``. ``waiting`` and
    ``former_waiting`` have the scores of each, by ``<open time> <symbol>``, whose counterpart was not read yet.
    ``seen`` counts the scores of both and the failures of the champion. ``stage``: the most severe that was written.
    ``live_until``: the champion's newest live bar."""

    model: str
    artifact: str
    former: str
    version: int
    guard: ChampionWatch
    stage: str = "continue"
    confirmed: bool = False
    seen: int = 0
    last_score: str = ""
    waiting: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    former_waiting: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    live_until: int = -1


DEFAULT_SCALES: Final = Scales()


def initial(model: str, artifact: str, former: str, version: int, score: PredictionScored) -> ChampionGuard:
    """Return the guard of a champion without any score."""
    statistics = guard.initial(horizon=score.horizon, interval_ms=score.interval_ms)
    return ChampionGuard(model, artifact, former, version, statistics)


def initial_policy(
    artifact: str, former: str, version: int, score: PredictionScored, known: PolicyCandidate
) -> ChampionGuard:
    """Return the guard of a voting policy that replaced ``former``, without any score. ``known``: with its scales."""
    statistics = guard.initial(
        horizon=score.horizon,
        interval_ms=score.interval_ms,
        scale=known.scale or DEFAULT_SCALES.champion,
        money_scale=known.money_scale or DEFAULT_SCALES.money,
    )
    return ChampionGuard(ENSEMBLE, artifact, former, version, statistics)


def evolve_policy(state: ChampionGuard, score: PredictionScored, event: str) -> None:
    """Add a score of the former voting policy: the comparison from the side of the one in force."""
    state.seen += 1
    state.last_score = event
    if score.origin == "live":
        state.live_until = max(state.live_until, score.open_time)
    theirs = row_of(score)
    assert score.incumbent is not None
    assert score.decided is not None
    mine = theirs._replace(
        probabilities=score.incumbent,
        action=ACTIONS.index(score.decided),
        champion=score.probabilities,
        net=score.incumbent_return,
        champion_net=score.signed_return,
    )
    guard.evolve(state.guard, mine)


def evolve(state: ChampionGuard, score: PredictionScored, event: str) -> None:
    """Add a score of the champion or of the former one. A pair is folded once both are read."""
    state.seen += 1
    name = f"{score.open_time} {score.symbol}"
    if score.artifact.hex() == state.former:
        if name in state.waiting:
            _fold(state, Row(*state.waiting.pop(name)), score.probabilities)
            return
        state.former_waiting[name] = score.probabilities
        while len(state.former_waiting) > PAIRS:
            del state.former_waiting[next(iter(state.former_waiting))]
        return
    state.last_score = event
    if score.origin == "live":
        state.live_until = max(state.live_until, score.open_time)
    if name in state.former_waiting:
        _fold(state, row_of(score), state.former_waiting.pop(name))
        return
    state.waiting[name] = tuple(row_of(score))
    while len(state.waiting) > PAIRS:
        _fold(state, Row(*state.waiting.pop(next(iter(state.waiting)))), None)


def fail(state: ChampionGuard) -> None:
    """Count a prediction of the champion that was due and failed."""
    state.seen += 1
    guard.fail(state.guard)


def findings(state: ChampionGuard, newest: int, partitions: int = 1) -> tuple[Finding, ...]:
    """Return the result of every check. ``newest``: the newest live bar in any score. With several ``partitions`` each
    evaluator can raise the alarm, so the thresholds are multiplied by their number; of a voting policy by twice as
    much, since log score and money can."""
    several = max(1, partitions) * (2 if state.guard.money_scale else 1)
    thresholds = {"demote_at": DEFAULT_GUARD.demote_at * several, "rollback_at": DEFAULT_GUARD.rollback_at * several}
    lag_ms = newest - state.live_until if state.live_until >= 0 else None
    return guard.findings(state.guard, structs.replace(DEFAULT_GUARD, **thresholds), lag_ms)


def _fold(state: ChampionGuard, row: Row, former: tuple[float, float, float] | None) -> None:
    guard.evolve(state.guard, row._replace(champion=former))
