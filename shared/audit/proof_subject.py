"""What a proof pack is about: an artifact that was promoted, or a voting policy. Which versions promoted one, and the
commands that concern it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from schemas.common import ENSEMBLE
from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    Promote,
    PromotePolicy,
    Propose,
    Refuse,
    RevertProbation,
    Rollback,
    SetVotingPolicy,
    StartPolicyShadow,
    StopPolicyShadow,
)
from schemas.decisions import DecisionMade
from shared.audit.configurations import Configurations
from shared.control import effect_of
from shared.control.policies import policy_digest

OF_POLICIES: Final = StartPolicyShadow | StopPolicyShadow | PromotePolicy | SetVotingPolicy
"""The commands about the voting policy."""


class Subject(NamedTuple):
    """What a promotion promoted. ``ready``: the ids of the ``ArtifactReady`` events that it names. ``policy``: it is a
    voting policy; ``model`` is ``ENSEMBLE`` then, ``artifact`` its digest, and nothing has to be ready."""

    model: str
    artifact: str
    forced: bool
    verdict: str | None
    ready: tuple[str, ...] = ()
    policy: bool = False

    def concerns(self, command: Command) -> bool:
        """Return whether a command is about this model, or about the voting policy."""
        if self.policy and isinstance(command, OF_POLICIES):
            return True
        return getattr(command, "model", None) == self.model

    def in_shadow(self, decision: DecisionMade) -> bool:
        """Return whether it was in shadow in the round of a decision."""
        if self.policy:
            return decision.candidates is not UNSET and any(
                each.policy == self.artifact for each in decision.candidates
            )
        return any(ballot.artifact == self.artifact for ballot in decision.shadow)

    def votes(self, decision: DecisionMade, version: int) -> bool:
        """Return whether a decision under ``version`` or a later one counted it, or was made by it."""
        if self.policy:
            return decision.control_version >= version
        return any(ballot.artifact == self.artifact for ballot in decision.counted)


def subject_of(command: Command) -> Subject | None:
    """Return what a command promotes; None if it is no promotion."""
    match command:
        case Promote():
            return Subject(command.model, command.artifact, command.forced, command.verdict, command.ready)
        case PromotePolicy():
            return Subject(ENSEMBLE, command.policy, command.forced, command.verdict, policy=True)
        case _:
            return None


def named_by(command: Command) -> str | None:
    """Return the artifact, or the digest of the voting policy, that a command names; None if it names none."""
    match command:
        case StartPolicyShadow(policy=policy):
            return policy_digest(policy)
        case SetVotingPolicy():
            return policy_digest(command)
        case StopPolicyShadow(policy=digest) | PromotePolicy(policy=digest):
            return digest
        case _:
            return getattr(command, "artifact", None)


def provable(configurations: Configurations, version: int) -> tuple[int, ...]:
    """Return the versions whose packs prove what votes since a version: the version itself, if it is a promotion; after
    a rollback, the promotions of the artifacts that vote again, and of the voting policy that is in force again."""
    command = effect_of(configurations.envelopes[version - 1].event.command)
    match command:
        case Promote() | PromotePolicy():
            return (version,)
        case Rollback() | RevertProbation() if version > 1:
            before, now = configurations.states[version - 2 : version]
            votes = {name: one.champion for name, one in now.models.items()}
            changed = {name: votes[name] for name in votes if votes[name] != before.model(name).champion}
            if now.policy != before.policy:
                changed[ENSEMBLE] = policy_digest(now.policy)
            return tuple(sorted(_promotions(configurations, version, changed)))
        case _:
            return ()


def _promotions(configurations: Configurations, version: int, champions: Mapping[str, str | None]) -> Iterator[int]:
    """Yield the last promotion of each champion before a version; under ``ENSEMBLE``, of a voting policy."""
    wanted = dict(champions)
    for envelope in reversed(configurations.envelopes[: version - 1]):
        promoted = subject_of(effect_of(envelope.event.command))
        if promoted is not None and wanted.get(promoted.model) == promoted.artifact:
            del wanted[promoted.model]
            yield envelope.event.version
        if not wanted:
            return


def trail(configurations: Configurations, promoted: Subject) -> list[dict[str, Any]]:
    """Return every control entry that concerns the artifact or its model, or the voting policy; proposals among
    them."""
    return [
        {
            "version": entry.version, "at": entry.at, "by": entry.actor, "key": entry.key, "why": entry.reason,
            "what": type(entry.command).__struct_config__.tag, "artifact": named_by(concerned),
        }
        for entry in (envelope.event for envelope in configurations.envelopes)
        for concerned in [_concerned(configurations, entry)]
        if promoted.concerns(concerned)
    ]  # fmt: skip


def _concerned(configurations: Configurations, entry: CommandRecorded) -> Command:
    """Return the command that an entry is about: what it proposes, approves or refuses, or its own."""
    command = entry.command
    if isinstance(command, Refuse):
        proposal = configurations.envelopes[command.proposal - 1].event.command
        return proposal.command if isinstance(proposal, Propose) else command
    return command.command if isinstance(command, Propose | Approve) else command
