"""Read the control stream from its beginning, then only new entries; make the alarm for a refused entry.

Each reader checks that the log is still the one it read before (``marks_of``): ``read_control`` on every call, since it
reads the last entry again together with the following ones; others by ``Log.check``."""

import time
import zlib
from collections.abc import Sequence
from typing import Final

from schemas.catalogue import STREAMS
from schemas.codec import Encoded, Envelope, encode
from schemas.control import CommandRecorded
from schemas.operations import ControlRefused
from shared.control import ControlReader, RefusedEntry
from shared.log import START, Entry, Log, Position, ReadMark, StreamKey, preceding
from shared.log.identity import digest_of

CONTROL: Final = StreamKey("control")
OTHERS_ALARM_AFTER_S: Final = 5.0


def now_ms() -> int:
    """Return the wall clock in ms since the epoch. For shells only: a core gets its time in messages."""
    return time.time_ns() // 1_000_000


def marks_of(reader: ControlReader) -> tuple[ReadMark, ...]:
    """Return the marks that identify the log which was read: its last entry, and the last one that counts. The latter
    must still be there; a refused one may have been deleted since."""
    marks = []
    for read, kept in ((reader.newest_folded, True), (reader.newest, False)):
        if read is not None and (kept or read != reader.newest_folded):
            marks.append(ReadMark(CONTROL, Position(read.entry, read.number, digest_of(read.data)), kept))
    return tuple(marks)


async def read_control(log: Log, reader: ControlReader) -> list[Envelope[CommandRecorded]]:
    """Read the entries after ``reader.last``, fold them into the reader, and return those that count.

    Raises ``ControlError``, and ``TruncatedLogError`` if the log is not the one that was read before."""
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
        envelopes += folded(reader, entries)


def folded(reader: ControlReader, entries: Sequence[Entry]) -> list[Envelope[CommandRecorded]]:
    """Fold the next entries into the reader, and return those that count. Raises ``ControlError``."""
    envelopes = (reader.take(entry.id, entry.data) for entry in entries)
    return [envelope for envelope in envelopes if envelope is not None]


def alarm_of(refused: RefusedEntry, others: Sequence[RefusedEntry] = ()) -> Encoded:
    """Return the alarm for a refused control entry, and for the ``others`` after it. All services make the same bytes
    of the same entries."""
    raw = refused.data[:8000].decode(errors="replace")[:2000]
    event = ControlRefused(
        entry=refused.entry,
        version=refused.version,
        head=refused.head,
        reason=refused.reason[:2000],
        raw=raw,
        more=len(others) or None,
        until=others[-1].entry if others else None,
    )
    return encode("alarms", event)


def patience(group: str) -> float:
    """Return how long a group waits (s) before it raises an alarm that every group can raise."""
    if group in STREAMS["intents"].writers:
        return 0.0
    return OTHERS_ALARM_AFTER_S * (1 + zlib.crc32(group.encode()) % 16 / 16)
