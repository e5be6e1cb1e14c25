"""Record on the stream ``access`` who signed in and out, and who was refused, by the time of the server."""

import logging

from msgspec import structs

from schemas.access import AccessEvent
from schemas.codec import UnwritableError, encode
from shared.log import Log, StreamKey, UnavailableError
from shared.log.leases import id_order

ACCESS = StreamKey("access")
RACES = 50
_log = logging.getLogger("observatory")


class SignIns:
    """The writer of ``access``."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def record(self, event: AccessEvent) -> bool:
        """Append an event with the time at which it is appended, and return whether it is recorded. A server that does
        not answer is logged: signing in to halt must not depend on it."""
        try:
            event = structs.replace(event, at=await self._log.time())
            data = encode("access", event).data
            for _ in range(RACES):
                moment, sequence = id_order((await self._log.extent(ACCESS)).last)
                entry = f"{event.at}-0" if event.at > moment else f"{moment}-{sequence + 1}"
                if await self._log.append_at(ACCESS, entry, data):
                    return True
        except (UnavailableError, UnwritableError) as error:
            _log.warning("not recorded on access: %s: %s", event, error)
            return False
        _log.warning("not recorded on access: %s: %d other entries were appended first", event, RACES)
        return False
