"""Record on the stream ``access`` who signed in and out, and who was refused, by the time of the server."""

import logging

from msgspec import structs

from schemas.access import AccessEvent
from schemas.codec import UnwritableError, encode
from shared.log import Log, StreamKey, UnavailableError
from shared.log.appending import append_next

ACCESS = StreamKey("access")
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
            return await append_next(self._log, ACCESS, encode("access", event).data, event.at)
        except (UnavailableError, UnwritableError) as error:
            _log.warning("not recorded on access: %s: %s", event, error)
            return False
