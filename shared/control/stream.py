"""Following the control stream: from its beginning to its end, and on. Also what is raised where an entry
was written past its door.

Whoever follows it checks that the log there is, is the log that was read (``marks_of``): ``read_control`` with every
call, since it asks for the last entry again with those after it; others by ``Log.check``."""

import time
import zlib
from collections.abc import Sequence
from typing import Final

from schemas.catalogue import STREAMS
from schemas.codec import Encoded, Envelope, encode
from schemas.control import CommandRecorded
from schemas.operations import ControlRefused
from shared.control import ControlReader, RefusedEntry
from shared.log import START, Entry, Log, Mark, Position, StreamKey, preceding
from shared.log.identity import digest_of

CONTROL: Final = StreamKey("control")
OTHERS_ALARM_AFTER_S: Final = 5.0


def now_ms() -> int:
    """The wall clock. Only shells may ask; cores are told."""
    return time.time_ns() // 1_000_000


def marks_of(reader: ControlReader) -> tuple[Mark, ...]:
    """By what the control log that was read is known again: its last entry, and the last one that counts. That one
    has to be there; one that was refused may have been deleted since."""
    found = []
    for taken, kept in ((reader.standing, True), (reader.newest, False)):
        if taken is not None and (kept or taken != reader.standing):
            found.append(Mark(CONTROL, Position(taken.entry, taken.number, digest_of(taken.data)), kept))
    return tuple(found)


async def read_control(log: Log, reader: ControlReader) -> list[Envelope[CommandRecorded]]:
    """All control entries behind ``reader.last`` that stand; the reader has folded them. Raises
    ``ControlError``, and ``TruncatedLogError`` where the log is not the one that was read."""
    envelopes: list[Envelope[CommandRecorded]] = []
    while True:
        after = preceding(reader.last) if reader.last != START else START
        entries = await log.scan(CONTROL, after=after)
        newest = reader.newest
        if newest is not None:
            if entries and (entries[0].id, entries[0].data) == newest[:2]:
                entries = entries[1:]
            else:
                await log.check(marks_of(reader))  # a refused entry may have been deleted
                entries = [entry for entry in entries if entry.id != newest.entry]
        if not entries:
            return envelopes
        envelopes += standing(reader, entries)


def standing(reader: ControlReader, entries: Sequence[Entry]) -> list[Envelope[CommandRecorded]]:
    """Those of the next entries that stand; the reader has folded them. Raises ``ControlError``."""
    return [found for entry in entries if (found := reader.take(entry.id, entry.data)) is not None]


def alarm_of(refused: RefusedEntry) -> Encoded:
    """The alarm for a control entry that was written past the door: the same bytes from everybody."""
    raw = refused.data.decode(errors="replace")[:2000]
    event = ControlRefused(refused.entry, refused.version, refused.head, refused.reason[:2000], raw)
    return encode("alarms", event)


def patience(group: str) -> float:
    """How long a group leaves it to others to raise what all of them see (seconds)."""
    if group in STREAMS["intents"].writers:
        return 0.0
    return OTHERS_ALARM_AFTER_S * (1 + zlib.crc32(group.encode()) % 16 / 16)
