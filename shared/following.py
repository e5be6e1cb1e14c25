"""Following the control stream: from its beginning to its end, and on. Also what is raised where an entry
was written past its door."""

import time
import zlib
from collections.abc import Sequence
from typing import Final

from schemas.catalogue import STREAMS
from schemas.codec import Envelope, Sealed, seal
from schemas.control import CommandRecorded
from schemas.operations import ControlRefused
from shared.control import Reader, Refused
from shared.log import Entry, Log, Place

CONTROL: Final = Place("control")
OTHERS_ALARM_AFTER_S: Final = 5.0


def now_ms() -> int:
    """The wall clock. Only shells may ask; cores are told."""
    return time.time_ns() // 1_000_000


async def read_control(log: Log, reader: Reader) -> list[Envelope[CommandRecorded]]:
    """All control entries behind ``reader.last`` that stand; the reader has folded them. Raises
    ``ControlError``."""
    envelopes: list[Envelope[CommandRecorded]] = []
    while entries := await log.scan(CONTROL, after=reader.last):
        envelopes += standing(reader, entries)
    return envelopes


def standing(reader: Reader, entries: Sequence[Entry]) -> list[Envelope[CommandRecorded]]:
    """Those of the next entries that stand; the reader has folded them. Raises ``ControlError``."""
    return [found for entry in entries if (found := reader.take(entry.id, entry.data)) is not None]


def alarm_of(refused: Refused) -> Sealed:
    """The alarm for a control entry that was written past the door: the same bytes from everybody."""
    raw = refused.data.decode(errors="replace")[:2000]
    event = ControlRefused(refused.entry, refused.version, refused.head, refused.reason[:2000], raw)
    return seal("alarms", event)


def patience(group: str) -> float:
    """How long a group leaves it to others to raise what all of them see (seconds)."""
    if group in STREAMS["intents"].writers:
        return 0.0
    return OTHERS_ALARM_AFTER_S * (1 + zlib.crc32(group.encode()) % 16 / 16)
