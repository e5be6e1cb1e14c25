"""Which commands the control log lost, by what was noted and copied of it outside. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.codec import UnreadableError, decode
from schemas.control import CommandRecorded
from shared.control import State, head_of
from shared.control.checkpoint import Checkpoint, counting
from shared.log import Entry


class HeldCommand(NamedTuple):
    """A command that is held outside of the log: its entry there, and where it is held."""

    entry: Entry
    recorded: CommandRecorded
    source: str


class LostCommand(NamedTuple):
    """A command that the log lost: the version it made, and its head (empty where nobody knows). ``held`` is None
    where the command itself is known nowhere."""

    version: int
    head: str
    held: HeldCommand | None


class Missing(NamedTuple):
    """``common``: the last version that the log has and that was noted. ``lost``: what came after it, oldest first.
    ``version``: where the log ends now; beyond ``common`` it went on otherwise."""

    common: int
    lost: tuple[LostCommand, ...]
    version: int

    @property
    def replaced(self) -> bool:
        """Whether the log went on with other commands, so that what was lost cannot be appended to it."""
        return self.version > self.common

    @property
    def complete(self) -> bool:
        """Whether every lost command is held somewhere."""
        return all(lost.held is not None for lost in self.lost)

    def __str__(self) -> str:
        gone = f"version {self.lost[0].version}"
        if len(self.lost) > 1:
            gone += f" to {self.lost[-1].version}"
        on = f" and went on from version {self.common} with other commands" if self.replaced else ""
        return f"the control log lost {gone} ({self.lost[-1].head[:12]}); it ends at version {self.version}{on}"


def held_by_head(copies: Iterable[tuple[str, Iterable[Entry]]]) -> dict[str, HeldCommand]:
    """Commands by their heads, from copies of the control log by name. The first that holds one is named."""
    found = dict[str, HeldCommand]()
    for source, entries in copies:
        for entry in entries:
            try:
                recorded = decode("control", entry.data).event
            except UnreadableError:
                continue
            if isinstance(recorded, CommandRecorded):
                found.setdefault(head_of(recorded), HeldCommand(entry, recorded, source))
    return found


def missing(state: State, noted: Sequence[Checkpoint], held: Mapping[str, HeldCommand]) -> Missing | None:
    """What of the control log that made ``state`` is missing; None where nothing is known to be.

    Only what was noted or held of this very log counts, and nothing that an operator gave up."""
    given_up = {head for each in noted for head in each.given_up}
    known = {each.version: each.head for each in counting(noted) if each.log_id == state.log_id}
    tips = {(version, head) for version, head in known.items() if not _has(state, version, head)}
    tips |= {(each.recorded.version, head) for head, each in held.items()} if _founded(state, held) else set()
    tips = {(version, head) for version, head in tips if head not in given_up and not _has(state, version, head)}
    if not tips:
        return None
    version, head = max(tips)
    lost = list[LostCommand]()
    while version > 0 and not _has(state, version, head):
        found = held.get(head) if head else None
        lost.append(LostCommand(version, head, found))
        version -= 1
        head = found.recorded.previous if found is not None else known.get(version, "")
        if not head and version <= _agreed(state, known):
            break
    return Missing(version, tuple(lost[::-1]), state.version)


def _has(state: State, version: int, head: str) -> bool:
    return version == 0 or (version <= state.version and state.past[version].head == head)


def _founded(state: State, held: Mapping[str, HeldCommand]) -> bool:
    """Whether what is held is of the log that made ``state``: it has the same first entry."""
    return state.version > 0 and state.past[1].head in held


def _agreed(state: State, known: Mapping[int, str]) -> int:
    """The newest version of which nothing contradicts that the log has it as it was."""
    contradicted = [version for version, head in known.items() if not _has(state, version, head)]
    return min(state.version, min(contradicted, default=state.version + 1) - 1)
