"""Checkpoints of the control head, outside Redis: a file with one line each, to which lines are only added.

    {"log_id":"1932...-1","version":12,"head":"9f2c...","at":1760000000000}

The hash chain reveals a changed entry as long as a later entry is unchanged. It does not reveal that the log was cut at
its end, or rewritten as a whole; a checkpoint does. Every process compares the log with the file before it runs, and
adds a line at its start and from time to time. Someone who can write both Redis and this file can rewrite the past, so
keep the file, or a copy of it, where the administrator of Redis cannot write.

An operator who accepts that commands are lost adds a line that records it (``accept``): the version at which the log
was cut, and the heads that are given up. Earlier checkpoints of later versions no longer count then.

In the same folder, one file for each partition has the running digests of its groups (``shared.log.written``), each
with the control head at that time:

    {"log_id":"1932...-1","version":12,"head":"9f2c...","at":1760000000000,"group":"ensemble-voter",
     "wrote":{"decisions":"1759990000000-0 1760000000000-0 51200 77ab..."}}
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import UNDECODABLE
from schemas.common import DigestHex, Milliseconds
from shared.control import ControlError, State
from shared.log.written import Written, to_text


class Checkpoint(Struct, frozen=True, omit_defaults=True):
    """Id, version and head of the control log, and when they were recorded (ms since the epoch).

    ``accepted``: who accepted that the later entries are lost, and why; None for an ordinary checkpoint. ``given_up``:
    the heads of those entries."""

    log_id: str
    version: int
    head: DigestHex
    at: Milliseconds
    accepted: str | None = None
    given_up: tuple[DigestHex, ...] = ()


class RewrittenError(ControlError):
    """The control log contradicts a checkpoint. The message says what differs, and what to do."""


class Digests(Struct, frozen=True):
    """The digests of what a group wrote, by stream (``shared.log.written.to_text``), and the control log's id, version
    and head at that time (``at``, ms since the epoch)."""

    log_id: str
    version: int
    head: str
    at: Milliseconds
    group: str
    wrote: dict[str, str]


_encode: Final = msgspec.json.Encoder().encode
_decode_digests: Final = msgspec.json.Decoder(Digests).decode
_decode: Final = msgspec.json.Decoder(Checkpoint).decode


def compare(noted: Checkpoint, state: State) -> str | None:
    """Return how the log that ``state`` was folded from contradicts a checkpoint; None if it does not."""
    if noted.log_id != state.log_id:
        return f"expected log {noted.log_id}, found {state.log_id or 'an empty one'}"
    if noted.version > state.version:
        return f"expected version {noted.version}, but it ends at version {state.version}: entries are missing"
    head = state.past[noted.version].head
    if head != noted.head:
        return f"expected head {noted.head[:12]} at version {noted.version}, found {head[:12]}: it was rewritten"
    return None


def read(path: Path) -> list[Checkpoint]:
    """Return the checkpoints in a file, oldest first; none if there is no file. A last line without a line end was
    being written when the power failed, and is left out. Raises ``RewrittenError`` for a line that is no checkpoint."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    checkpoints = []
    for number, line in enumerate(lines[:-1], start=1):
        if not line:
            continue
        try:
            checkpoints.append(_decode(line))
        except UNDECODABLE as error:
            raise RewrittenError(f"{path}:{number} is no checkpoint: {error}; restore the file from a copy") from None
    return checkpoints


def counting(noted: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return the checkpoints that count: all but those of versions that were later accepted as lost."""
    counted = list[Checkpoint]()
    for checkpoint in noted:
        if checkpoint.accepted is not None:
            counted = [earlier for earlier in counted if earlier.version <= checkpoint.version]
        counted.append(checkpoint)
    return counted


def check(path: Path, state: State) -> None:
    """Compare a log with its checkpoints, oldest first. Raises ``RewrittenError``, which names the earliest
    contradiction: the process must not run."""
    for noted in counting(read(path)):
        fault = compare(noted, state)
        if fault is not None:
            raise RewrittenError(
                f"the control log contradicts {path}: {fault}. `conclave recover` shows what is missing, and "
                f"where there is a copy. If the installation was founded a second time on purpose, move {path} away"
            )


def note(path: Path, state: State, at: int) -> Checkpoint | None:
    """Add a checkpoint of ``state``, on disk before this returns. Return None, and add nothing, if the last line has
    the same version and head, or if nothing was founded. Each line is one write, so processes can share a file."""
    if state.version == 0:
        return None
    noted = read(path)
    if noted and (noted[-1].version, noted[-1].head) == (state.version, state.head):
        return None
    made = Checkpoint(state.log_id, state.version, state.head, at)
    _append(path, _encode(made))
    return made


def accept(path: Path, cut: Checkpoint) -> None:
    """Add a line that accepts the entries after ``cut`` as lost, on disk before this returns."""
    _append(path, _encode(cut))


def file_of(folder: Path, partition: int) -> Path:
    """Return the path of the file with the digests of a partition."""
    return folder / f"partition-{partition}.jsonl"


def note_digests(
    folder: Path, partition: int, group: str, written: Mapping[str, Written], state: State, at: int
) -> None:
    """Add the digests of what a group has written, on disk before this returns. Raises ``OSError``."""
    wrote = {stream: to_text(each) for stream, each in written.items()}
    _append(file_of(folder, partition), _encode(Digests(state.log_id, state.version, state.head, at, group, wrote)))


def read_digests(path: Path) -> tuple[list[Digests], int]:
    """Return the digests in a file, oldest first, and how many lines could not be read; none if there is no file. A
    last line without a line end was being written when the power failed, and is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    digests, unreadable = [], 0
    for line in lines[:-1]:
        try:
            digests.append(_decode_digests(line))
        except UNDECODABLE:
            unreadable += 1
    return digests, unreadable


def _append(path: Path, line: bytes) -> None:
    """Add a line, on disk before this returns. Processes can share the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _drop_torn_line(descriptor)
        os.write(descriptor, line + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 4096, max(size - 4096, 0))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(descriptor, size - len(tail) + tail.rfind(b"\n") + 1)
