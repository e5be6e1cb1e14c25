"""Judge recorded scores by another policy, with the core of the gate-evaluator.

The core gets the commands and the scores in the order in which they were recorded. Each candidate is judged every 20 of
its scores, and at each promotion that was made, on the scores recorded until then.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from schemas.codec import Envelope
from schemas.common import ENSEMBLE
from schemas.control import CommandRecorded, Promote, PromotePolicy
from schemas.gates import EvidenceRestarted, Judgement
from schemas.scores import PredictionScored
from services.gate_evaluator.core import CandidateProgress, Evaluator, State
from shared.control import effect_of
from shared.gates.policies import Policy
from shared.runtime.service import Batch, Received

JUDGE_EVERY: Final = 20


class Promotion(NamedTuple):
    """A promotion that was made: its version, the time it was recorded (ms), what was promoted and by whom."""

    version: int
    at: int
    model: str
    artifact: str
    forced: bool
    actor: str


class Mark(Struct, frozen=True):
    """A judgement during a replay: the number of scores of the candidate, the bar (open time, ms), the outcome, and the
    gates that did not pass."""

    scores: int
    bar: int
    outcome: Judgement
    not_passed: tuple[str, ...]


class Candidate(Struct):
    """One candidate under the replayed policy. ``first_passed`` and ``first_failed`` are kept when its evidence
    restarts."""

    model: str
    artifact: str
    champion: str | None
    scores: int = 0
    restarts: int = 0
    newest: Mark | None = None
    first_passed: Mark | None = None
    first_failed: Mark | None = None


class Judged(NamedTuple):
    """A promotion, and how the policy judged its candidate at that time; None: the candidate had no score."""

    promotion: Promotion
    mark: Mark | None


class Replay(Struct):
    """The result of a replay. ``scores``: the number of scores of candidates."""

    policy: Policy
    candidates: dict[str, Candidate] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    scores: int = 0


class Replaying:
    """A replay in progress: the core, and the commands that it has not read yet."""

    def __init__(self, policy: Policy, control: Iterable[Envelope[CommandRecorded]]) -> None:
        self.found = Replay(policy)
        self._waiting = deque(control)
        self._evaluator = Evaluator(policy)
        self._state: State = self._evaluator.initial(b"")

    def apply(self, received: Received, recorded: int) -> None:
        """Apply the next event of ``scores``, written at ``recorded`` (ms), after the commands that were recorded
        before it and those under which it was made."""
        event = received.envelope.event
        while self._waiting and self._before(self._waiting[0].event, event, recorded):
            self._command(self._waiting.popleft())
        for output in self._evaluator.handle(self._state, Batch((), (received,))):
            match output.envelope.event:
                case EvidenceRestarted() as restart:
                    self.found.candidates[f"{restart.model} {restart.artifact}"].restarts += 1
                case _:
                    pass
        if isinstance(event, PredictionScored):
            self._count(event.artifact.hex())

    def finish(self) -> Replay:
        """Judge every candidate a last time, apply the commands after the last score, and return the result."""
        for candidate in self.found.candidates.values():
            self._judge(candidate)
        while self._waiting:
            self._command(self._waiting.popleft())
        return self.found

    def _before(self, entry: CommandRecorded, event: Any, recorded: int) -> bool:
        return entry.at < recorded or (isinstance(event, PredictionScored) and entry.version <= event.control_version)

    def _command(self, envelope: Envelope[CommandRecorded]) -> None:
        entry = envelope.event
        command = effect_of(entry.command)
        match command:
            case Promote(model=model, artifact=artifact):
                self._promoted(entry, model, artifact, forced=command.forced)
            case PromotePolicy(policy=digest):
                self._promoted(entry, ENSEMBLE, digest, forced=command.forced)
            case _:
                pass
        self._evaluator.apply(self._state, Batch((envelope,), ()))

    def _promoted(self, entry: CommandRecorded, model: str, artifact: str, *, forced: bool) -> None:
        made = Promotion(entry.version, entry.at, model, artifact, forced, entry.actor)
        candidate = self.found.candidates.get(f"{model} {artifact}")
        self.found.judged.append(Judged(made, None if candidate is None else self._judge(candidate)))

    def _count(self, artifact: str) -> None:
        progress = self._state.progress(artifact)
        if progress is None:
            return
        name = f"{progress.model} {artifact}"
        candidate = self.found.candidates.get(name)
        if candidate is None:
            candidate = self.found.candidates[name] = Candidate(progress.model, artifact, progress.champion)
        if (candidate.scores, candidate.champion) != (progress.scores, progress.champion):
            candidate.scores, candidate.champion = progress.scores, progress.champion
            self.found.scores += 1
            if progress.scores % JUDGE_EVERY == 0:
                self._judge(candidate, progress)

    def _judge(self, candidate: Candidate, progress: CandidateProgress | None = None) -> Mark | None:
        """Judge a candidate now and return the judgement; its last one if it is no longer in shadow."""
        progress = progress or self._state.progress(candidate.artifact)
        if progress is None:
            return candidate.newest
        verdict = self._state.judge(candidate.artifact)
        open_ = tuple(gate.name for gate in verdict.gates if gate.outcome != "passed")
        mark = Mark(progress.scores, progress.until, verdict.outcome, open_)
        candidate.newest = mark
        if mark.outcome == "passed":
            candidate.first_passed = candidate.first_passed or mark
        if mark.outcome == "failed":
            candidate.first_failed = candidate.first_failed or mark
        return mark
