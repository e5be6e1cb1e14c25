"""Scores in, verdicts out. Pure; the package's docstring has the rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from schemas.codec import Envelope, Sealed, seal
from schemas.features import FeaturesComputed
from schemas.gates import ActionDue, EvidenceRestarted, GuardTripped, WeightsProposed
from schemas.scores import BallotMissing, PredictionScored, PredictionUnscored
from services.gate_evaluator import candidates, decay, intake, learning, watch, worth
from services.gate_evaluator.candidates import EVERY, LOOK, Candidate, finite
from services.gate_evaluator.state import Memory, Standing, State
from services.gate_evaluator.watch import CONFIRM_BLOCKS, Watch
from shared.control import fold
from shared.control.state import Model
from shared.gates.policies import Policy, chosen
from shared.gates.rows import Key
from shared.service import Batch

__all__ = ["GROUP", "Evaluator", "Standing", "State"]

GROUP: Final = "gate-evaluator"
ORDER: Final = {"continue": 0, "demote": 1, "rollback": 2}
Changed = Literal["candidate", "champion", "feature_set", "label", "policy"]


class Evaluator:
    """The gate-evaluator as the runtime hosts it. ``policy``: judge by this one, whatever control says: a
    replay."""

    group = GROUP
    reads: tuple[str, ...] = ("scores", "features")
    follows_control = True
    ticks = 0
    rest_ms = 500

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy

    def begin(self, memo: bytes) -> State:
        """Goes on from what was remembered: the statistics are the memo."""
        return State(msgspec.msgpack.decode(memo, type=Memory) if memo else Memory(), self._policy)

    def memo(self, state: State) -> bytes:
        """The statistics."""
        return msgspec.msgpack.encode(state.memory)

    def since(self, state: State) -> Mapping[str, str]:
        """Nothing is read again."""
        return {}

    def absorb(self, state: State, batch: Batch) -> None:
        """Commands alone: scores are in the memo."""
        _configure(state, batch)

    def handle(self, state: State, batch: Batch) -> Sequence[Sealed]:
        """Takes in commands, then each score."""
        _configure(state, batch)
        outputs: list[Sealed] = []
        for received in batch.events:
            outputs += _take(state, received.envelope)
        return outputs


def _configure(state: State, batch: Batch) -> None:
    for envelope in batch.control:
        state.control = fold(state.control, envelope.event)
    if batch.control or not state.by_set:
        _dismiss(state)
        _take_in(state)


def _dismiss(state: State) -> None:
    """Lets go of artifacts that are neither in shadow nor vote any more."""
    slots = state.control.models
    used = {artifact for slot in slots.values() for artifact in slot.shadows}
    champions = {name: slot.champion for name, slot in slots.items()}
    memory = state.memory
    for artifact in [artifact for artifact in memory.candidates if artifact not in used]:
        del memory.candidates[artifact]
    for model in [model for model, one in memory.watches.items() if champions.get(model) != one.artifact]:
        del memory.watches[model]
    for model in [model for model in memory.decays if champions.get(model) is None]:
        del memory.decays[model]


def _take_in(state: State) -> None:
    """An intake for each artifact that votes or is in shadow, and for no other."""
    active = {
        artifact
        for slot in state.control.models.values()
        for artifact in (slot.champion, *slot.shadows)
        if artifact is not None
    }
    memory, state.by_set = state.memory, {}
    for gone in memory.intakes.keys() - active:
        del memory.intakes[gone]
    for artifact in sorted(active):
        known = state.control.artifacts[artifact]
        held = memory.intakes.get(artifact) or intake.begin(known)
        if held is not None:
            memory.intakes[artifact] = held
            state.by_set.setdefault(bytes.fromhex(known.feature_set), []).append(held)


def _take(state: State, envelope: Envelope[Any]) -> Iterator[Sealed]:
    match envelope.event:
        case FeaturesComputed() as vector:
            for held in state.by_set.get(vector.feature_set, ()):
                said = intake.take(held, vector, envelope.id.hex())
                if said is not None:
                    yield _caused(envelope, said)
        case PredictionScored() as score:
            state.memory.latest = max(state.memory.latest, score.open_time)
            yield from _judge(state, envelope)
            yield from _guard(state, envelope)
            yield from _learn(state, envelope)
            yield from _value(state, envelope)
            yield from _decay(state, envelope)
        case PredictionUnscored(reason="failed") as unscored:
            yield from _missed(state, envelope, unscored.model, unscored.artifact.hex())
        case BallotMissing(detail="silent") as missing:
            yield from _missed(state, envelope, missing.model, missing.artifact.hex())
        case _:
            pass


def _missed(state: State, envelope: Envelope[Any], model: str, artifact: str) -> Iterator[Sealed]:
    """A prediction that should have come and did not. A champion that falls silent has no more scores: its
    guards are looked at here too."""
    candidate = state.memory.candidates.get(artifact)
    if candidate is not None:
        candidates.fail(candidate)
    watched = state.memory.watches.get(model)
    if watched is not None and watched.artifact == artifact:
        watch.fail(watched)
        yield from _alarms(state, envelope, watched)


def _judge(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Sealed]:
    """A score of an artifact in shadow, and the verdict if it is time for one."""
    score, version = envelope.event, envelope.event.control_version
    artifact = score.artifact.hex()
    slot = state.past(version).models.get(score.model, Model())
    now = state.control.models.get(score.model, Model())
    if artifact not in slot.shadows or artifact not in now.shadows:
        return
    policy = state.policy(version)
    held = state.memory.candidates.get(artifact)
    label = (score.horizon, score.kappa, score.interval_ms)
    if held is None or version != held.version or label != held.label:  # else its key cannot have changed
        key = _key(score, slot, state.control.artifacts[artifact].feature_set, policy)
        if held is not None and version < held.version and key != held.key:
            return
        if held is None or key != held.key:
            if held is not None:
                yield _caused(envelope, _restarted(held, key, policy, version))
            backtest = state.control.artifacts[artifact].backtest
            held = state.memory.candidates[artifact] = candidates.begin(key, version, policy, score, backtest)
    held.version = max(held.version, version)
    candidates.take(held, score, envelope.id.hex())
    if held.scores % LOOK:
        return
    found = state.judged(held.key.artifact)
    if (held.said and found.outcome != held.overall) or held.scores - held.said >= EVERY:
        yield _caused(envelope, candidates.verdict(held, policy, found, version))


def _key(score: PredictionScored, slot: Model, feature_set: str, policy: Policy) -> Key:
    label = f"vfh1/{score.horizon}/{score.kappa!r}/{score.interval_ms}"
    return Key(score.model, score.artifact.hex(), slot.champion or "", feature_set, label, policy.digest)


def _restarted(held: Candidate, key: Key, policy: Policy, version: int) -> EvidenceRestarted:
    pairs: tuple[tuple[Changed, str, str], ...] = (
        ("candidate", held.key.model, key.model),
        ("champion", held.key.champion, key.champion),
        ("feature_set", held.key.feature_set, key.feature_set),
        ("label", held.key.label, key.label),
        ("policy", held.key.policy, key.policy),
    )
    changed = tuple(name for name, before, after in pairs if before != after)
    return EvidenceRestarted(key.model, key.artifact, changed, policy.name, policy.digest, held.scores, version)


def _guard(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Sealed]:
    """A score of a champion that replaced another, or of the one it replaced."""
    score, version = envelope.event, envelope.event.control_version
    slot = state.past(version).models.get(score.model, Model())
    held = state.memory.watches.get(score.model)
    if slot.champion is None or not slot.before or (held is not None and version < held.version):
        return
    ghost = state.past(slot.before).models[score.model].champion or ""
    now = state.control.models.get(score.model, Model())
    if score.artifact.hex() not in {slot.champion, ghost} or now.champion != slot.champion:
        return
    if held is None or (held.artifact, held.ghost) != (slot.champion, ghost):
        held = state.memory.watches[score.model] = watch.begin(score.model, slot.champion, ghost, version, score)
    watch.take(held, score, envelope.id.hex())
    yield from _alarms(state, envelope, held)


def _alarms(state: State, envelope: Envelope[Any], held: Watch) -> Iterator[Sealed]:
    """What the guards say, every so often, where it is graver than what was said before; and what is due
    then."""
    if held.seen % watch.LOOK:
        return
    found = watch.findings(held, state.memory.latest, state.control.partitions)
    grave = max(found, key=lambda one: ORDER[one.stage])
    if ORDER[grave.stage] > ORDER[held.stage]:
        held.stage = grave.stage
        tripped = GuardTripped(
            held.model,
            held.artifact,
            held.ghost or None,
            grave.guard,
            "rollback" if grave.stage == "rollback" else "step_down",
            finite(grave.value),
            grave.threshold,
            grave.samples,
            grave.detail,
            held.last_score or envelope.id.hex(),
            state.control.version,
        )
        sealed = _caused(envelope, tripped)
        yield sealed
        what = f"guard {grave.guard}: {grave.value:g} of {grave.threshold:g} after {grave.samples} {grave.detail}"
        yield _due(state, sealed.envelope, held, "rollback" if grave.stage == "rollback" else "step_down", what)
    calm = held.stage == "continue" and held.guard.watch.blocks >= CONFIRM_BLOCKS
    probation = state.control.probations.get(held.model)
    if calm and not held.confirmed and probation is not None and probation.artifact == held.artifact:
        held.confirmed = True
        what = f"no alarm in {held.guard.watch.blocks} blocks beside the champion it replaced"
        yield _due(state, envelope, held, "confirm_promotion", what)


def _due(
    state: State,
    evidence: Envelope[Any],
    held: Watch,
    action: Literal["rollback", "step_down", "confirm_promotion"],
    reason: str,
) -> Sealed:
    """The command that follows, by whoever may issue it. The policy in force now says who may; where each of
    several partitions sees its own symbols alone, one may take back, and nothing else."""
    policy = chosen(state.control.gate)
    kind = {"rollback": "rollback", "step_down": "steps", "confirm_promotion": "confirm"}
    acts = kind[action] in policy.acts and (action != "rollback" or bool(held.ghost))
    acts = acts and (action != "step_down" or state.control.ladder.automatic)
    acts = acts and (action == "rollback" or state.control.partitions == 1)
    event = ActionDue(held.model, held.artifact, action, acts, evidence.id.hex(), reason[:2000], state.control.version)
    return seal("gates", event, causation=evidence.id, correlation=evidence.correlation, flags=evidence.flags)


def _learn(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Sealed]:
    """A voting member's score moves the weights, at the end of a block."""
    score = envelope.event
    if score.role != "voting":
        return
    memory, version = state.memory, score.control_version
    past = state.past(version)
    memory.learner = learning.follow(
        memory.learner, version, past.models, state.control.artifacts, past.policy.temperature, score
    )
    step = learning.take(memory.learner, score) if memory.learner is not None else None
    if step is not None and memory.learner is not None:
        acts = "weights" in chosen(state.control.gate).acts and state.control.partitions == 1
        yield _caused(
            envelope,
            WeightsProposed(
                step.weights,
                memory.learner.fold.steps,
                memory.latest,
                acts,
                envelope.id.hex(),
                state.control.version,
            ),
        )


def _value(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Sealed]:
    """A voting member's score counts towards what each is worth."""
    score = envelope.event
    if score.role != "voting":
        return
    memory, version = state.memory, score.control_version
    memory.measure = worth.follow(memory.measure, version, state.past(version), state.control.artifacts)
    if memory.measure is not None:
        said = worth.take(memory.measure, score, envelope.id.hex(), version)
        if said is not None:
            yield _caused(envelope, said)


def _decay(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Sealed]:
    """A voting member's score tells whether it still earns what it did."""
    score = envelope.event
    artifact, held = score.artifact.hex(), state.memory.decays.get(score.model)
    if score.role != "voting" or (held is not None and score.control_version < held.version):
        return
    if held is None or held.artifact != artifact:
        backtest = state.control.artifacts[artifact].backtest
        scale = None if backtest is None else backtest.scale
        held = state.memory.decays[score.model] = decay.begin(score, scale)
    said = decay.take(held, score, envelope.id.hex())
    if said is not None:
        yield _caused(envelope, said)


def _caused(envelope: Envelope[Any], event: Any) -> Sealed:
    return seal("gates", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
