"""Checkpoints of the control head outside Redis: a file of one line each, only ever added to.

    {"log_id":"1932...-1","version":12,"head":"9f2c...","at":1760000000000}

An operator who accepts that commands are lost adds a line that says so (``accept``): where the log was cut, and the
heads that are given up. What was noted before and went further counts no more.

The chain shows that an entry was changed as long as anything later still stands as it was. A log that
was rewritten whole, or cut at its end, fits itself; it does not fit what was noted here. So every
process compares the log with the file before it runs, and notes where it stands at its start and from
time to time. Whoever can write both Redis and this file can rewrite the past; keep the file, or a copy
of it, where Redis's administrator cannot write.

Beside it, a file for each partition has the running digests of its groups (``shared.log.written``), each with the
control head of that moment:

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

from schemas.common import DigestHex, Milliseconds
from shared.control import ControlError, State
from shared.log.written import Written, to_text


class Checkpoint(Struct, frozen=True, omit_defaults=True):
    """Where the control log stood: its id, version and head, and when that was noted (ms). ``accepted`` says who
    accepted, and why, that what came after it is lost; ``given_up`` are the heads of that."""

    log_id: str
    version: int
    head: DigestHex
    at: Milliseconds
    accepted: str | None = None
    given_up: tuple[DigestHex, ...] = ()


class RewrittenError(ControlError):
    """The control log is not the one that was noted. Says what differs, and what to do."""


class Digests(Struct, frozen=True):
    """What a group had written, by stream (``shared.log.written.encode``), and where the control log stood."""

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
    """What contradicts a checkpoint in the log that made ``state``; None where nothing does."""
    if noted.log_id != state.log_id:
        return f"it is the log {state.log_id or '(empty)'}, noted was {noted.log_id}"
    if noted.version > state.version:
        return f"it ends at version {state.version}, but version {noted.version} was noted: entries are gone"
    head = state.past[noted.version].head
    if head != noted.head:
        return f"version {noted.version} has head {head[:12]}, noted was {noted.head[:12]}: it was rewritten"
    return None


def read(path: Path) -> list[Checkpoint]:
    """The checkpoints in a file, oldest first; none where there is no file. A last line without an
    end was being written when the power failed, and is left out. Raises ``RewrittenError``."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        if not line:
            continue
        try:
            found.append(_decode(line))
        except msgspec.DecodeError as error:
            raise RewrittenError(f"{path}:{number} is no checkpoint: {error}; restore the file from a copy") from None
    return found


def counting(noted: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that count: without what went further than a cut that was accepted later."""
    found = list[Checkpoint]()
    for each in noted:
        if each.accepted is not None:
            found = [one for one in found if one.version <= each.version]
        found.append(each)
    return found


def check(path: Path, state: State) -> None:
    """Compares a log with all that was noted of it, oldest first, so that the earliest contradiction is
    named. Raises ``RewrittenError``: do not run."""
    for noted in counting(read(path)):
        fault = compare(noted, state)
        if fault is not None:
            raise RewrittenError(
                f"the control log contradicts {path}: {fault}. `conclave recover` shows what is missing, and "
                "where it can be had. "
                f"If the installation was founded anew on purpose, move {path} away"
            )


def note(path: Path, state: State, at: int) -> Checkpoint | None:
    """Adds where the log stands, on disk before this returns; None where the last line says so already
    or nothing was founded. One write of one line: processes may share a file."""
    if state.version == 0:
        return None
    noted = read(path)
    if noted and (noted[-1].version, noted[-1].head) == (state.version, state.head):
        return None
    made = Checkpoint(state.log_id, state.version, state.head, at)
    _append(path, _encode(made))
    return made


def accept(path: Path, cut: Checkpoint) -> None:
    """Adds that what came after ``cut`` is lost, on disk before this returns."""
    _append(path, _encode(cut))


def file_of(folder: Path, partition: int) -> Path:
    """Where the digests of a partition are noted."""
    return folder / f"partition-{partition}.jsonl"


def note_digests(
    folder: Path, partition: int, group: str, written: Mapping[str, Written], state: State, at: int
) -> None:
    """Adds what a group has written, on disk before this returns. Raises ``OSError``."""
    wrote = {stream: to_text(each) for stream, each in written.items()}
    _append(file_of(folder, partition), _encode(Digests(state.log_id, state.version, state.head, at, group, wrote)))


def read_digests(path: Path) -> tuple[list[Digests], int]:
    """The digests in a file, oldest first, and how many lines could not be read; none where there is no file. A last
    line without an end was being written when the power failed, and is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    found, unreadable = [], 0
    for line in lines[:-1]:
        try:
            found.append(_decode_digests(line))
        except msgspec.DecodeError:
            unreadable += 1
    return found, unreadable


def _append(path: Path, line: bytes) -> None:
    """Adds a line, on disk before this returns. Processes may share the file."""
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
