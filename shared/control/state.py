"""The configuration at one version, and what is kept of the earlier versions.

``gc=False``: these structs never form cycles, and a long log makes many of them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from immutables import Map
from msgspec import Struct

from schemas.control import (
    Proposable,
    RegisterArtifact,
    SetApprovalRule,
    SetExecutionPolicy,
    SetGatePolicy,
    SetLadder,
    SetTrainingPolicy,
    SetVotingPolicy,
    TrustKey,
)

GENESIS: Final = "0" * 64
"""The head before the first entry."""


class Model(Struct, frozen=True, gc=False):
    """The artifacts and the weight of one model. It votes if it has a champion.

    ``before``: the version whose configuration has the champion that this one replaced; 0 if there was none. A rollback
    copies it from the version that it restores, so the next rollback goes further back."""

    champion: str | None = None
    shadows: tuple[str, ...] = ()
    weight: float | None = None
    before: int = 0


class Probation(Struct, frozen=True):
    """A promotion that is reverted unless it is confirmed within ``decisions`` decisions that count a ballot of it. Of
    a voting policy, under the model ``ENSEMBLE``: decisions that are made by it.

    ``version``: the one that the promotion made. ``at``: when it was recorded (ms since the epoch)."""

    artifact: str
    version: int
    decisions: int
    at: int


class Issuer(Struct, frozen=True):
    """Who issues a command, and why. ``actor``: the name in the entry. ``holder``: of the key that signs it; '' without
    a key, and where the key is not known yet."""

    actor: str
    holder: str = ""
    reason: str = ""

    @property
    def person(self) -> str:
        """The name by which a rule knows this person."""
        return self.holder or self.actor

    def is_one_with(self, other: "Issuer") -> bool:
        """Return whether both may be one person: they have the same name, or keys of the same holder."""
        return self.actor == other.actor or bool(self.holder and self.holder == other.holder)


class Proposal(Struct, frozen=True):
    """A command that waits for a second person. ``at``, ``until``: when it was recorded, and from when on it cannot be
    approved (ms since the epoch)."""

    command: Proposable
    by: Issuer
    at: int
    until: int


class PolicyCandidate(Struct, frozen=True, gc=False):
    """A voting policy that was put in shadow at some time. The scales: as in ``StartPolicyShadow``."""

    policy: SetVotingPolicy
    scale: float | None = None
    money_scale: float | None = None


class Past(Struct, frozen=True, gc=False):
    """The configuration of one version as a rollback needs it, and the head of the log at that version.

    ``before``: the version that a rollback without ``to`` restores from there."""

    head: str
    models: Mapping[str, Model]
    policy: SetVotingPolicy
    gate: SetGatePolicy | None
    ladder: SetLadder
    before: int
    probations: Map[str, Probation] = Map()
    partitions: int = 0
    execution: SetExecutionPolicy = SetExecutionPolicy()
    policy_shadows: tuple[str, ...] = ()
    policy_before: int = 0
    policies: Map[str, PolicyCandidate] = Map()


class VersionLedger:
    """The ``Past`` of each version, and the version that each command id made. Immutable to its users.

    The ledgers of successive versions share one list; each reads only its own length of it. Appending takes constant
    time, except to a ledger that is not the longest: that copies its part first. An older ledger never changes."""

    __slots__ = ("_length", "_pasts", "_versions")

    def __init__(self, pasts: list[Past] | None = None, versions: dict[str, int] | None = None) -> None:
        self._pasts = [] if pasts is None else pasts
        self._versions = {} if versions is None else versions
        self._length = len(self._pasts)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, version: int) -> Past:
        if not 1 <= version <= self._length:
            raise KeyError(version)
        return self._pasts[version - 1]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VersionLedger):
            return NotImplemented
        return self._length == other._length and self._contents() == other._contents()

    __hash__ = None  # type: ignore[assignment]  # compared, never keyed

    def version_of(self, command_id: str) -> int | None:
        """Return the version that a command made; None if no command has this id."""
        version = self._versions.get(command_id)
        return version if version is not None and version <= self._length else None

    def extended(self, past: Past, command_id: str) -> "VersionLedger":
        """Return this ledger with one more version."""
        pasts, versions = self._pasts, self._versions
        if self._length == 0 or len(pasts) > self._length:
            pasts = pasts[: self._length]
            versions = {name: version for name, version in versions.items() if version <= self._length}
        pasts.append(past)
        versions[command_id] = len(pasts)
        return VersionLedger(pasts, versions)

    def _contents(self) -> tuple[list[Past], dict[str, int]]:
        versions = {name: version for name, version in self._versions.items() if version <= self._length}
        return self._pasts[: self._length], versions


class State(Struct, frozen=True, gc=False):
    """The configuration at one version.

    ``past``: the configuration of each version so far, and the ids of all commands. ``before``: the version that a
    rollback restores by default; 0 if there is none. ``proposals``: those that were neither approved nor refused, by
    the version of their entry; an expired one stays until the next is made. ``policies``: the voting policies that are
    or were in shadow, by digest; ``policy_shadows``: the digests of those that are. ``policy_before``: the version
    whose voting policy the present one replaced; 0 if there was none. States share what did not change
    between them; ``models``, a small mapping, is copied when a model changes."""

    version: int = 0
    head: str = GENESIS
    partitions: int = 0
    log_id: str = ""
    artifacts: Map[str, RegisterArtifact] = Map()
    retired: Map[str, int] = Map()
    models: Mapping[str, Model] = {}
    policy: SetVotingPolicy = SetVotingPolicy()
    halted: bool = False
    gate: SetGatePolicy | None = None
    ladder: SetLadder = SetLadder()
    training: SetTrainingPolicy = SetTrainingPolicy()
    execution: SetExecutionPolicy = SetExecutionPolicy()
    probations: Map[str, Probation] = Map()
    keys: Map[str, TrustKey] = Map()
    revoked: Map[str, int] = Map()
    before: int = 0
    past: VersionLedger = VersionLedger()
    approval: SetApprovalRule = SetApprovalRule()
    proposals: Map[int, Proposal] = Map()
    policies: Map[str, PolicyCandidate] = Map()
    policy_shadows: tuple[str, ...] = ()
    policy_before: int = 0

    @property
    def voting(self) -> tuple[str, ...]:
        """The names of the models with a champion, sorted."""
        return tuple(sorted(name for name, model in self.models.items() if model.champion))

    def model(self, name: str) -> Model:
        """Return a model; an empty one if nothing is recorded under this name."""
        return self.models.get(name, Model())

    def model_at(self, version: int, name: str) -> Model:
        """Return a model as it was at an earlier version; an empty one if there was none then, and at version 0."""
        return self.past[version].models.get(name, Model()) if version else Model()

    @property
    def open(self) -> bool:
        """Whether commands need no signature, because no key is trusted yet."""
        return not self.keys


EMPTY: Final = State()


class Rejected(NamedTuple):
    """A refused command. The reason says what is wrong and what to do."""

    reason: str


class Repeated(NamedTuple):
    """A command that was recorded before, and the version that it made then. It is not recorded again."""

    version: int


class ControlError(ValueError):
    """The control log cannot be trusted from this entry on. The message names the entry and the fault."""


def short(digest: str) -> str:
    """Return the first twelve digits of a digest, as messages show it."""
    return digest[:12]
