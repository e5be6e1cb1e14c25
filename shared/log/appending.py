"""Append an event outside of a commit: to a stream that a process writes without owning a group."""

import logging
from typing import Final

from shared.log import Log, StreamKey
from shared.log.leases import id_order

RACES: Final = 50
"""How often the end of the stream is looked up again, if another entry was appended first."""
_log = logging.getLogger(__name__)


async def append_next(log: Log, place: StreamKey, data: bytes, at: int) -> bool:
    """Append an entry under the id ``at`` (ms, the server's time), or the next one after the last entry. Return False
    if other writers were faster each time. Raises ``UnavailableError``."""
    for _ in range(RACES):
        moment, sequence = id_order((await log.extent(place)).last)
        entry = f"{at}-0" if at > moment else f"{moment}-{sequence + 1}"
        if await log.append_at(place, entry, data):
            return True
    _log.warning("not appended to %s: %d other entries were appended first", place.key, RACES)
    return False
