"""What another policy would have said: recorded scores folded through the gates once more.

The folds are those of ``shared.gates``, with the scales of a candidate that has no backtest. Looked at
every 20 scores of a candidate, whenever a block closes, and at each promotion that was really made: on
the scores that were on the log by then.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, field

from schemas.scores import BallotMissing, PredictionScored, PredictionUnscored, ScoreEvent
from shared.gates import classic, default, evidence
from shared.gates.classic import ClassicPolicy, Tally
from shared.gates.evidence import Evidence
from shared.gates.policies import OTHERS
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import Key, Plan, row_of
from shared.gates.verdicts import Judgement, Outcome
from shared.report.fold import block_of

Policy = DefaultPolicy | ClassicPolicy
POLICIES: Final[Mapping[str, type[Policy]]] = {"default": DefaultPolicy, "classic": ClassicPolicy}
LOOK_EVERY: Final = 20
Shadows = Callable[[int], frozenset[str] | None]
"""The artifacts in shadow under a version of the configuration; None where it is not known."""


class PolicyFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy as a file has it, and as ``SetGatePolicy`` sets it."""

    name: str
    parameters: dict[str, bool | int | float | str] = {}


def policy_of(name: str, parameters: Mapping[str, Any]) -> Policy:
    """The thresholds of this name with these parameters; what a policy may do and what outcomes cost is
    passed over. Raises ``ValueError``, which names what there is."""
    kind = POLICIES.get(name)
    if kind is None:
        raise ValueError(f"no gate policy {name!r}; there are {', '.join(POLICIES)}")
    known = set(kind.__struct_fields__)
    if unknown := sorted(set(parameters) - known - OTHERS):
        raise ValueError(f"policy {name!r} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    try:
        return msgspec.convert({k: v for k, v in parameters.items() if k in known}, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"policy {name!r}: {error}") from None


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
    outcome: Outcome
    not_passed: tuple[str, ...]


class Candidate(Struct):
    """One candidate under the replayed policy. ``first_passed`` and ``first_failed`` outlive restarts."""

    model: str
    artifact: str
    champion: str | None
    state: Evidence | Tally
    scores: int = 0
    bar: int = 0
    version: int = 0
    restarts: int = 0
    newest: Mark | None = None
    first_passed: Mark | None = None
    first_failed: Mark | None = None


class Judged(NamedTuple):
    """A promotion, and what the policy said of its candidate at that moment; None: it had no score."""

    promotion: Promotion
    mark: Mark | None


class Replay(Struct):
    """The fold. ``waiting``: promotions that lie ahead, the next one last; ``latest``: the newest bar in
    any score."""

    policy: Policy
    waiting: list[Promotion]
    candidates: dict[str, Candidate] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    scores: int = 0
    latest: int = -1


def begin(policy: Policy, promotions: list[Promotion]) -> Replay:
    """Nothing read yet."""
    return Replay(policy, sorted(promotions, key=lambda one: -one.at))


def evolve(replay: Replay, event: ScoreEvent, recorded: int, shadows: Shadows = lambda _: None) -> Replay:
    """Takes the next event of ``scores``; ``recorded`` (ms) is when it was written. In place."""
    while replay.waiting and replay.waiting[-1].at < recorded:
        _judge_promotion(replay, replay.waiting.pop(), shadows)
    match event:
        case PredictionUnscored(role="shadow", reason="failed") | BallotMissing(role="shadow", detail="silent"):
            known = replay.candidates.get(f"{event.model} {event.artifact.hex()}")
            if known is not None and isinstance(known.state, Evidence):
                evidence.fail(known.state)
        case _:
            pass
    if not isinstance(event, PredictionScored):
        return replay
    replay.latest = max(replay.latest, event.open_time)
    if event.role != "shadow":
        return replay
    candidate = _candidate(replay, event)
    if candidate is None:
        return replay
    replay.scores += 1
    candidate.scores += 1
    candidate.bar = max(candidate.bar, event.open_time)
    candidate.version = max(candidate.version, event.control_version)
    if _fold(candidate.state, event) or candidate.scores % LOOK_EVERY == 0:
        _look(replay, candidate, shadows)
    return replay


def finish(replay: Replay, shadows: Shadows = lambda _: None) -> Replay:
    """A last look at everything, and at the promotions behind the last score."""
    for candidate in replay.candidates.values():
        _look(replay, candidate, shadows)
    while replay.waiting:
        _judge_promotion(replay, replay.waiting.pop(), shadows)
    return replay


def _candidate(replay: Replay, event: PredictionScored) -> Candidate | None:
    """The candidate, begun anew where its champion changed; None: a row about a champion that is gone."""
    name = f"{event.model} {event.artifact.hex()}"
    champion = event.incumbent_artifact.hex() if event.incumbent_artifact else None
    candidate = replay.candidates.get(name)
    if candidate is None:
        state = _begin(replay.policy, event, champion)
        candidate = Candidate(event.model, event.artifact.hex(), champion, state)
        replay.candidates[name] = candidate
    elif champion is not None and candidate.champion is None:
        candidate.champion = champion
    elif champion is not None and champion != candidate.champion:
        if event.control_version <= candidate.version:
            return None
        candidate.state = _begin(replay.policy, event, champion)
        candidate.champion, candidate.scores = champion, 0
        candidate.restarts += 1
    return candidate


def _begin(policy: Policy, event: PredictionScored, champion: str | None) -> Evidence | Tally:
    if isinstance(policy, ClassicPolicy):
        return classic.begin(policy)
    key = Key(event.model, event.artifact.hex(), champion or "", "", "", "")
    return evidence.begin(Plan(key, event.horizon, event.interval_ms), policy.margin, block_of(policy, event))


def _fold(state: Evidence | Tally, event: PredictionScored) -> bool:
    """Takes a row; whether it closed a block. Latency counts where bars are live: a backlog has none."""
    row = row_of(event)
    if isinstance(state, Tally):
        classic.evolve(state, row)
        return False
    before = state.blocks.closed
    evidence.evolve(state, row if event.origin == "live" else row._replace(latency_ms=None))
    return state.blocks.closed != before


def _judge(replay: Replay, candidate: Candidate, shadows: Shadows) -> Judgement:
    if isinstance(candidate.state, Tally):
        assert isinstance(replay.policy, ClassicPolicy)
        return classic.judge(candidate.state, replay.policy)
    assert isinstance(replay.policy, DefaultPolicy)
    watched = shadows(candidate.version)
    rivals = {
        other.artifact: default.claim(other.state)
        for other in replay.candidates.values()
        if isinstance(other.state, Evidence)
        and other.model == candidate.model
        and (other is candidate or watched is None or other.artifact in watched)
    }
    return default.judge(candidate.state, replay.policy, latest=replay.latest, rivals=rivals)


def _look(replay: Replay, candidate: Candidate, shadows: Shadows) -> Mark:
    found = _judge(replay, candidate, shadows)
    open_ = tuple(one.name for one in found.gates if one.outcome != "passed")
    mark = Mark(candidate.scores, candidate.bar, found.outcome, open_)
    candidate.newest = mark
    if mark.outcome == "passed" and candidate.first_passed is None:
        candidate.first_passed = mark
    if mark.outcome == "failed" and candidate.first_failed is None:
        candidate.first_failed = mark
    return mark


def _judge_promotion(replay: Replay, promotion: Promotion, shadows: Shadows) -> None:
    candidate = replay.candidates.get(f"{promotion.model} {promotion.artifact}")
    mark = _look(replay, candidate, shadows) if candidate is not None else None
    replay.judged.append(Judged(promotion, mark))
