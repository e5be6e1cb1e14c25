"""Scores in, verdicts out. Pure; the package's docstring has the rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from schemas.codec import Encoded, Envelope
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.gates import EvidenceRestarted, WeightsProposed
from schemas.scores import BallotMissing, PredictionScored, PredictionUnscored
from services.gate_evaluator import alarms, candidates, contribution, decay, guard_state, input_drift, weight_learning
from services.gate_evaluator.candidates import EVERY, LOOK, Candidate
from services.gate_evaluator.events import caused
from services.gate_evaluator.state import Memory, Standing, State
from shared.control import ControlError, fold
from shared.control.state import Model
from shared.gates.policies import Policy
from shared.gates.rows import Key
from shared.runtime.service import Batch

__all__ = ["GROUP", "Evaluator", "Standing", "State"]

GROUP: Final = "gate-evaluator"
Changed = Literal["candidate", "champion", "feature_set", "label", "policy"]


class Evaluator:
    """The gate-evaluator as the runtime hosts it. ``policy``: judge by this one, whatever control says: a
    replay."""

    group = GROUP
    reads: tuple[str, ...] = ("scores", "features")
    follows_control = True
    ticks = 0
    poll_ms = 500

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy

    def initial(self, memo: bytes) -> State:
        """Goes on from what was remembered: the statistics are the memo."""
        return State(Memory.read(memo), self._policy)

    def snapshot(self, state: State) -> bytes:
        """The statistics."""
        return msgspec.msgpack.encode(state.memory)

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Nothing is read again."""
        return {}

    def apply(self, state: State, batch: Batch) -> None:
        """Takes in commands alone: scores are in the memo."""
        _configure(state, batch)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Takes in commands, which change nothing by themselves, then each event under its stamp."""
        _configure(state, batch)
        if batch.events:
            _catch_up(state)
        outputs: list[Encoded] = []
        for received in batch.events:
            outputs += _take(state, received.envelope)
        return outputs


def _configure(state: State, batch: Batch) -> None:
    for envelope in batch.control:
        state.control = fold(state.control, envelope.event)


def _catch_up(state: State) -> None:
    """After a restart: the roles under the stamps that the memo had reached."""
    memory = state.memory
    if (state.roles.version, state.fed.version) == (memory.version, memory.fed):
        return
    reached = max(memory.version, memory.fed)
    if reached > state.control.version:
        raise ControlError(
            f"the evidence was collected up to version {reached} of control, which ends at {state.control.version}: "
            "the control log lost its last entries (`conclave verify --layer control`)"
        )
    state.roles.advance(state.control, memory.version)
    state.fed.advance(state.control, memory.fed)
    state.sort_intakes()


def _take(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    match envelope.event:
        case FeaturesComputed() | FeaturesWithheld() | BarsMissing():
            yield from _feed(state, envelope)
        case _:
            yield from _advance(state, envelope)
            yield from _take_score(state, envelope)


def _feed(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    """A vector, for every artifact that is active under its stamp. A vector without a stamp counts under the newest
    stamp before it: an older release wrote it."""
    event = envelope.event
    if event.control_head is not None and event.control_version > state.memory.fed:
        _follow_inputs(state, event.control_version)
    if isinstance(event, FeaturesComputed):
        for held in state.by_set.get(event.feature_set, ()):
            drifted = input_drift.take(held, event, envelope.id.hex())
            if drifted is not None:
                yield caused(envelope, drifted)


def _follow_inputs(state: State, version: int) -> None:
    """A newer stamp on ``features``: keep an intake for each artifact that has been active since the stamp before,
    and begin one for each that became active."""
    memory, before = state.memory, state.memory.fed
    state.fed.advance(state.control, version)
    memory.fed = version
    for artifact in [artifact for artifact in memory.intakes if not state.fed.is_active(artifact, before)]:
        del memory.intakes[artifact]
    for artifact in state.fed.active:
        begun = None if artifact in memory.intakes else input_drift.begin(state.control.artifacts[artifact])
        if begun is not None:
            memory.intakes[artifact] = begun
    state.sort_intakes()


def _advance(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    """A newer stamp on ``scores``: let go of the evidence about every role that was lost since the stamp before, and
    write where an artifact is in shadow again whose evidence was let go."""
    memory, before, version = state.memory, state.memory.version, envelope.event.control_version
    if version <= before:
        return
    roles = state.roles
    roles.advance(state.control, version)
    memory.version = version
    for artifact in [artifact for artifact in memory.candidates if not roles.in_shadow(artifact, before)]:
        memory.released[artifact] = memory.candidates.pop(artifact).scores
    for watched in list(memory.watches.values()):
        if not roles.is_champion(watched.model, watched.artifact, before):
            del memory.watches[watched.model]
    for model, held in list(memory.decays.items()):
        if not roles.is_champion(model, held.artifact, before):
            del memory.decays[model]
    for artifact in sorted(memory.released):
        if state.control.retired.get(artifact, version + 1) <= version:
            del memory.released[artifact]  # for good
        elif artifact in roles.shadows:
            yield caused(envelope, _in_shadow_again(state, artifact))


def _in_shadow_again(state: State, artifact: str) -> EvidenceRestarted:
    memory, policy = state.memory, state.policy(state.memory.version)
    return EvidenceRestarted(
        model=state.control.artifacts[artifact].model,
        artifact=artifact,
        changed=("candidate",),
        policy=policy.name,
        policy_digest=policy.digest,
        scores=memory.released.pop(artifact),
        control_version=memory.version,
    )


def _take_score(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    match envelope.event:
        case PredictionScored() as score:
            state.memory.latest = max(state.memory.latest, score.open_time)
            yield from _judge(state, envelope)
            yield from alarms.observe(state, envelope)
            if score.role == "voting":
                yield from _learn(state, envelope)
                yield from _value(state, envelope)
                yield from _decay(state, envelope)
        case PredictionUnscored(reason="failed") | BallotMissing(detail="silent"):
            yield from _missed(state, envelope)
        case _:
            pass


def _missed(state: State, envelope: Envelope[PredictionUnscored] | Envelope[BallotMissing]) -> Iterator[Encoded]:
    """A prediction that should have come and did not. A champion that falls silent has no more scores: its
    guards are looked at here too."""
    event, version = envelope.event, envelope.event.control_version
    model, artifact = event.model, event.artifact.hex()
    held = state.memory.candidates.get(artifact) if state.roles.in_shadow(artifact, version) else None
    if held is not None:
        earlier = version < held.version
        if not earlier or _key(state, version, model, artifact, held.key.label) == held.key:
            candidates.fail(held)
    watched = state.memory.watches.get(model)
    if watched is not None and watched.artifact == artifact and state.roles.is_champion(model, artifact, version):
        guard_state.fail(watched)
        yield from alarms.conclude(state, envelope, watched)


def _judge(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """A score of an artifact in shadow, and the verdict if it is time for one. A score counts where its stamp lies
    within the artifact's present run in shadow, and is not about what its evidence was about before."""
    score, version = envelope.event, envelope.event.control_version
    artifact = score.artifact.hex()
    if not state.roles.in_shadow(artifact, version):
        return
    policy = state.policy(version)
    held = state.memory.candidates.get(artifact)
    label = (score.horizon, score.kappa, score.interval_ms)
    if held is None or version != held.version or label != held.label:  # else its key cannot have changed
        key = _key(state, version, score.model, artifact, f"vfh1/{score.horizon}/{score.kappa!r}/{score.interval_ms}")
        if held is not None and version < held.version and key != held.key:
            return
        if held is None or key != held.key:
            if held is not None:
                yield caused(envelope, _restarted(held, key, policy, version))
            backtest = state.control.artifacts[artifact].backtest
            held = state.memory.candidates[artifact] = candidates.begin(key, version, policy, score, backtest)
    held.version = max(held.version, version)
    candidates.take(held, score, envelope.id.hex())
    if held.scores % LOOK:
        return
    found = state.judged(held.key.artifact)
    if (held.said and found.outcome != held.overall) or held.scores - held.said >= EVERY:
        yield caused(envelope, candidates.verdict(held, policy, found, version))


def _key(state: State, version: int, model: str, artifact: str, label: str) -> Key:
    champion = state.past(version).models.get(model, Model()).champion or ""
    feature_set = state.control.artifacts[artifact].feature_set
    return Key(model, artifact, champion, feature_set, label, state.policy(version).digest)


def _restarted(held: Candidate, key: Key, policy: Policy, version: int) -> EvidenceRestarted:
    pairs: tuple[tuple[Changed, str, str], ...] = (
        ("candidate", held.key.model, key.model),
        ("champion", held.key.champion, key.champion),
        ("feature_set", held.key.feature_set, key.feature_set),
        ("label", held.key.label, key.label),
        ("policy", held.key.policy, key.policy),
    )
    changed = tuple(name for name, before, after in pairs if before != after)
    return EvidenceRestarted(
        model=key.model,
        artifact=key.artifact,
        changed=changed,
        policy=policy.name,
        policy_digest=policy.digest,
        scores=held.scores,
        control_version=version,
    )


def _learn(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """A voting member's score moves the weights, at the end of a block."""
    score = envelope.event
    memory, version = state.memory, score.control_version
    past = state.past(version)
    memory.learner = weight_learning.follow(
        memory.learner, version, past.models, state.control.artifacts, past.policy.temperature, score
    )
    step = weight_learning.take(memory.learner, score) if memory.learner is not None else None
    if step is not None and memory.learner is not None:
        acts = "weights" in state.policy(memory.version).acts and state.in_force.partitions == 1
        proposed = WeightsProposed(
            weights=step.weights,
            blocks=memory.learner.fold.steps,
            until=memory.latest,
            acts=acts,
            last_score=envelope.id.hex(),
            control_version=memory.version,
        )
        yield caused(envelope, proposed)


def _value(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """A voting member's score counts towards what each is worth."""
    score = envelope.event
    memory, version = state.memory, score.control_version
    memory.measure = contribution.follow(memory.measure, version, state.past(version), state.control.artifacts)
    if memory.measure is not None:
        said = contribution.take(memory.measure, score, envelope.id.hex(), version)
        if said is not None:
            yield caused(envelope, said)


def _decay(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """A voting member's score shows whether it still earns what it did. A score counts where its stamp lies within
    the champion's present run."""
    score, artifact = envelope.event, envelope.event.artifact.hex()
    if not state.roles.is_champion(score.model, artifact, score.control_version):
        return
    held = state.memory.decays.get(score.model)
    if held is None:
        backtest = state.control.artifacts[artifact].backtest
        scale = None if backtest is None else backtest.scale
        held = state.memory.decays[score.model] = decay.begin(score, scale)
    said = decay.take(held, score, envelope.id.hex())
    if said is not None:
        yield caused(envelope, said)
