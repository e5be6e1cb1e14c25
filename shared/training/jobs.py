"""The fold of the ``training`` stream: which jobs there are, how each stands, and who may be trained when.

Cooldown, budget and one job at a time are read off the stream, so a restart forgets none of them, and a storm of
causes makes one job. Pure; ``shared.training.ledger`` reads and appends.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from schemas.codec import Envelope
from schemas.control import SetTrainingPolicy
from schemas.training import (
    DataAssessed,
    DataReport,
    TrainingCompleted,
    TrainingEvent,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)

HOUR_MS: Final = 3_600_000
BUDGET_OVER_MS: Final = 7 * 24 * HOUR_MS
ATTEMPTS: Final = 3
"""How often a job is begun before it is given up: its process may be killed by an upgrade, or by what it does."""

Ended: TypeAlias = TrainingCompleted | TrainingRejected | TrainingFailed


class Job(Struct):
    """One job as the stream tells it. ``began``: moments (ms) of its attempts."""

    id: str
    request: TrainingRequested
    began: list[int] = []
    started: TrainingStarted | None = None
    report: DataReport | None = None
    progress: TrainingProgressed | None = None
    ended: Ended | None = None

    @property
    def state(self) -> str:
        """``waiting``, ``running``, ``completed``, ``rejected`` or ``failed``."""
        match self.ended:
            case TrainingCompleted():
                return "completed"
            case TrainingRejected():
                return "rejected"
            case TrainingFailed():
                return "failed"
            case None:
                return "running" if self.started is not None else "waiting"


class Jobs:
    """All jobs, oldest first."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._evidence: set[str] = set()

    def take(self, envelope: Envelope[TrainingEvent]) -> None:
        """The next event of the stream. What names a job that was never requested is passed over."""
        event = envelope.event
        if isinstance(event, TrainingRequested):
            self._jobs.setdefault(envelope.id.hex(), Job(envelope.id.hex(), event))
            if event.evidence is not None:
                self._evidence.add(event.evidence)
            return
        job = self._jobs.get(event.request)
        if job is None or job.ended is not None:
            return
        match event:
            case TrainingStarted():
                job.began = [*job.began, event.at]
                job.started = event
            case DataAssessed():
                job.report = event.report
            case TrainingProgressed():
                job.progress = event
            case TrainingCompleted() | TrainingRejected() | TrainingFailed():
                job.ended = event

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, job: str) -> Job:
        return self._jobs[job]

    def find(self, prefix: str) -> Job:
        """The one job whose id begins with ``prefix``. Raises ``LookupError``."""
        found = [job for name, job in self._jobs.items() if name.startswith(prefix)]
        if len(found) != 1 or not prefix:
            raise LookupError(f"{len(found)} of {len(self)} training jobs begin with {prefix!r}; expected one")
        return found[0]

    def next(self) -> Job | None:
        """What is to run now: what was running when its trainer stopped, else what has waited longest."""
        open_ = [job for job in self if job.ended is None]
        return next((job for job in open_ if job.started is not None), open_[0] if open_ else None)

    def made(self, artifact: str) -> Job | None:
        """The newest job that an artifact came from; the same artifact may come of several."""
        found = [job for job in self if isinstance(job.ended, TrainingCompleted) and job.ended.artifact == artifact]
        return found[-1] if found else None

    def refuses(self, request: TrainingRequested, policy: SetTrainingPolicy) -> str | None:
        """Why a request may not be made now; None where it may. ``request.at`` is now."""
        of_model = [job for job in self if job.request.model == request.model]
        for job in of_model:
            if job.ended is None:
                return f"job {job.id[:12]} for {request.model!r} is {job.state}; wait for it"
        if request.evidence is not None and request.evidence in self._evidence:
            return f"a job was requested because of {request.evidence} before"
        if request.forced:
            return None
        if of_model:
            newest = max(job.request.at for job in of_model)
            ready = newest + policy.cooldown_hours * HOUR_MS
            if request.at < ready:
                hours = (ready - request.at) / HOUR_MS
                return (
                    f"{request.model!r} was asked for less than {policy.cooldown_hours} h ago (the cooldown of the "
                    f"training policy), {hours:.1f} h are left; `--force` sets it aside"
                )
        spent = sum(1 for job in self if job.request.at > request.at - BUDGET_OVER_MS)
        if spent >= policy.budget:
            return (
                f"{spent} jobs within seven days, the budget of the training policy is {policy.budget}; "
                "`--force` sets it aside"
            )
        return None


def scheduled(jobs: Jobs, voting: Mapping[str, int], policy: SetTrainingPolicy, now: int) -> list[str]:
    """The models that are due by schedule. ``voting``: each model with a champion, and since when (ms) it has one:
    what was never asked for is due so long after that."""
    if not policy.schedule_hours:
        return []
    asked = dict(voting)
    for job in jobs:
        model = job.request.model
        if model in asked:
            asked[model] = max(asked[model], job.request.at)
    return sorted(model for model, at in asked.items() if now >= at + policy.schedule_hours * HOUR_MS)
