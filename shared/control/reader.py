"""Decide which entries of the control stream count. A pure function of the stream.

``ControlReader.take`` is given every entry of the stream in order. An entry that a control writer (``issuing``) wrote
extends the chain, and counts. Any other entry is refused, or stops the reader.

Refused: bytes that are no command; an id, digest or signature that does not fit; an old entry again; a command that is
not accepted. The entry is not applied and is kept in ``refused`` for an alarm; reading continues. Versions count only
the entries that count, while the id of the next entry follows the last id on the stream.

Stopped (``ControlError``): the configuration cannot be known. Entries are missing (ids are missing, and the chain does
not bridge them); an entry was built on one that was refused; or an entry extends the chain, but only a newer release
can read it. Once a key is trusted, only an entry with the signature of a trusted key can stop a reader. Any other one
is refused, so that a client which may append to the stream, and has no key, cannot stop an installation.

Faults are recorded in alarms and pinned by ``tests/histories``, so their wording is fixed.
"""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, structs

from schemas.catalogue import STREAMS
from schemas.codec import ROOT, UNDECODABLE, Envelope, identify
from schemas.control import CommandRecorded
from shared.control.chain import canonical, fold, head_of
from shared.control.signing import verify
from shared.control.state import EMPTY, ControlError, State

START: Final = "0-0"
LAST: Final = 2**64 - 1
"""The greatest number in an entry id."""
KEPT: Final = 2**24
"""Bytes of refused entries that a reader keeps. Of the entries after that it keeps the first ``KEPT_LATER`` bytes."""
KEPT_LATER: Final = 200


class RefusedEntry(NamedTuple):
    """An entry that does not count: its id on the stream, the reason, the version and head that stay in force, and its
    bytes."""

    entry: str
    reason: str
    version: int
    head: str
    data: bytes


class _RawEnvelope(Struct, frozen=True):
    schema: int
    flags: int
    id: str
    causation: str
    correlation: str
    event: Raw


class _Claim(Struct, frozen=True):
    """The fields by which an entry claims its place in the chain. Every release can read them."""

    version: int
    previous: str


class _Signature(Struct, frozen=True):
    """The fields by which an entry is signed. Every release can read them, too."""

    key: str | None = None
    signature: str | None = None


_envelope: Final = msgspec.json.Decoder(_RawEnvelope).decode
_claim: Final = msgspec.json.Decoder(_Claim).decode
_signature: Final = msgspec.json.Decoder(_Signature).decode
_recorded: Final = msgspec.json.Decoder(CommandRecorded).decode
_plain: Final = msgspec.json.decode


class ReadEntry(NamedTuple):
    """An entry that was read: its id, its bytes, and its number on the stream, from 1."""

    entry: str
    data: bytes
    number: int


class ControlReader:
    """Fold one control stream from its beginning.

    ``state``: the configuration so far. ``last``: the id of the last entry read, whether it counted or not; ``newest``
    is that entry. ``newest_folded``: the last entry that counted. ``refused``: the entries that did not. ``newest`` and
    ``newest_folded`` identify the log when it is read again (``shared.control.stream.marks_of``)."""

    def __init__(self) -> None:
        self.state: State = EMPTY
        self.last = START
        self.newest: ReadEntry | None = None
        self.newest_folded: ReadEntry | None = None
        self.refused: list[RefusedEntry] = []
        self._orphans: dict[str, str] = {}
        self._kept = 0

    def take(self, entry: str, data: bytes) -> Envelope[CommandRecorded] | None:
        """Fold an entry into ``state`` and return its envelope; return None for a refused one. Raises
        ``ControlError``, after which this reader cannot be used any more."""
        before, self.last = self.last, entry
        self.newest = newest = ReadEntry(entry, data, self.newest.number + 1 if self.newest else 1)
        try:
            envelope = _envelope(data)
            claim = _claim(envelope.event)
        except UNDECODABLE as error:
            self._refuse(entry, data, f"it is no control entry: {error}")
            return None
        recorded = self._read(entry, data, envelope, claim)
        if recorded is None:
            return None
        fault = _misplaced(entry, before) or _misnamed(envelope, data)
        if fault is None:
            try:
                self.state = fold(self.state, recorded)
            except ControlError as error:
                fault = str(error)
                self._stop_if_rewritten(entry, before, recorded, fault)
        if fault is not None:
            self._refuse(entry, data, fault, recorded)
            return None
        self.newest_folded = newest
        ids = [bytes.fromhex(each) for each in (envelope.id, envelope.causation, envelope.correlation)]
        return Envelope(envelope.schema, envelope.flags, ids[0], ids[1], ids[2], recorded)

    def _read(self, entry: str, data: bytes, envelope: _RawEnvelope, claim: _Claim) -> CommandRecorded | None:
        """Return the decoded entry; None if it is refused because this release cannot decode every field. Raises
        ``ControlError`` if such an entry extends the chain."""
        try:
            recorded = _recorded(envelope.event)
            written, known = bytes(envelope.event), canonical(recorded)
            if written == known or _plain(written) == _plain(known):
                return recorded
            fault = "it says more than this release understands"
        except UNDECODABLE as error:
            fault = f"this release cannot read it: {error}"
        extends = (claim.version, claim.previous) == (self.state.version + 1, self.state.head)
        if extends and self._is_trusted(bytes(envelope.event)):
            raise ControlError(
                f"control entry {entry} extends the log as version {claim.version}, but {fault}; "
                "a newer release wrote it, or it was forged: update this one, or look at the entry"
            )
        self._refuse(entry, data, fault)
        return None

    def _stop_if_rewritten(self, entry: str, before: str, recorded: CommandRecorded, fault: str) -> None:
        """Raise ``ControlError`` if an entry that does not fit shows that earlier entries were removed or changed."""
        orphan = self._orphans.get(recorded.previous)
        hole = recorded.version > self.state.version + 1 and _hole(before, entry)
        if recorded.version <= self.state.version or not (orphan or hole):
            return
        if not self._is_trusted(canonical(recorded)):
            return
        if orphan is not None:
            raise ControlError(
                f"control entry {entry} was written upon entry {orphan}, which does not fit here; the log was "
                f"changed behind version {self.state.version}: restore it, or compare it with a checkpoint"
            )
        raise ControlError(
            f"control entry {entry}: {fault}; versions {self.state.version + 1} to {recorded.version - 1} are "
            f"gone, and so are the ids between {before} and {entry}: restore them from a copy of the log"
        )

    def _is_trusted(self, event: bytes) -> bool:
        """Return whether a trusted key signed an entry. Until a key is trusted, every entry counts as signed.

        The signature is over the bytes of the entry without it, so it can be checked for an entry of a newer release,
        too."""
        if self.state.open:
            return True
        try:
            key_id, signature = structs.astuple(_signature(event))
        except UNDECODABLE:
            return False
        key = self.state.keys.get(key_id or "")
        signed = event.replace(f',"signature":"{signature}"'.encode(), b"")
        return key is not None and signature is not None and verify(signed, signature, key.public_key)

    def _refuse(self, entry: str, data: bytes, reason: str, recorded: CommandRecorded | None = None) -> None:
        if recorded is not None and recorded.version > self.state.version:
            self._orphans[head_of(recorded)] = entry
        data = data if self._kept + len(data) <= KEPT else data[:KEPT_LATER]
        self._kept += len(data)
        self.refused.append(RefusedEntry(entry, reason, self.state.version, self.state.head, data))


def following(entry: str) -> str | None:
    """Return the id that a control writer gives to the entry after ``entry``: the next whole number. None if ``entry``
    has the greatest one."""
    number = int(entry.partition("-")[0])
    return f"{number + 1}-0" if number < LAST else None


def _misplaced(entry: str, before: str) -> str | None:
    if entry.endswith("-0"):
        return None
    return f"its id {entry} is not one that the door gives ({following(before)})"


def _misnamed(envelope: _RawEnvelope, data: bytes) -> str | None:
    """Return what differs from the envelope that ``encode`` makes of the event; None if nothing does."""
    try:
        causation, correlation = bytes.fromhex(envelope.causation), bytes.fromhex(envelope.correlation)
    except ValueError:
        return "its ids are not hexadecimal"
    if (causation.hex(), correlation.hex()) != (envelope.causation, envelope.correlation):
        return "its ids are not hexadecimal as it is written here"
    root = ROOT if envelope.correlation == envelope.id else correlation
    if identify("control", bytes(envelope.event), causation, root).hex() != envelope.id:
        return f"its id {envelope.id[:12]} is not that of its bytes; something in it was changed"
    if envelope.flags or envelope.schema != STREAMS["control"].version or msgspec.json.encode(envelope) != data:
        return "its envelope was changed"
    return None


def _hole(before: str, entry: str) -> bool:
    """Return whether ids that a control writer would have given are missing between two entries."""
    return int(entry.partition("-")[0]) > int(before.partition("-")[0]) + 1
