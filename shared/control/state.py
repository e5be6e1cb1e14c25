"""A version of the configuration, and what it was before.

``gc=False``: these never form cycles, and a long log holds many of them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from immutables import Map
from msgspec import Struct

from schemas.control import RegisterArtifact, SetGatePolicy, SetLadder, SetTrainingPolicy, SetVotingPolicy, TrustKey

GENESIS: Final = "0" * 64
"""The head before the first entry."""


class Model(Struct, frozen=True, gc=False):
    """One voting slot: who speaks for it, who is watched beside it, and how much it weighs.
    ``before`` is the version whose configuration has the champion that this one replaced (0: none);
    a rollback takes it over from the version it goes back to, so the next one goes further back."""

    champion: str | None = None
    shadows: tuple[str, ...] = ()
    weight: float | None = None
    before: int = 0


class Probation(Struct, frozen=True):
    """A promotion that is reverted unless confirmed within ``decisions`` scored decisions: the
    version that began it, and when that was recorded (ms)."""

    artifact: str
    version: int
    decisions: int
    at: int


class Past(Struct, frozen=True, gc=False):
    """What a version decided by, kept for rollbacks, and the head that proves it. ``before`` is the
    version to go back to by default."""

    head: str
    models: Mapping[str, Model]
    policy: SetVotingPolicy
    gate: SetGatePolicy | None
    ladder: SetLadder
    before: int
    probations: Map[str, Probation] = Map()
    partitions: int = 0


class VersionLedger:
    """What each version decided by, and which command id made it: a value that never changes.

    The ledgers of successive versions share one list, of which each sees its own length; appending to
    one that is not the longest copies what it sees. So a fold appends in constant time, and an older
    state goes on seeing what it saw."""

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
        return self._seen() == other._seen() and self._length == other._length

    __hash__ = None  # type: ignore[assignment]  # compared, never keyed

    def version_of(self, command_id: str) -> int | None:
        """The version that a command made; None where it was never recorded."""
        found = self._versions.get(command_id)
        return found if found is not None and found <= self._length else None

    def extended(self, past: Past, command_id: str) -> "VersionLedger":
        """This ledger with one version more."""
        pasts, versions = self._pasts, self._versions
        if self._length == 0 or len(pasts) > self._length:
            pasts = pasts[: self._length]
            versions = {name: version for name, version in versions.items() if version <= self._length}
        pasts.append(past)
        versions[command_id] = len(pasts)
        return VersionLedger(pasts, versions)

    def _seen(self) -> tuple[list[Past], dict[str, int]]:
        own = {name: version for name, version in self._versions.items() if version <= self._length}
        return self._pasts[: self._length], own


class State(Struct, frozen=True, gc=False):
    """A version of the configuration. ``past`` has what each version decided by, and the ids of all
    commands. Versions share what did not change between them; the few ``models`` are a new mapping where
    one of them changes."""

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
    probations: Map[str, Probation] = Map()
    keys: Map[str, TrustKey] = Map()
    revoked: Map[str, int] = Map()
    before: int = 0
    past: VersionLedger = VersionLedger()

    @property
    def voting(self) -> tuple[str, ...]:
        """The models with a champion, by name."""
        return tuple(sorted(name for name, model in self.models.items() if model.champion))

    @property
    def open(self) -> bool:
        """Whether anybody who reaches the log may command: no key is trusted yet."""
        return not self.keys


EMPTY: Final = State()


class Rejected(NamedTuple):
    """A command that may not stand: what is wrong with it, and the way out."""

    reason: str


class Repeated(NamedTuple):
    """A command that was issued before, and the version it made then. Nothing is to be done."""

    version: int


class ControlError(ValueError):
    """The control log cannot be trusted from this entry on. Names the entry and the fault."""


def short(digest: str) -> str:
    """As much of a digest as a person reads."""
    return digest[:12]
