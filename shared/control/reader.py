"""From what stands on the control stream to the entries that count. A pure function of the stream.

``ControlReader.take`` is handed every entry of the stream in order. What the door of ``shared.control.issuing``
wrote extends the chain, and counts. For the rest there are two answers.

Refused: it was written past the door. It is not applied, it is kept in ``refused`` for an alarm, and
the log goes on: versions count entries that stand, the next entry's id follows the last id on the
stream. Bytes that are no command; an id, digest or signature that does not fit; an old entry again;
a command that may not stand.

``ControlError``: what came before cannot be what was written, or cannot be understood, so nobody knows
the configuration. Entries are gone (a hole in the ids which the chain does not bridge); entries were
built upon one that does not fit here; an entry extends the chain but needs a newer release.
"""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from schemas.catalogue import STREAMS
from schemas.codec import ROOT, Envelope, identify
from schemas.control import CommandRecorded
from shared.control.chain import canonical, fold, head_of
from shared.control.state import EMPTY, ControlError, State

START: Final = "0-0"
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
LAST: Final = 2**64 - 1
"""The greatest number in an entry id."""


class RefusedEntry(NamedTuple):
    """An entry that was written past the door: its id on the stream, why it does not count, the
    version and head that stay in force, and its bytes."""

    entry: str
    reason: str
    version: int
    head: str
    data: bytes


class _Wire(Struct, frozen=True):
    schema: int
    flags: int
    id: str
    causation: str
    correlation: str
    event: Raw


class _Claim(Struct, frozen=True):
    """What any release can read of an entry: where it says it belongs."""

    version: int
    previous: str


_wire: Final = msgspec.json.Decoder(_Wire).decode
_claim: Final = msgspec.json.Decoder(_Claim).decode
_recorded: Final = msgspec.json.Decoder(CommandRecorded).decode
_plain: Final = msgspec.json.decode


class FoldedEntry(NamedTuple):
    """An entry that was taken: its id, its bytes, and how many were taken with it."""

    entry: str
    data: bytes
    number: int


class ControlReader:
    """Reads one control stream from its beginning. ``state``: the configuration so far; ``last``: the
    id of the last entry taken, whether it counted or not; ``refused``: those that did not. ``newest`` is that
    last entry, ``standing`` the last one that counted: by them the log is known again."""

    def __init__(self) -> None:
        self.state: State = EMPTY
        self.last = START
        self.newest: FoldedEntry | None = None
        self.standing: FoldedEntry | None = None
        self.refused: list[RefusedEntry] = []
        self._orphans: dict[str, str] = {}

    def take(self, entry: str, data: bytes) -> Envelope[CommandRecorded] | None:
        """The envelope of an entry that stands, folded into ``state``; None for a refused one.
        Raises ``ControlError``, after which this reader is of no more use."""
        before, self.last = self.last, entry
        self.newest = taken = FoldedEntry(entry, data, self.newest.number + 1 if self.newest else 1)
        try:
            found = _wire(data)
            claim = _claim(found.event)
        except UNREADABLE as error:
            self._refuse(entry, data, f"it is no control entry: {error}")
            return None
        recorded = self._read(entry, data, found, claim)
        if recorded is None:
            return None
        fault = _misplaced(entry, before) or _misnamed(found, data)
        if fault is None:
            try:
                self.state = fold(self.state, recorded)
            except ControlError as error:
                fault = str(error)
                self._look_behind(entry, before, recorded, fault)
        if fault is not None:
            self._refuse(entry, data, fault, recorded)
            return None
        self.standing = taken
        ids = [bytes.fromhex(each) for each in (found.id, found.causation, found.correlation)]
        return Envelope(found.schema, found.flags, ids[0], ids[1], ids[2], recorded)

    def _read(self, entry: str, data: bytes, found: _Wire, claim: _Claim) -> CommandRecorded | None:
        """The entry with all that it says. One that extends the chain, but says what this release does
        not know, stops the reader."""
        try:
            recorded = _recorded(found.event)
            written, known = bytes(found.event), canonical(recorded)
            if written == known or _plain(written) == _plain(known):
                return recorded
            fault = "it says more than this release understands"
        except UNREADABLE as error:
            fault = f"this release cannot read it: {error}"
        if (claim.version, claim.previous) == (self.state.version + 1, self.state.head):
            raise ControlError(
                f"control entry {entry} extends the log as version {claim.version}, but {fault}; "
                "a newer release wrote it, or it was forged: update this one, or look at the entry"
            )
        self._refuse(entry, data, fault)
        return None

    def _look_behind(self, entry: str, before: str, recorded: CommandRecorded, fault: str) -> None:
        """Whether an entry that does not fit shows that what came before is not what was written."""
        if recorded.version <= self.state.version:
            return
        orphan = self._orphans.get(recorded.previous)
        if orphan is not None:
            raise ControlError(
                f"control entry {entry} was written upon entry {orphan}, which does not fit here; the log was "
                f"changed behind version {self.state.version}: restore it, or compare it with a checkpoint"
            )
        if recorded.version > self.state.version + 1 and _hole(before, entry):
            raise ControlError(
                f"control entry {entry}: {fault}; versions {self.state.version + 1} to {recorded.version - 1} are "
                f"gone, and so are the ids between {before} and {entry}: restore them from a copy of the log"
            )

    def _refuse(self, entry: str, data: bytes, reason: str, recorded: CommandRecorded | None = None) -> None:
        if recorded is not None and recorded.version > self.state.version:
            self._orphans[head_of(recorded)] = entry
        self.refused.append(RefusedEntry(entry, reason, self.state.version, self.state.head, data))


def following(entry: str) -> str | None:
    """The id that the door gives after ``entry``: the next whole number. None past the last."""
    number = int(entry.partition("-")[0])
    return f"{number + 1}-0" if number < LAST else None


def _misplaced(entry: str, before: str) -> str | None:
    if entry.endswith("-0"):
        return None
    return f"its id {entry} is not one that the door gives ({following(before)})"


def _misnamed(found: _Wire, data: bytes) -> str | None:
    """An envelope that is not the one ``encode`` makes of these bytes."""
    try:
        causation, correlation = bytes.fromhex(found.causation), bytes.fromhex(found.correlation)
    except ValueError:
        return "its ids are not hexadecimal"
    if (causation.hex(), correlation.hex()) != (found.causation, found.correlation):
        return "its ids are not hexadecimal as it is written here"
    root = ROOT if found.correlation == found.id else correlation
    if identify("control", bytes(found.event), causation, root).hex() != found.id:
        return f"its id {found.id[:12]} is not that of its bytes; something in it was changed"
    if found.flags or found.schema != STREAMS["control"].version or msgspec.json.encode(found) != data:
        return "its envelope was changed"
    return None


def _hole(before: str, entry: str) -> bool:
    """Whether ids that the door would have given lie between two entries."""
    return int(entry.partition("-")[0]) > int(before.partition("-")[0]) + 1
