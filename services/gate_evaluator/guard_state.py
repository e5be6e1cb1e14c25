"""A champion that replaced another, watched beside its ghost."""

from typing import Any, Final

from msgspec import Struct, field, structs

from schemas.scores import PredictionScored
from shared.gates import guard
from shared.gates.guard import DEFAULT_GUARD, Finding, Guard
from shared.gates.rows import Row, row_of

LOOK: Final = 20
"""Guards are looked at every so many answers: oftener than gates, for what they see does harm."""
PAIRS: Final = 256
"""Answers of a champion that may wait for its ghost's; then the oldest counts without."""
CONFIRM_BLOCKS: Final = 10
"""So many blocks without an alarm end a probation well."""


class Watch(Struct, array_like=True):
    """``version`` made ``artifact`` champion in place of ``ghost``. ``own`` and ``theirs``: answers by
    ``<open time> <symbol>`` that wait for each other. ``seen``: answers of both and failures of the champion;
    ``stage`` is the gravest that was written."""

    model: str
    artifact: str
    ghost: str
    version: int
    guard: Guard
    stage: str = "continue"
    confirmed: bool = False
    seen: int = 0
    last_score: str = ""
    own: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    theirs: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def begin(model: str, artifact: str, ghost: str, version: int, score: PredictionScored) -> Watch:
    """Nothing seen yet."""
    watched = guard.initial(horizon=score.horizon, interval_ms=score.interval_ms)
    return Watch(model, artifact, ghost, version, watched)


def take(watch: Watch, score: PredictionScored, event: str) -> None:
    """A score of the champion, or of its ghost. A pair is folded when both are there."""
    watch.seen += 1
    name = f"{score.open_time} {score.symbol}"
    if score.artifact.hex() == watch.ghost:
        if name in watch.own:
            _fold(watch, Row(*watch.own.pop(name)), score.probabilities)
            return
        watch.theirs[name] = score.probabilities
        while len(watch.theirs) > PAIRS:
            del watch.theirs[next(iter(watch.theirs))]
        return
    watch.last_score = event
    if name in watch.theirs:
        _fold(watch, row_of(score), watch.theirs.pop(name))
        return
    watch.own[name] = tuple(row_of(score))
    while len(watch.own) > PAIRS:
        _fold(watch, Row(*watch.own.pop(next(iter(watch.own)))), None)


def fail(watch: Watch) -> None:
    """The champion gave no answer."""
    watch.seen += 1
    guard.fail(watch.guard)


def findings(watch: Watch, latest: int, partitions: int = 1) -> tuple[Finding, ...]:
    """What every guard says; a bar is scored a horizon late, and so is its ghost. Each of several ``partitions``
    may raise the alarm, so each needs so much more evidence."""
    several = max(1, partitions)
    lines = {"demote_at": DEFAULT_GUARD.demote_at * several, "rollback_at": DEFAULT_GUARD.rollback_at * several}
    return guard.findings(watch.guard, structs.replace(DEFAULT_GUARD, **lines), latest)


def _fold(watch: Watch, row: Row, ghost: tuple[float, float, float] | None) -> None:
    guard.evolve(watch.guard, row._replace(champion=ghost))
