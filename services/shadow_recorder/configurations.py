"""Return votes and costs under any version of the configuration, and pools with and without an artifact."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from schemas.codec import Envelope
from schemas.common import Action, Probabilities
from schemas.control import CommandRecorded, RegisterArtifact, SetVotingPolicy
from services.shadow_recorder.decisions import ArtifactKey, JoinedDecision
from shared.control import EMPTY, State, fold
from shared.control.policies import policy_digest
from shared.control.state import Model
from shared.voting.pool import Member, Panel, member_of, own_action, panel_of, panel_with, pool_of, vote

COST_PER_SIDE: Final = 0.001
"""Fee, half spread and slippage of one order, as a fraction, unless the gate policy has ``cost_per_side``."""
KEPT: Final = 64
"""Versions whose panels are kept in memory."""


class VoteLabel(NamedTuple):
    """The label of all voting models: the horizon in bars, and the threshold."""

    horizon: int
    kappa: float


class Configurations:
    """The configurations of all versions up to ``control``. ``horizon`` and ``shortest``: the longest and the shortest
    horizon (bars) of any registered artifact."""

    def __init__(self, control: State = EMPTY) -> None:
        self.control = control
        self.horizon = self.shortest = 0
        self._panels: dict[int, Panel] = {}
        self._active: dict[int, frozenset[ArtifactKey]] = {}

    def apply(self, commands: Sequence[Envelope[CommandRecorded]]) -> None:
        """Fold new commands."""
        for envelope in commands:
            self.control = fold(self.control, envelope.event)
            if isinstance(registered := envelope.event.command, RegisterArtifact):
                horizon = registered.horizon or 0
                self.horizon = max(self.horizon, horizon)
                self.shortest = min(self.shortest or horizon, horizon)

    def models(self, version: int) -> Mapping[str, Model]:
        """Return the voting slots under a version. Raises ``KeyError`` for a version that was not applied: the runtime
        delivers a command before any event that is stamped with it."""
        return self.control.past[version].models if version else EMPTY.models

    def panel(self, version: int) -> Panel:
        """Return which artifacts vote under a version, and which are in shadow."""
        panel = self._panels.get(version)
        if panel is None:
            past = self.control.past[version]
            state = structs.replace(self.control, models=past.models, policy=past.policy, policy_shadows=())
            panel = panel_of(state)
            while len(self._panels) >= KEPT:
                del self._panels[next(iter(self._panels))]
            self._panels[version] = panel
        return panel

    def policy(self, version: int) -> SetVotingPolicy:
        """Return the voting policy of a version."""
        return self.panel(version).policy if version else SetVotingPolicy()

    def cost(self, version: int) -> float:
        """Return the cost of entering and leaving a position, as a fraction."""
        gate = self.control.past[version].gate if version else None
        cost = gate.parameters.get("cost_per_side") if gate else None
        return 2.0 * (float(cost) if isinstance(cost, (int, float)) and 0 <= cost < 0.5 else COST_PER_SIDE)

    def registered(self, artifact: str) -> RegisterArtifact:
        """Return an artifact's registration. Raises ``LookupError`` if it has none."""
        registration = self.control.artifacts.get(artifact)
        if registration is None:
            raise LookupError(f"artifact {artifact[:12]} is not registered up to version {self.control.version}")
        return registration

    def horizon_of(self, artifact: str) -> int:
        """Return the horizon (bars) of an artifact; 0 if it is not registered, or without one."""
        registration = self.control.artifacts.get(artifact)
        return (registration.horizon or 0) if registration is not None else 0

    def vote_label(self, version: int) -> VoteLabel | None:
        """Return the label by which the vote of a version is scored; None if the voting models have no common one."""
        labels = {
            (registered.horizon, registered.kappa)
            for member in self.panel(version).members
            if (registered := self.control.artifacts.get(member.artifact)) is not None
        }
        horizon, kappa = labels.pop() if len(labels) == 1 else (None, None)
        return None if horizon is None or kappa is None else VoteLabel(horizon, kappa)

    def policy_in_force(self, version: int) -> str:
        """Return the digest of the voting policy of a version."""
        return policy_digest(self.control.past[version].policy)

    def policy_shadows(self, version: int) -> tuple[str, ...]:
        """Return the digests of the voting policies in shadow under a version."""
        return self.control.past[version].policy_shadows if version else ()

    def active(self, version: int) -> frozenset[ArtifactKey]:
        """Return the artifacts that answer each bar under a version: champions and shadows."""
        artifacts = self._active.get(version)
        if artifacts is None:
            artifacts = frozenset(
                (model, artifact)
                for model, slot in self.models(version).items()
                for artifact in (*slot.shadows, *([slot.champion] if slot.champion else ()))
            )
            while len(self._active) >= KEPT:
                del self._active[next(iter(self._active))]
            self._active[version] = artifacts
        return artifacts

    def is_champion(self, version: int, model: str, artifact: str) -> bool:
        """Return whether an artifact was its model's champion under a version."""
        slot = self.models(version).get(model)
        return slot is not None and slot.champion == artifact

    def voted(self, version: int) -> bool:
        """Return whether any model had a champion under a version, so that decisions were made."""
        return any(slot.champion for slot in self.models(version).values())

    def own_action(self, version: int, probabilities: Probabilities) -> Action:
        """Return the action of a single prediction under the voting policy of a version."""
        return own_action(self.policy(version), probabilities)

    def pools(
        self, version: int, decision: JoinedDecision | None, model: str, artifact: str, probabilities: Probabilities
    ) -> tuple[Probabilities, Probabilities]:
        """Return the pool of the voting policy with an artifact's prediction, and the one without it; the log-linear
        pool under ``consensus``."""
        counted = decision.counted() if decision else {}
        members = list(self.panel(version).members) if version else []
        policy = self.policy(version)
        if self.is_champion(version, model, artifact):
            rest = {name: p for name, p in counted.items() if name != model}
            return _pool(members, {**rest, model: probabilities}, policy), _pool(members, rest, policy)
        without = _pool(members, counted, policy)
        joined = self._with(members, model, artifact)
        return _pool(joined, {**counted, model: probabilities}, policy), without

    def _with(self, members: Sequence[Member], model: str, artifact: str) -> list[Member]:
        """Return the members with a shadow in place of its champion; with an equal share if its model has no
        champion."""
        shadow = member_of(self.registered(artifact), model, 0.0)
        if any(member.model == model for member in members):
            return [shadow._replace(weight=member.weight) if member.model == model else member for member in members]
        share = 1.0 / (len(members) + 1)
        others = [member._replace(weight=member.weight * (1.0 - share)) for member in members]
        return sorted([*others, shadow._replace(weight=share)])


def _pool(members: Sequence[Member], ballots: Mapping[str, Probabilities], policy: SetVotingPolicy) -> Probabilities:
    """Return the pool of ballots without any quorum."""
    pooled = structs.replace(policy, rule=pool_of(policy), quorum_weight=0.0, quorum_count=1)
    return vote(panel_with(members, frozenset(), pooled), ballots).probabilities
