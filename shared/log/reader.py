"""Reads of streams on a server, each on a connection of its own while it waits; some are sent ahead.

Under a backlog, where a batch was full: the next one comes while the caller is busy with this one. And right behind a
commit, for a caller who said that it goes on reading: the server, which the commit has woken, takes both before it
sleeps again, and the caller need not be awake to send the second. The commit goes first, since somebody waits for what
it writes. An answer that nobody asks for is dropped.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from shared.log import Entry, StreamKey, UnavailableError
from shared.log.connection import Connection, ServerError, pack

GRACE_S: Final = 5.0
"""How much longer than its own limit a waiting read may take (seconds)."""


class Persist(Protocol):
    """Sends ``packed`` by ``send``, again where a connection breaks, and gives the answer."""

    async def __call__(self, send: Callable[[bytes, float], Awaitable[Any]], packed: bytes, limit_s: float) -> Any:
        """Raises ``UnavailableError``, ``ServerError``."""


class _Read(NamedTuple):
    after: Mapping[StreamKey, str]
    most: int
    block_ms: int

    @property
    def packed(self) -> bytes:
        wait = ("BLOCK", str(self.block_ms)) if self.block_ms > 0 else ()
        places = _keyed(tuple(self.after))
        return pack("XREAD", "COUNT", str(self.most), *wait, "STREAMS", *places, *self.after.values())

    @property
    def limit_s(self) -> float:
        return max(self.block_ms, 0) / 1000 + GRACE_S


class _Sent(NamedTuple):
    read: _Read
    wire: Connection
    answer: asyncio.Future[Any]


class StreamReader:
    """The reads of one log. ``connect`` opens a connection, ``persist`` sends until an answer comes."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], persist: Persist) -> None:
        self._connect = connect
        self._persist = persist
        self._free: list[Connection] = []
        self._ahead: dict[tuple[StreamKey, ...], _Sent] = {}
        self._next: _Read | None = None

    async def read(self, after: Mapping[StreamKey, str], count: int, block_ms: int, *, ahead: bool) -> list[Entry]:
        """See ``Log.read``."""
        read = _Read(after, count, block_ms)
        reply = await self._taken(read) if self._ahead else None
        if reply is None:
            reply = await self._persist(self._wait, read.packed, read.limit_s) or ()
        found: list[Entry] = []
        ends: dict[StreamKey, str] = {}
        more = False
        places = _keyed(tuple(after))
        for key, rows in reply:
            found += entries_of(places[key], rows)
            ends[places[key]] = found[-1].id
            more = more or len(rows) == count
        self._next = None
        if more:
            self._send(_Read({**after, **ends}, count, 0))
        elif ahead and ends:
            self._next = _Read({**after, **ends}, count, block_ms)
        return found

    def committing(self) -> None:
        """A commit was sent: what its caller reads next goes behind it."""
        if self._next is not None:
            self._send(self._next)
            self._next = None

    def close(self) -> None:
        """Closes at once."""
        for wire in (*self._free, *(sent.wire for sent in self._ahead.values())):
            wire.close()
        self._free, self._ahead, self._next = [], {}, None

    def _send(self, read: _Read) -> None:
        if self._free and not self._free[-1].closed:
            wire = self._free.pop()
            (answer,) = wire.post(read.packed, limit_s=read.limit_s)
            self._ahead[tuple(read.after)] = _Sent(read, wire, answer)

    async def _taken(self, read: _Read) -> Sequence[Any] | None:
        """The answer to what was sent ahead, if it was this, and waits no longer. The end of a backlog is read anew,
        since more may have come."""
        sent = self._ahead.pop(tuple(read.after), None)
        if sent is None:
            return None
        backlog = not sent.read.block_ms
        if sent.read != read and not (backlog and sent.read[:2] == read[:2]):
            if sent.answer.done():
                self._free.append(sent.wire)
            else:
                sent.wire.close()
            return None
        try:
            reply = await sent.answer
        except UnavailableError:
            return None
        except BaseException:
            sent.wire.close()  # the server may still be waiting on it
            raise
        self._free.append(sent.wire)
        if isinstance(reply, ServerError):
            return None
        rows: Sequence[Any] = reply or ()
        return None if backlog and not any(len(found) == read.most for _, found in rows) else rows

    async def _wait(self, packed: bytes, limit_s: float) -> Any:
        """Nothing waits behind a read that waits."""
        wire = self._free.pop() if self._free else None
        if wire is None or wire.closed:
            wire = await self._connect()
        try:
            reply = await wire.call(packed, limit_s)
        except BaseException:
            wire.close()  # the server may still be waiting on it
            raise
        self._free.append(wire)
        return reply


@functools.lru_cache(maxsize=64)
def _keyed(places: tuple[StreamKey, ...]) -> Mapping[bytes, StreamKey]:
    return {place.key.encode(): place for place in places}


def entries_of(place: StreamKey, rows: Sequence[Any]) -> list[Entry]:
    """The entries of a stream in a reply."""
    # Half the price of Entry(...); this runs for every event.
    new = tuple.__new__
    return [new(Entry, (place, entry_id.decode(), fields[1])) for entry_id, fields in rows]
