"""Read and append the stream ``training``: it is read from its beginning once, then from the last entry read.

Each entry is appended with the id that follows the last entry the writer has read. If two writers append at once, one
succeeds; the other reads what was appended and checks again (as ``shared.control.issuing`` does for control).
"""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from schemas.codec import Envelope, encode
from schemas.control import SetTrainingPolicy
from schemas.training import StackerRequested, TrainingEvent, TrainingRequested
from shared.control.issuing import RefusedError
from shared.log import START, Log, Position, ReadMark, StreamKey
from shared.log.events import Unreadable, events_of
from shared.log.identity import digest_of
from shared.log.leases import id_order
from shared.training.jobs import Jobs, Request

TRAINING: Final = StreamKey("training")
RACES: Final = 50
_log = logging.getLogger(__name__)


class TrainingWriter:
    """One process's view of the stream. ``observe`` is called with every event that is read."""

    def __init__(self, log: Log, observe: Callable[[Envelope[TrainingEvent]], None] | None = None) -> None:
        self.log = log
        self.jobs = Jobs()
        self.last = START
        self._newest = Position()
        self._observe = observe
        self._unreadable = Unreadable()
        self._turn = anyio.Lock()

    async def read(self) -> Jobs:
        """Return all jobs, up to the current end of the stream."""
        async with self._turn:
            return await self._read()

    async def _read(self) -> Jobs:
        """Read the new entries. Raises ``TruncatedLogError`` if the stream has lost entries that were read: it must
        then be read again from its beginning."""
        await self.log.check(self._marks())
        while entries := await self.log.scan(TRAINING, after=self.last):
            self._newest = Position(entries[-1].id, self._newest.seen + len(entries), digest_of(entries[-1].data))
            for _, envelope in events_of(entries, self._unreadable):
                self.jobs.apply(envelope)
                if self._observe is not None:
                    self._observe(envelope)
            self.last = entries[-1].id
        self._unreadable.log(_log)
        return self.jobs

    async def request(self, request: Request, policy: SetTrainingPolicy) -> str:
        """Append a request and return its id. Raises ``RefusedError`` where the current jobs do not allow it."""
        evidence = request.evidence if isinstance(request, TrainingRequested) else None
        cause = bytes(16) if evidence is None else bytes.fromhex(evidence)
        encoded = encode("training", request, causation=cause)
        for _ in range(RACES):
            jobs = await self.read()
            if (why := jobs.refuses(request, policy)) is not None:
                raise RefusedError(why)
            if await self.log.append_at(TRAINING, self._next(request.at), encoded.data, marks=self._marks()):
                await self.read()
                return encoded.envelope.id.hex()
        raise RefusedError(f"{RACES} other events were appended first, one after another; try again")

    async def append(self, event: TrainingEvent) -> None:
        """Append an event of a job that was requested. Raises ``RefusedError``."""
        if isinstance(event, TrainingRequested | StackerRequested):
            raise TypeError("append a request with request(), which checks whether it is allowed")
        job = bytes.fromhex(event.request)
        encoded = encode("training", event, causation=job, correlation=job)
        for _ in range(RACES):
            await self.read()
            if await self.log.append_at(TRAINING, self._next(event.at), encoded.data, marks=self._marks()):
                await self.read()
                return
        raise RefusedError(f"{RACES} other events were appended first, one after another; try again")

    def _marks(self) -> list[ReadMark]:
        return [ReadMark(TRAINING, self._newest, kept=True)]

    def _next(self, at: int) -> str:
        """Return an id after the last one: from the given time (ms), or from the last id where the clock is earlier
        than it."""
        moment, sequence = id_order(self.last)
        return f"{at}-0" if at > moment else f"{moment}-{sequence + 1}"
