"""What is kept of training jobs: the newest, each with its losses step by step. Pure."""

from typing import Any, Final

from msgspec import Struct, field

from schemas.codec import Envelope
from schemas.training import StackerRequested, TrainingEvent, TrainingProgressed, TrainingRequested, TrainingStarted
from shared.training.fits import Fit
from shared.training.jobs import Job, apply_to

JOBS: Final = 60
"""The newest jobs of models that are kept, and the newest fits of stackers."""
STEPS: Final = 400
"""The most steps of one curve. A longer one is thinned to every second step."""


class TrainingStep(Struct, array_like=True, frozen=True):
    """One step of a fit: its number, the mean log losses (nats) of training and held-out rows, and the loss of the
    class prior on the held-out rows."""

    number: int
    train: float
    held: float
    prior: float


class ObservedJob(Struct):
    """A job, and the losses of its present attempt."""

    job: Job
    steps: list[TrainingStep] = field(default_factory=list)


def note_job(jobs: dict[str, ObservedJob], fits: dict[str, Fit], envelope: Envelope[TrainingEvent]) -> None:
    """Apply an event of the stream. An event of a job that is not kept, or has ended, is ignored."""
    event, name = envelope.event, envelope.id.hex()
    if isinstance(event, TrainingRequested):
        jobs.setdefault(name, ObservedJob(Job(name, event)))
        _drop_oldest(jobs)
    elif isinstance(event, StackerRequested):
        fits.setdefault(name, Fit(name, event))
        _drop_oldest(fits)
    elif (fit := fits.get(event.request)) is not None:
        apply_to(fit, event)
    elif (observed := jobs.get(event.request)) is not None and observed.job.ended is None:
        apply_to(observed.job, event)
        _note_step(observed, event)


def _drop_oldest(kept: dict[str, Any]) -> None:
    if len(kept) > JOBS:
        del kept[next(iter(kept))]


def _note_step(observed: ObservedJob, event: TrainingEvent) -> None:
    if isinstance(event, TrainingStarted):
        observed.steps = []  # an attempt fits from the beginning
    if isinstance(event, TrainingProgressed) and (step := _step(event)) is not None:
        observed.steps.append(step)
        if len(observed.steps) > STEPS:
            observed.steps = observed.steps[1::2]


def _step(event: TrainingProgressed) -> TrainingStep | None:
    """Return the losses of a step; None if it has none, or they are not finite."""
    train, held, skill = event.train_loss, event.held_loss, event.skill
    if train is None or held is None or skill is None or skill >= 1.0:
        return None
    return TrainingStep(event.number, train, held, held / (1.0 - skill))
