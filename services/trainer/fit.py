"""Fit a stacker on recorded rounds, in the child process.

Nothing is computed that ``conclave vote propose --stacker`` does not compute: both call ``shared.tuning``. The trainer
fills in when each event was written, and what became of a stacker.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import UNSET, structs

from schemas.common import ENSEMBLE
from schemas.control import SetVotingPolicy
from schemas.training import (
    FitRejection,
    PenaltyTried,
    PolicyGain,
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    Stage,
    TrainingEvent,
    TrainingProgressed,
)
from services.trainer.task import FitTask
from shared.archive.location import open_archive
from shared.audit.configurations import CONTROL, Configurations
from shared.audit.findings import Findings
from shared.audit.live import live
from shared.audit.source import END, Bounded, Ends, EntryRange, RecordedExtent, Recording
from shared.control.policies import policy_digest
from shared.log import START, StreamKey
from shared.settings import Settings, redis_url_with_password
from shared.tuning.proposal import ComparedPart, FittedStacker, NothingToCompareError, fitted_stacker
from shared.tuning.rounds import DecidedRound, recorded_rounds
from shared.tuning.stacking import ERRORS, NoStackerError, TriedPenalty

MNAT: Final = 1000
BASIS_POINTS: Final = 10_000


def run(task: FitTask, settings: Settings, emit: Callable[[TrainingEvent], None]) -> None:
    """Read the rounds of a task, fit, and emit progress and result."""
    began = time.monotonic()
    emit(progressed(task, "reading"))
    with recorded(settings, task.started) as source:
        rounds, in_force = rounds_of(source, task.request)
    emit(progressed(task, "fitting"))
    ended = result(task.id, task.request, rounds, in_force)
    emit(structs.replace(ended, seconds=round(time.monotonic() - began, 2)))


@contextmanager
def recorded(settings: Settings, started: StackerStarted) -> Iterator[Recording]:
    """Yield the recorded streams up to the entries that a fit may read."""
    extents = {CONTROL: RecordedExtent(started.control)}
    for end in started.ends:
        extents[StreamKey("decisions", end.partition)] = RecordedExtent(end.decisions)
        extents[StreamKey("scores", end.partition)] = RecordedExtent(end.scores)
    with live(redis_url_with_password(settings), open_archive(settings)) as source:
        yield Bounded(source, Ends(extents))


def rounds_of(source: Recording, request: StackerRequested) -> tuple[list[DecidedRound], SetVotingPolicy]:
    """Return the rounds that a request asks for, and the voting policy in force at the end of the source."""
    after = START if request.since is None else f"{request.since}-0"
    until = END if request.until is None else f"{request.until}-0"
    configurations = Configurations(source, Findings())
    return recorded_rounds(source, configurations, EntryRange(after, until)), configurations.newest.policy


def result(
    job: str, request: StackerRequested, rounds: Sequence[DecidedRound], in_force: SetVotingPolicy
) -> StackerFitted | StackerRejected:
    """Return how a fit ends, apart from its duration. It depends on nothing but the arguments."""
    below = in_force if request.base is None else structs.replace(in_force, rule=request.base, stacker=UNSET)
    try:
        found = fitted_stacker(rounds, in_force, below, share=request.share)
    except NothingToCompareError as error:
        return _rejected(job, "too_few_rounds", str(error))
    except NoStackerError as error:
        return _rejected(job, "no_certain_gain" if error.tried else "too_few_rounds", str(error), error.tried)
    later, tried = found.later, found.fitted.tried
    if not math.isfinite(later.low):
        return _rejected(job, "too_few_rounds", "the later rounds are too few for an interval of their gain", tried)
    if later.high < 0.0:
        gain = f"{MNAT * later.gain:+.2f} mnat [{MNAT * later.low:+.2f}, {MNAT * later.high:+.2f}]"
        words = f"worse than the policy in force on the {later.rounds:,} rounds after those of the fit: {gain}"
        return _rejected(job, "worse_later", words, tried)
    return _fitted(job, found)


def _rejected(job: str, reason: FitRejection, evidence: str, tried: Sequence[TriedPenalty] = ()) -> StackerRejected:
    return StackerRejected(
        request=job,
        reason=reason,
        evidence=evidence[:2000],
        tried=_recorded_tries(tried),
        seconds=0.0,
        at=0,
    )


def _fitted(job: str, found: FittedStacker) -> StackerFitted:
    return StackerFitted(
        request=job,
        policy=found.fitted.policy,
        digest=policy_digest(found.fitted.policy),
        rounds=found.fitted.rounds,
        penalty=found.fitted.penalty,
        tried=_recorded_tries(found.fitted.tried),
        later=_gain(found.later),
        scale=found.scale,
        money_scale=found.money_scale,
        seconds=0.0,
        version=0,
        shadow=False,
        at=0,
    )


def _recorded_tries(tried: Sequence[TriedPenalty]) -> tuple[PenaltyTried, ...]:
    return tuple(
        PenaltyTried(
            penalty=each.penalty,
            value=MNAT * each.gain,
            low=MNAT * (each.gain - ERRORS * each.error),
            high=MNAT * (each.gain + ERRORS * each.error),
            least=MNAT * each.least,
        )
        for each in tried
    )


def _gain(part: ComparedPart) -> PolicyGain:
    return PolicyGain(
        rounds=part.rounds,
        value=MNAT * part.gain,
        low=MNAT * part.low,
        high=MNAT * part.high,
        money=BASIS_POINTS * part.money_gain,
        money_low=BASIS_POINTS * part.money_low,
        money_high=BASIS_POINTS * part.money_high,
    )


def progressed(task: FitTask, stage: Stage) -> TrainingProgressed:
    """Return the event for a stage of the fit."""
    return TrainingProgressed(request=task.id, model=ENSEMBLE, stage=stage, number=0, of=1, at=0)
