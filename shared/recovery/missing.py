"""Find the commands that the control log lost, by the notes and copies outside of it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.control import CommandRecorded
from shared.control import State, head_of
from shared.control.checkpoint import Checkpoint, counting
from shared.log import Entry
from shared.log.events import events_of, reported_elsewhere


class CopiedCommand(NamedTuple):
    """A command of which there is a copy outside of the log: its entry, and the name of the copy (``source``)."""

    entry: Entry
    recorded: CommandRecorded
    source: str


class LostCommand(NamedTuple):
    """A command that the log lost: its version, its head ('' if that is unknown), and a copy; None if there is none."""

    version: int
    head: str
    copied: CopiedCommand | None


class Missing(NamedTuple):
    """``common``: the last version that the log has and that was noted. ``lost``: the commands after it, oldest first.
    ``version``: the version at which the log ends now, greater than ``common`` if other commands followed."""

    common: int
    lost: tuple[LostCommand, ...]
    version: int

    @property
    def replaced(self) -> bool:
        """Whether other commands followed in the log, so that the lost ones cannot be appended to it."""
        return self.version > self.common

    @property
    def complete(self) -> bool:
        """Whether there is a copy of every lost command."""
        return all(lost.copied is not None for lost in self.lost)

    def __str__(self) -> str:
        gone = f"version {self.lost[0].version}"
        if len(self.lost) > 1:
            gone += f" to {self.lost[-1].version}"
        on = f" and went on from version {self.common} with other commands" if self.replaced else ""
        return f"the control log lost {gone} ({self.lost[-1].head[:12]}); it ends at version {self.version}{on}"


def copied_by_head(copies: Iterable[tuple[str, Iterable[Entry]]]) -> dict[str, CopiedCommand]:
    """Return the commands of all copies by their heads. ``copies``: each with its name; the first one prevails."""
    commands = dict[str, CopiedCommand]()
    for source, entries in copies:
        for entry, envelope in events_of(entries, reported_elsewhere):
            recorded = envelope.event
            if isinstance(recorded, CommandRecorded):
                commands.setdefault(head_of(recorded), CopiedCommand(entry, recorded, source))
    return commands


def missing(state: State, noted: Sequence[Checkpoint], copied: Mapping[str, CopiedCommand]) -> Missing | None:
    """Return what is missing of the control log that made ``state``; None if nothing is known to be.

    Notes and copies of another log do not count, nor do commands that an operator gave up. ``copied``: by head."""
    given_up = {head for each in noted for head in each.given_up}
    known = {each.version: each.head for each in counting(noted) if each.log_id == state.log_id}
    tips = {(version, head) for version, head in known.items() if not _has(state, version, head)}
    tips |= {(each.recorded.version, head) for head, each in copied.items()} if _same_log(state, copied) else set()
    tips = {(version, head) for version, head in tips if head not in given_up and not _has(state, version, head)}
    if not tips:
        return None
    version, head = max(tips)
    lost = list[LostCommand]()
    while version > 0 and not _has(state, version, head):
        command = copied.get(head) if head else None
        lost.append(LostCommand(version, head, command))
        version -= 1
        head = command.recorded.previous if command is not None else known.get(version, "")
        if not head and version <= _agreed(state, known):
            break
    return Missing(version, tuple(lost[::-1]), state.version)


def _has(state: State, version: int, head: str) -> bool:
    return version == 0 or (version <= state.version and state.past[version].head == head)


def _same_log(state: State, copied: Mapping[str, CopiedCommand]) -> bool:
    """Return whether the copies are of the log that made ``state``: they have its first entry."""
    return state.version > 0 and state.past[1].head in copied


def _agreed(state: State, known: Mapping[int, str]) -> int:
    """Return the newest version up to which no note contradicts the log."""
    contradicted = [version for version, head in known.items() if not _has(state, version, head)]
    return min(state.version, min(contradicted, default=state.version + 1) - 1)
