"""Fold scores and features, and return verdicts. Pure; the package's docstring has the rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from schemas.codec import Encoded, Envelope
from schemas.common import ENSEMBLE
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.gates import EvidenceRestarted, WeightsProposed
from schemas.scores import BallotMissing, PredictionScored, PredictionUnscored
from services.gate_evaluator import (
    candidates,
    contribution,
    decay,
    guard_actions,
    guard_state,
    input_drift,
    weight_learning,
)
from services.gate_evaluator.candidates import CHECK_EVERY, WRITE_EVERY, Candidate
from services.gate_evaluator.events import caused
from services.gate_evaluator.state import CandidateProgress, Memory, State
from shared.control import ControlError, fold
from shared.control.policies import policy_digest
from shared.control.state import Model
from shared.gates.policies import Policy
from shared.gates.rows import UNKNOWN_REFERENCES, VOTES, Key, References, Scales
from shared.runtime.service import Batch

__all__ = ["GROUP", "CandidateProgress", "Evaluator", "State"]

GROUP: Final = "gate-evaluator"
Changed = Literal["candidate", "champion", "feature_set", "label", "policy"]


class Evaluator:
    """The core of the gate-evaluator. ``policy``: for a replay, a policy that is used in place of those of control."""

    group = GROUP
    reads: tuple[str, ...] = ("scores", "features")
    follows_control = True
    ticks = 0
    poll_ms = 500

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy

    def initial(self, memo: bytes) -> State:
        """Return the state that a memo holds."""
        return State(Memory.read(memo), self._policy)

    def snapshot(self, state: State) -> bytes:
        """Return the memo, which holds all statistics."""
        return msgspec.msgpack.encode(state.memory)

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return nothing: no entry is read again after a restart."""
        return {}

    def apply(self, state: State, batch: Batch) -> None:
        """Fold the commands. The scores are in the memo."""
        _configure(state, batch)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Fold the commands, which by themselves change nothing, then each event under its stamp."""
        _configure(state, batch)
        if batch.events:
            _restore_roles(state)
        outputs: list[Encoded] = []
        for received in batch.events:
            outputs += _handle(state, received.envelope)
        return outputs


def _configure(state: State, batch: Batch) -> None:
    for envelope in batch.control:
        state.control = fold(state.control, envelope.event)


def _restore_roles(state: State) -> None:
    """After a restart, restore the roles under the stamps of the memo. Raises ``ControlError`` if control ends before
    them."""
    memory = state.memory
    if (state.roles.version, state.features_roles.version) == (memory.version, memory.features_version):
        return
    reached = max(memory.version, memory.features_version)
    if reached > state.control.version:
        raise ControlError(
            f"the evidence was collected up to version {reached} of control, which ends at {state.control.version}: "
            "the control log lost its last entries (`conclave verify --layer control`)"
        )
    state.roles.advance(state.control, memory.version)
    state.features_roles.advance(state.control, memory.features_version)
    state.index_input_drifts()


def _handle(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    match envelope.event:
        case FeaturesComputed() | FeaturesWithheld() | BarsMissing():
            yield from _handle_features(state, envelope)
        case _:
            yield from _advance(state, envelope)
            yield from _handle_score(state, envelope)


def _handle_features(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    """Add a vector to the inputs of every artifact that is active under its stamp. A vector without a stamp was written
    by an older release; it counts under the newest stamp before it."""
    event = envelope.event
    if event.control_head is not None and event.control_version > state.memory.features_version:
        _advance_features(state, event.control_version)
    if isinstance(event, FeaturesComputed):
        for drift in state.drifts_by_set.get(event.feature_set, ()):
            drifted = input_drift.evolve(drift, event, envelope.id.hex())
            if drifted is not None:
                yield caused(envelope, drifted)


def _advance_features(state: State, version: int) -> None:
    """Follow a newer stamp on ``features``: keep the input drift of each artifact that was active at every version
    since the last stamp, and start one for each other active artifact."""
    memory, before = state.memory, state.memory.features_version
    state.features_roles.advance(state.control, version)
    memory.features_version = version
    for artifact in [each for each in memory.input_drifts if not state.features_roles.is_active(each, before)]:
        del memory.input_drifts[artifact]
    for artifact in state.features_roles.active:
        if artifact not in memory.input_drifts:
            drift = input_drift.initial(state.control.artifacts[artifact])
            if drift is not None:
                memory.input_drifts[artifact] = drift
    state.index_input_drifts()


def _advance(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    """Follow a newer stamp on ``scores``: drop the evidence of every role that was lost since the last stamp, and write
    ``EvidenceRestarted`` for each artifact that is in shadow again after its evidence was dropped."""
    memory, before, version = state.memory, state.memory.version, envelope.event.control_version
    if version <= before:
        return
    roles = state.roles
    roles.advance(state.control, version)
    memory.version = version
    for artifact in [artifact for artifact in memory.candidates if not roles.in_shadow(artifact, before)]:
        memory.dropped[artifact] = memory.candidates.pop(artifact).scores
    for model, guard in list(memory.guards.items()):
        if not roles.is_champion(model, guard.artifact, before):
            del memory.guards[model]
    for model, observed in list(memory.decays.items()):
        if not roles.is_champion(model, observed.artifact, before):
            del memory.decays[model]
    for artifact in sorted(memory.dropped):
        if state.control.retired.get(artifact, version + 1) <= version:
            del memory.dropped[artifact]  # it cannot return
        elif artifact in roles.shadows:
            yield caused(envelope, _in_shadow_again(state, artifact))


def _in_shadow_again(state: State, artifact: str) -> EvidenceRestarted:
    memory, policy = state.memory, state.policy(state.memory.version)
    return EvidenceRestarted(
        model=ENSEMBLE if artifact in state.control.policies else state.control.artifacts[artifact].model,
        artifact=artifact,
        changed=("candidate",),
        policy=policy.name,
        policy_digest=policy.digest,
        scores=memory.dropped.pop(artifact),
        control_version=memory.version,
    )


def _handle_score(state: State, envelope: Envelope[Any]) -> Iterator[Encoded]:
    match envelope.event:
        case PredictionScored() as score:
            state.memory.latest = max(state.memory.latest, score.open_time)
            if score.origin == "live":
                state.memory.live_latest = max(state.memory.live_latest, score.open_time)
            yield from _judge(state, envelope)
            yield from guard_actions.observe(state, envelope)
            if score.role == "voting":
                yield from _learn_weights(state, envelope)
                yield from _measure_contribution(state, envelope)
                yield from _check_decay(state, envelope)
        case PredictionUnscored(reason="failed") | BallotMissing(detail="silent"):
            yield from _handle_failure(state, envelope)
        case _:
            pass


def _handle_failure(
    state: State, envelope: Envelope[PredictionUnscored] | Envelope[BallotMissing]
) -> Iterator[Encoded]:
    """Count a prediction that was due and failed. The guard is checked here too, since a champion that no longer
    predicts has no more scores."""
    event, version = envelope.event, envelope.event.control_version
    model, artifact = event.model, event.artifact.hex()
    candidate = state.memory.candidates.get(artifact) if state.roles.in_shadow(artifact, version) else None
    if candidate is not None:
        earlier = version < candidate.version
        if not earlier or _key(state, version, model, artifact, candidate.key.label) == candidate.key:
            candidates.fail(candidate)
    guard = state.memory.guards.get(model)
    if guard is not None and guard.artifact == artifact and state.roles.is_champion(model, artifact, version):
        guard_state.fail(guard)
        yield from guard_actions.conclude(state, envelope, guard)


def _judge(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Add a score of an artifact in shadow, and write a verdict if one is due. A score counts if its stamp lies in the
    artifact's present run in shadow, unless it is about an earlier subject of the evidence."""
    score, version = envelope.event, envelope.event.control_version
    artifact = score.artifact.hex()
    if not state.roles.in_shadow(artifact, version):
        return
    policy = state.policy(version)
    candidate = state.memory.candidates.get(artifact)
    label = (score.horizon, score.kappa, score.interval_ms)
    if candidate is None or version != candidate.version or label != candidate.label:  # else the key is the same
        key = _key(state, version, score.model, artifact, f"vfh1/{score.horizon}/{score.kappa!r}/{score.interval_ms}")
        if candidate is not None and version < candidate.version and key != candidate.key:
            return
        if candidate is None or key != candidate.key:
            if candidate is not None:
                yield caused(envelope, _restarted(candidate, key, policy, version))
            candidate = candidates.initial(key, version, policy, score, _references(state, key, version))
            state.memory.candidates[artifact] = candidate
    candidate.version = max(candidate.version, version)
    candidates.evolve(candidate, score, envelope.id.hex(), state.past(version))
    if candidate.scores % CHECK_EVERY:
        return
    judgement = state.judge(candidate.key.artifact)
    changed = bool(candidate.written_at) and judgement.outcome != candidate.overall
    if changed or candidate.scores - candidate.written_at >= WRITE_EVERY:
        yield caused(envelope, candidates.verdict(candidate, policy, judgement, version))


def _key(state: State, version: int, model: str, artifact: str, label: str) -> Key:
    """Return what the evidence about an artifact is about, under a version."""
    if model == ENSEMBLE and artifact in state.control.policies:
        in_force = policy_digest(state.past(version).policy)
        return Key(model, artifact, in_force, VOTES, label, state.policy(version).digest)
    champion = state.past(version).models.get(model, Model()).champion or ""
    feature_set = state.control.artifacts[artifact].feature_set
    return Key(model, artifact, champion, feature_set, label, state.policy(version).digest)


def _references(state: State, key: Key, version: int) -> References:
    """Return the reference values that were recorded before a candidate's first score, under ``version``. Another run
    in shadow of the same voting policy may have other scales."""
    if key.feature_set == VOTES:
        candidate = state.past(version).policies[key.artifact]
        defaults = Scales()
        scale = candidate.scale or defaults.champion
        return References(Scales(defaults.prior, scale, scale, candidate.money_scale or defaults.money))
    backtest = state.control.artifacts[key.artifact].backtest
    if backtest is None:
        return UNKNOWN_REFERENCES
    return References(Scales(prior=backtest.scale), backtest.response)


def _restarted(candidate: Candidate, key: Key, policy: Policy, version: int) -> EvidenceRestarted:
    former = candidate.key
    pairs: tuple[tuple[Changed, str, str], ...] = (
        ("candidate", former.model, key.model),
        ("champion", former.champion, key.champion),
        ("feature_set", former.feature_set, key.feature_set),
        ("label", former.label, key.label),
        ("policy", former.policy, key.policy),
    )
    return EvidenceRestarted(
        model=key.model,
        artifact=key.artifact,
        changed=tuple(name for name, before, after in pairs if before != after),
        policy=policy.name,
        policy_digest=policy.digest,
        scores=candidate.scores,
        control_version=version,
    )


def _learn_weights(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Add a voting member's score to the weight learning. Weights are proposed at the end of a block."""
    score = envelope.event
    memory, version = state.memory, score.control_version
    past = state.past(version)
    learning = memory.weight_learning = weight_learning.follow(
        memory.weight_learning, version, past.models, state.control.artifacts, past.policy, score
    )
    step = weight_learning.evolve(learning, score) if learning is not None else None
    if step is not None and learning is not None:
        proposed = WeightsProposed(
            weights=step.weights,
            blocks=learning.fold.steps,
            until=memory.latest,
            acts="weights" in state.policy(memory.version).acts and state.in_force.partitions == 1,
            last_score=envelope.id.hex(),
            control_version=memory.version,
        )
        yield caused(envelope, proposed)


def _measure_contribution(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Add a voting member's score to the contributions."""
    score = envelope.event
    memory, version = state.memory, score.control_version
    memory.contribution = contribution.follow(
        memory.contribution, version, state.past(version), state.control.artifacts
    )
    if memory.contribution is not None:
        measured = contribution.evolve(memory.contribution, score, envelope.id.hex(), version)
        if measured is not None:
            yield caused(envelope, measured)


def _check_decay(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Add a champion's score to the decay of its skill. A score counts if its stamp lies in the champion's present
    run."""
    score, artifact = envelope.event, envelope.event.artifact.hex()
    if not state.roles.is_champion(score.model, artifact, score.control_version):
        return
    observed = state.memory.decays.get(score.model)
    if observed is None:
        backtest = state.control.artifacts[artifact].backtest
        scale = None if backtest is None else backtest.scale
        observed = state.memory.decays[score.model] = decay.initial(score, scale)
    decayed = decay.evolve(observed, score, envelope.id.hex())
    if decayed is not None:
        yield caused(envelope, decayed)
