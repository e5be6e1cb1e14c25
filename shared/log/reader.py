"""Reads of streams, each waiting on a connection of its own; some are sent ahead.

Keys of one command lie in one slot (a cluster demands it), so streams are read by partition, and control by itself.
The last of these reads is the caller's own wait. The others, control as a rule, wait in the background, and end the
caller's wait when they are answered. What is not answered by then waits on for the next read.

Two reads are sent before they are asked for. Under a backlog, where a batch was full: the next one comes while the
caller is busy with this one. And right after a commit, for a caller who announced that it reads on: the server, which
the commit has woken, takes both before it sleeps again. The commit goes first, since somebody waits for what it writes.
An answer that nobody asks for is dropped.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from shared.log import Entry, StreamKey, UnavailableError
from shared.log.connection import Command, Connection
from shared.log.topology import slot_of

T = TypeVar("T")
Rows = dict[StreamKey, Sequence[Any]]

GRACE_S: Final = 5.0
"""How much longer than its own limit a waiting read may take (seconds)."""


class Persist(Protocol):
    """Awaits ``attempt``, again where a connection breaks."""

    async def __call__(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Raises ``UnavailableError``, ``ServerError``."""


class _Read(NamedTuple):
    """Streams of one slot, read after these ids. It waits where ``block_ms`` is not 0."""

    after: Mapping[StreamKey, str]
    most: int
    block_ms: int

    @property
    def command(self) -> Command:
        wait = ("BLOCK", str(self.block_ms)) if self.block_ms else ()
        keys = (place.key for place in self.after)
        return ("XREAD", "COUNT", str(self.most), *wait, "STREAMS", *keys, *self.after.values())

    @property
    def limit_s(self) -> float:
        return self.block_ms / 1000 + GRACE_S

    def rows(self, answer: Any) -> Rows:
        """The entries of an answer, by stream."""
        found = dict(answer.items() if isinstance(answer, dict) else answer or ())
        return {place: found[key] for place in self.after if (key := place.key.encode()) in found}

    def full(self, rows: Rows) -> bool:
        """Whether there may be more to read at once."""
        return any(len(found) == self.most for found in rows.values())

    def next(self, rows: Rows, block_ms: int) -> "_Read":
        """The read that goes on after these entries."""
        ends = {place: found[-1][0].decode() for place, found in rows.items()}
        return _Read({**self.after, **ends}, self.most, block_ms)


class _Sent(NamedTuple):
    read: _Read
    server: int
    connection: Connection


class _Aside(NamedTuple):
    """A read that waits in the background until there is something."""

    read: _Read
    rows: asyncio.Task[Rows]


class StreamReader:
    """The reads of one log. ``server_of`` numbers the server of a key, ``connect`` opens a connection to one,
    ``persist`` attempts until an answer comes."""

    def __init__(
        self, server_of: Callable[[str], int], connect: Callable[[int], Awaitable[Connection]], persist: Persist
    ) -> None:
        self._server_of = server_of
        self._connect = connect
        self._persist = persist
        self._free: dict[int, list[Connection]] = {}
        self._sent: dict[int, _Sent] = {}
        self._aside: dict[int, _Aside] = {}
        self._waits = set[asyncio.Timeout]()
        self._next: _Read | None = None

    async def read(self, after: Mapping[StreamKey, str], count: int, block_ms: int, *, ahead: bool) -> list[Entry]:
        """See ``Log.read``."""
        reads = {
            slot: _Read({place: after[place] for place in places}, count, max(block_ms, 0))
            for slot, places in _by_slot(tuple(after)).items()
        }
        self._next = None
        rows: Rows = await self._persist(partial(self._first if block_ms > 0 else self._now, reads))
        *_, last = reads.values()
        found = {place: rows[place] for place in last.after if place in rows}
        if last.full(found):
            await self._send(last.next(found, 0))
        elif ahead and found:
            self._next = last.next(found, last.block_ms)
        return [entry for place in after if place in rows for entry in entries_of(place, rows[place])]

    async def committing(self) -> None:
        """A commit was sent: what its caller reads next goes after it."""
        if self._next is not None:
            read, self._next = self._next, None
            await self._send(read)

    async def close(self) -> None:
        """Closes at once."""
        for aside in self._aside.values():
            aside.rows.cancel()
        await asyncio.gather(*(aside.rows for aside in self._aside.values()), return_exceptions=True)
        free = [connection for some in self._free.values() for connection in some]
        for connection in (*free, *(sent.connection for sent in self._sent.values())):
            await connection.close()
        self._free, self._sent, self._aside, self._next = {}, {}, {}, None

    async def _first(self, reads: Mapping[int, _Read]) -> Rows:
        """Waits for the first answer, and takes what else has come by then."""
        *others, last = reads.items()
        if not others:
            return await self._answer(*last)
        asides = {slot: self._set_aside(slot, read) for slot, read in others}
        rows: Rows = {}
        try:
            while True:
                answered = False
                if not any(aside.rows.done() for aside in asides.values()):
                    wait = asyncio.timeout(None)
                    self._waits.add(wait)
                    try:
                        async with wait:
                            rows, answered = await self._answer(*last), True
                    except TimeoutError:
                        pass  # interrupted: one of the asides is there
                    finally:
                        self._waits.discard(wait)
                for slot in [slot for slot, aside in asides.items() if aside.rows.done()]:
                    rows |= asides.pop(slot).rows.result()
                if rows or answered:
                    return rows
        finally:
            for slot, aside in asides.items():
                if slot in self._aside:  # of another caller, who reads the same streams
                    aside.rows.cancel()
                else:
                    self._aside[slot] = aside

    async def _now(self, reads: Mapping[int, _Read]) -> Rows:
        """Reads without waiting, in one write to each server."""
        rows: Rows = {}
        servers: dict[int, list[_Read]] = {}
        for slot, read in reads.items():
            sent = self._sent.get(slot)
            if sent is not None and not sent.read.block_ms:
                if sent.read != read:
                    await self._sent.pop(slot).connection.close()
                elif found := await self._taken(slot):
                    rows |= found
                    continue
            servers.setdefault(self._server(read), []).append(read)
        for server, some in servers.items():
            connection = await self._connection(server)
            async with self._lent(server, connection):
                answers = await connection.call_all([read.command for read in some], GRACE_S)
                for read, answer in zip(some, answers, strict=True):
                    if isinstance(answer, Exception):
                        raise answer
                    rows |= read.rows(answer)
        return rows

    async def _answer(self, slot: int, read: _Read) -> Rows:
        """The answer to a read, which may have been sent before."""
        while True:
            sent = self._sent.get(slot)
            if sent is None or sent.read[:2] != read[:2] or sent.read.block_ms > read.block_ms:
                if sent is not None:
                    await self._sent.pop(slot).connection.close()  # the server may still be waiting on it
                server = self._server(read)
                connection = await self._connection(server)
                await connection.send(read.command, read.limit_s)
                self._sent[slot] = sent = _Sent(read, server, connection)
            rows = await self._taken(slot)
            if rows or sent.read.block_ms:
                return rows

    async def _taken(self, slot: int) -> Rows:
        """Waits for the answer to what was sent. The end of a backlog counts as nothing: it is read again, since more
        may have come."""
        sent = self._sent.pop(slot)
        try:
            answer = await sent.connection.answer()
        except asyncio.CancelledError:
            if slot in self._sent:  # of another caller, who reads the same streams
                await sent.connection.close()
            else:
                self._sent[slot] = sent
            raise
        except BaseException:
            await sent.connection.close()
            raise
        self._free.setdefault(sent.server, []).append(sent.connection)
        rows = sent.read.rows(answer)
        return rows if sent.read.block_ms or sent.read.full(rows) else {}

    async def _send(self, read: _Read) -> None:
        """Sends ahead, if a connection is free."""
        slot, server = slot_of(next(iter(read.after)).key), self._server(read)
        free = self._free.get(server)
        if free and slot not in self._sent:
            connection = free.pop()
            with suppress(UnavailableError):  # it is read again where that matters
                await connection.send(read.command, read.limit_s)
                self._sent[slot] = _Sent(read, server, connection)

    def _set_aside(self, slot: int, read: _Read) -> _Aside:
        aside = self._aside.pop(slot, None)
        if aside is not None:
            if aside.read[:2] == read[:2]:
                return aside
            aside.rows.cancel()
        rows = asyncio.create_task(self._until_some(read))
        rows.add_done_callback(self._interrupt)
        return _Aside(read, rows)

    async def _until_some(self, read: _Read) -> Rows:
        server = self._server(read)
        connection, rows = await self._connection(server), Rows()
        async with self._lent(server, connection):
            while not rows:
                rows = read.rows(await connection.call(read.command, read.limit_s))
        return rows

    def _interrupt(self, aside: asyncio.Task[Rows]) -> None:
        """Ends waits: what was set aside is there."""
        if not aside.cancelled():
            aside.exception()  # retrieved: nobody may ask
            while self._waits:
                self._waits.pop().reschedule(0)

    @asynccontextmanager
    async def _lent(self, server: int, connection: Connection) -> AsyncIterator[None]:
        """Takes the connection back after the body, or closes it: the server may still be waiting on it."""
        try:
            yield
        except BaseException:
            await connection.close()
            raise
        self._free.setdefault(server, []).append(connection)

    def _server(self, read: _Read) -> int:
        return self._server_of(next(iter(read.after)).key)

    async def _connection(self, server: int) -> Connection:
        free = self._free.get(server, [])
        while free:
            connection = free.pop()
            if not connection.closed:
                return connection
            await connection.close()
        return await self._connect(server)


@functools.lru_cache(maxsize=64)
def _by_slot(places: tuple[StreamKey, ...]) -> Mapping[int, tuple[StreamKey, ...]]:
    slots: dict[int, tuple[StreamKey, ...]] = {}
    for place in places:
        slot = slot_of(place.key)
        slots[slot] = (*slots.get(slot, ()), place)
    return slots


def entries_of(place: StreamKey, rows: Sequence[Any]) -> list[Entry]:
    """The entries of a stream in a reply."""
    # Half the price of Entry(...); this runs for every event.
    new = tuple.__new__
    return [new(Entry, (place, entry_id.decode(), fields[1])) for entry_id, fields in rows]
