"""The state of all training jobs, folded from the stream ``training``, and the rules for new ones.

Cooldown, budget and the limit of one job for each model are computed from the stream. So they survive a restart, and
many causes at once start one job. Fits of a stacker are jobs too, with a cooldown and a budget of their own. Pure;
``shared.training.ledger`` reads and appends the stream.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import UNSET, Struct

from schemas.codec import Envelope
from schemas.common import ENSEMBLE
from schemas.control import SetTrainingPolicy
from schemas.training import (
    DataAssessed,
    DataReport,
    StackerFitted,
    StackerRequested,
    TrainingCompleted,
    TrainingEvent,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)
from shared.training.fits import Fit, FitEvent

HOUR_MS: Final = 3_600_000
BUDGET_OVER_MS: Final = 7 * 24 * HOUR_MS
ATTEMPTS: Final = 3
"""How often a job is started before it fails: its process may be killed by an upgrade, or by its own memory use."""

Ended: TypeAlias = TrainingCompleted | TrainingRejected | TrainingFailed
JobEvent: TypeAlias = TrainingStarted | DataAssessed | TrainingProgressed | Ended
"""An event of a job that was requested."""
Request: TypeAlias = TrainingRequested | StackerRequested


class Job(Struct):
    """The state of one job. ``began``: start times (ms) of its attempts."""

    id: str
    request: TrainingRequested
    began: list[int] = []
    started: TrainingStarted | None = None
    report: DataReport | None = None
    progress: TrainingProgressed | None = None
    ended: Ended | None = None

    @property
    def model(self) -> str:
        """Return the model that is trained."""
        return self.request.model

    @property
    def state(self) -> str:
        """Return ``waiting``, ``running``, ``completed``, ``rejected`` or ``failed``."""
        match self.ended:
            case TrainingCompleted():
                return "completed"
            case TrainingRejected():
                return "rejected"
            case TrainingFailed():
                return "failed"
            case None:
                return "running" if self.started is not None else "waiting"

    def apply(self, event: JobEvent) -> None:
        """Apply the next event of this job, which has not ended."""
        match event:
            case TrainingStarted():
                self.began = [*self.began, event.at]
                self.started = event
            case DataAssessed():
                self.report = event.report
            case TrainingProgressed():
                self.progress = event
            case TrainingCompleted() | TrainingRejected() | TrainingFailed():
                self.ended = event


def apply_to(job: Job | Fit, event: JobEvent | FitEvent) -> None:
    """Apply an event of a job. It is ignored if the job has ended, or is of the other kind."""
    if job.ended is not None:
        return
    if isinstance(job, Fit):
        if isinstance(event, FitEvent):
            job.apply(event)
    elif isinstance(event, JobEvent):
        job.apply(event)


class Jobs:
    """All jobs, oldest first: those of models by iteration, those of stackers in ``fits``."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self.fits: dict[str, Fit] = {}
        self._evidence: set[str] = set()

    def apply(self, envelope: Envelope[TrainingEvent]) -> None:
        """Apply the next event of the stream. An event of a job that was never requested is ignored."""
        event = envelope.event
        if isinstance(event, TrainingRequested):
            self._jobs.setdefault(envelope.id.hex(), Job(envelope.id.hex(), event))
            if event.evidence is not None:
                self._evidence.add(event.evidence)
        elif isinstance(event, StackerRequested):
            self.fits.setdefault(envelope.id.hex(), Fit(envelope.id.hex(), event))
        elif (job := self._jobs.get(event.request) or self.fits.get(event.request)) is not None:
            apply_to(job, event)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, job: str) -> Job:
        return self._jobs[job]

    def all(self) -> Sequence[Job | Fit]:
        """Return the jobs of models and of stackers, in the order of their requests."""
        return sorted([*self, *self.fits.values()], key=lambda job: job.request.at)

    def find(self, prefix: str) -> Job | Fit:
        """Return the only job whose id begins with ``prefix``. Raises ``LookupError`` if there is none, or more than
        one."""
        every = self.all()
        matching = [job for job in every if job.id.startswith(prefix)]
        if len(matching) != 1 or not prefix:
            raise LookupError(f"{len(matching)} of {len(every)} training jobs begin with {prefix!r}; expected one")
        return matching[0]

    def next(self) -> Job | Fit | None:
        """Return the job to run next: one that was running when its trainer stopped, or else one that a person
        requested, or else the one that has waited longest."""
        open_ = [job for job in self.all() if job.ended is None]
        return min(open_, key=lambda job: (job.started is None, not _by_person(job.request)), default=None)

    def fitted(self, digest: str) -> Fit | None:
        """Return the newest fit whose policy's digest begins so; None if there is none."""
        for fit in reversed(self.fits.values()):
            if digest and isinstance(fit.ended, StackerFitted) and fit.ended.digest.startswith(digest):
                return fit
        return None

    def made(self, artifact: str) -> Job | None:
        """Return the newest job that produced an artifact. Several jobs may produce the same artifact."""
        makers = [job for job in self if isinstance(job.ended, TrainingCompleted) and job.ended.artifact == artifact]
        return makers[-1] if makers else None

    def refuses(self, request: Request, policy: SetTrainingPolicy) -> str | None:
        """Return why a request is refused now, or None if it may be appended. ``request.at`` is the current time.

        A person's request goes before automatic ones: those neither refuse it nor count against it. The cooldown is for
        automatic requests; a person's starts it, too."""
        peers = self if isinstance(request, TrainingRequested) else self.fits.values()
        counted = [job for job in peers if _by_person(job.request) or not _by_person(request)]
        model = request.model if isinstance(request, TrainingRequested) else ENSEMBLE
        of_model = [job for job in counted if job.model == model]
        for job in of_model:
            if job.ended is None:
                return f"job {job.id[:12]} for {model!r} is {job.state}; wait until it ends"
        if isinstance(request, TrainingRequested) and request.evidence in self._evidence:
            return f"a job was already requested because of {request.evidence}"
        if request.forced:
            return None
        if of_model and not _by_person(request):
            newest = max(job.request.at for job in of_model)
            ready = newest + policy.cooldown_hours * HOUR_MS
            if request.at < ready:
                hours = (ready - request.at) / HOUR_MS
                return (
                    f"{model!r} was requested less than {policy.cooldown_hours} h ago (the cooldown of the "
                    f"training policy), {hours:.1f} h are left"
                )
        spent = sum(1 for job in counted if job.request.at > request.at - BUDGET_OVER_MS)
        if spent >= policy.budget:
            return (
                f"{spent} jobs within seven days, the budget of the training policy is {policy.budget}; "
                "`--force` overrides it"
            )
        return None


def _by_person(request: Request) -> bool:
    return request.cause == "operator"


def fit_due(jobs: Jobs, policy: SetTrainingPolicy, now: int) -> bool:
    """Return whether a stacker is to be fitted by schedule now: none was requested within ``stacker_hours``."""
    if policy.stacker_hours is UNSET or not policy.stacker_hours:
        return False
    newest = max((fit.request.at for fit in jobs.fits.values()), default=0)
    return now >= newest + policy.stacker_hours * HOUR_MS


def scheduled(jobs: Jobs, voting: Mapping[str, int], policy: SetTrainingPolicy, now: int) -> list[str]:
    """Return the models that are due for training by schedule. ``voting``: each model with a champion, and the time
    (ms) of its promotion, from which the schedule counts if no training was requested since."""
    if not policy.schedule_hours:
        return []
    newest = dict(voting)
    for job in jobs:
        model = job.request.model
        if model in newest:
            newest[model] = max(newest[model], job.request.at)
    return sorted(model for model, at in newest.items() if now >= at + policy.schedule_hours * HOUR_MS)
