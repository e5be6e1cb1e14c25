"""How long the chat server has not answered the bot, and what is to be reported of it: people who rely on a halt by
phone must know that it does not work."""

import socket
from typing import Final

from schemas.operations import PhoneAnswers, PhoneSilent
from shared.log import StreamKey

ALARMS: Final = StreamKey("alarms")
SILENT_MS: Final = 120_000
"""An answer comes every 25 seconds at the latest, so that several requests have failed by then."""


class Silence:
    """What became of the requests for updates. Times are of a clock that is never set (ms). ``reported``: an earlier
    process reported that the chat server does not answer, and this was not over."""

    def __init__(self, now: int, *, reported: bool = False) -> None:
        self._since = now
        self._reported = reported
        self._answered = False
        self._fault = "no request has been answered since the start"

    def answered(self, now: int) -> None:
        """Note an answer."""
        self._since, self._answered = now, True
        self._fault = "a request is not answered"

    def failed(self, why: str) -> None:
        """Note a request that failed."""
        self._answered, self._fault = False, why

    def lasts_ms(self, now: int) -> int:
        """Return for how long there was no answer."""
        return now - self._since

    def due(self, now: int, at: int) -> PhoneSilent | PhoneAnswers | None:
        """Return the event that is to be written; the same until ``wrote``. ``at``: the server's time (ms)."""
        host, lasts = socket.gethostname(), self.lasts_ms(now)
        if self._reported and self._answered:
            return PhoneAnswers(host, at)
        if not self._reported and lasts >= SILENT_MS:
            return PhoneSilent(host=host, began=at - lasts, detail=self._fault[:2000], at=at)
        return None

    def wrote(self, event: PhoneSilent | PhoneAnswers) -> None:
        """Note that an event was written."""
        self._reported = isinstance(event, PhoneSilent)
