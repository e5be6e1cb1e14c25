"""Recorded scores through the gate-evaluator's own core once more, judged by another policy.

There is one path from scores to verdicts, the core; this hands it the commands and the scores as they
were recorded, and notes where each candidate stood: every 20 of its scores, and at each promotion that
was really made, on the scores that were on the log by then.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from schemas.codec import Envelope
from schemas.control import CommandRecorded, Promote
from schemas.gates import EvidenceRestarted, Judgement
from schemas.scores import PredictionScored
from services.gate_evaluator.core import CandidateProgress, Evaluator, State
from shared.gates.policies import Policy
from shared.runtime.service import Batch, Received

LOOK_EVERY: Final = 20


class Promotion(NamedTuple):
    """A promotion that was made: its version, when it was recorded (ms), of what, by whom."""

    version: int
    at: int
    model: str
    artifact: str
    forced: bool
    actor: str


class Mark(Struct, frozen=True):
    """A moment of a replay: after how many scores of the candidate, at which bar (open time, ms), what was
    said, and which gates did not pass."""

    scores: int
    bar: int
    outcome: Judgement
    not_passed: tuple[str, ...]


class Candidate(Struct):
    """One candidate under the replayed policy. ``first_passed`` and ``first_failed`` outlive restarts."""

    model: str
    artifact: str
    champion: str | None
    scores: int = 0
    restarts: int = 0
    newest: Mark | None = None
    first_passed: Mark | None = None
    first_failed: Mark | None = None


class Judged(NamedTuple):
    """A promotion, and what the policy said of its candidate at that moment; None: it had no score."""

    promotion: Promotion
    mark: Mark | None


class Replay(Struct):
    """What a replay found. ``scores``: how many of candidates were taken."""

    policy: Policy
    candidates: dict[str, Candidate] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    scores: int = 0


class Replaying:
    """The core, and the commands that lie ahead of it."""

    def __init__(self, policy: Policy, control: Iterable[Envelope[CommandRecorded]]) -> None:
        self.found = Replay(policy)
        self._waiting = deque(control)
        self._evaluator = Evaluator(policy)
        self._state: State = self._evaluator.initial(b"")

    def take(self, received: Received, recorded: int) -> None:
        """The next event of ``scores``, written at ``recorded`` (ms). Commands that were recorded before it,
        and those that it was made under, come first."""
        event = received.envelope.event
        while self._waiting and self._before(self._waiting[0].event, event, recorded):
            self._command(self._waiting.popleft())
        for output in self._evaluator.handle(self._state, Batch((), (received,))):
            match output.envelope.event:
                case EvidenceRestarted() as anew:
                    self.found.candidates[f"{anew.model} {anew.artifact}"].restarts += 1
                case _:
                    pass
        if isinstance(event, PredictionScored):
            self._note(event.artifact.hex())

    def finish(self) -> Replay:
        """A last look at everything, and at the promotions behind the last score."""
        for candidate in self.found.candidates.values():
            self._look(candidate)
        while self._waiting:
            self._command(self._waiting.popleft())
        return self.found

    def _before(self, entry: CommandRecorded, event: Any, recorded: int) -> bool:
        return entry.at < recorded or (isinstance(event, PredictionScored) and entry.version <= event.control_version)

    def _command(self, envelope: Envelope[CommandRecorded]) -> None:
        entry = envelope.event
        command = entry.command
        if isinstance(command, Promote):
            made = Promotion(entry.version, entry.at, command.model, command.artifact, command.forced, entry.actor)
            candidate = self.found.candidates.get(f"{command.model} {command.artifact}")
            self.found.judged.append(Judged(made, None if candidate is None else self._look(candidate)))
        self._evaluator.apply(self._state, Batch((envelope,), ()))

    def _note(self, artifact: str) -> None:
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
            if progress.scores % LOOK_EVERY == 0:
                self._look(candidate, progress)

    def _look(self, candidate: Candidate, progress: CandidateProgress | None = None) -> Mark | None:
        """What is said now; of one that is let go, what was said last."""
        progress = progress or self._state.progress(candidate.artifact)
        if progress is None:
            return candidate.newest
        found = self._state.judge(candidate.artifact)
        open_ = tuple(one.name for one in found.gates if one.outcome != "passed")
        mark = Mark(progress.scores, progress.until, found.outcome, open_)
        candidate.newest = mark
        if mark.outcome == "passed":
            candidate.first_passed = candidate.first_passed or mark
        if mark.outcome == "failed":
            candidate.first_failed = candidate.first_failed or mark
        return mark
