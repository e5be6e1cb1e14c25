"""Read streams. Each read that waits has its own connection, and some reads are sent in advance.

A cluster requires that all keys of one command lie in one slot. So there is one read for each partition, and a separate
one for the control stream. The caller waits for the last of these reads. The others, usually that of control, wait in
the background, and end the caller's wait when they are answered. A read that is not answered by then keeps waiting, for
the caller's next read.

A read is sent in advance in two cases. First, if a batch was full, there is a backlog: the next batch arrives while the
caller handles this one. Second, right after a commit, if the caller announced that it reads on (``ahead``): the commit
has woken the server, which handles both commands before it sleeps again. The commit is sent first, because other
services wait for its outputs. An answer that the caller does not ask for is dropped.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

from shared.log import Entry, StreamKey, UnavailableError
from shared.log.connection import Command, Connection
from shared.log.routing import Router
from shared.log.topology import slot_of

Rows = dict[StreamKey, Sequence[Any]]

GRACE_S: Final = 5.0
"""How much longer than its ``block_ms`` a read may take (seconds)."""


class _Read(NamedTuple):
    """A read of streams of one slot, after the given ids. It waits if ``block_ms`` is not 0."""

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
        """Return the entries in an answer, by stream."""
        found = dict(answer.items() if isinstance(answer, dict) else answer or ())
        return {place: found[key] for place in self.after if (key := place.key.encode()) in found}

    def full(self, rows: Rows) -> bool:
        """Return whether the streams may have more entries already."""
        return any(len(found) == self.most for found in rows.values())

    def next(self, rows: Rows, block_ms: int) -> "_Read":
        """Return the read that follows these entries."""
        ends = {place: found[-1][0].decode() for place, found in rows.items()}
        return _Read({**self.after, **ends}, self.most, block_ms)


class _Sent(NamedTuple):
    read: _Read
    server: int
    connection: Connection


class _Aside(NamedTuple):
    """A read that waits in the background until there are entries."""

    read: _Read
    rows: asyncio.Future[Rows]


class StreamReader:
    """The reads of one log, over connections of ``router``."""

    def __init__(self, router: Router) -> None:
        self._router = router
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
        rows: Rows = await self._router.persist(partial(self._first if block_ms > 0 else self._now, reads))
        *_, last = reads.values()
        found = {place: rows[place] for place in last.after if place in rows}
        if last.full(found):
            await self._send(last.next(found, 0))
        elif ahead and found:
            self._next = last.next(found, last.block_ms)
        return [entry for place in after if place in rows for entry in entries_of(place, rows[place])]

    async def committing(self) -> None:
        """Send the read that was announced by ``ahead``, if any. Call this right after a commit was sent."""
        if self._next is not None:
            read, self._next = self._next, None
            await self._send(read)

    async def close(self) -> None:
        """Cancel the background reads, and close all connections at once."""
        for aside in self._aside.values():
            aside.rows.cancel()
        await asyncio.gather(*(aside.rows for aside in self._aside.values()), return_exceptions=True)
        free = [connection for some in self._free.values() for connection in some]
        for connection in (*free, *(sent.connection for sent in self._sent.values())):
            await connection.close()
        self._free, self._sent, self._aside, self._next = {}, {}, {}, None

    async def _first(self, reads: Mapping[int, _Read]) -> Rows:
        """Wait for the first answer. Return it with the other answers that have arrived by then."""
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
                        pass  # interrupted, because a background read is done
                    finally:
                        self._waits.discard(wait)
                for slot in [slot for slot, aside in asides.items() if aside.rows.done()]:
                    rows |= asides.pop(slot).rows.result()
                if rows or answered:
                    return rows
        finally:
            for slot, aside in asides.items():
                if slot in self._aside:  # another caller, which reads the same streams, has one there
                    aside.rows.cancel()
                else:
                    self._aside[slot] = aside

    async def _now(self, reads: Mapping[int, _Read]) -> Rows:
        """Read without waiting, in one write to each server."""
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
        """Return the answer to a read, which may have been sent in advance."""
        while True:
            sent = self._sent.get(slot)
            if sent is None or sent.read[:2] != read[:2] or sent.read.block_ms > read.block_ms:
                if sent is not None:
                    await self._sent.pop(slot).connection.close()  # a read may still wait at the server
                sent = await self._dispatch(slot, read, await self._connection(self._server(read)))
            rows = await self._taken(slot)
            if rows or sent.read.block_ms:
                return rows

    async def _taken(self, slot: int) -> Rows:
        """Wait for the answer to the read that was sent in advance, and return its entries.

        If the answer ends a backlog, return none: the entries are read again, because more may have been added."""
        sent = self._sent.pop(slot)
        try:
            answer = await sent.connection.answer()
        except asyncio.CancelledError:
            if slot in self._sent:  # another caller, which reads the same streams, has one there
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
        """Send a read in advance, if a connection is free."""
        slot, server = slot_of(next(iter(read.after)).key), self._server(read)
        free = self._free.get(server)
        if free and slot not in self._sent:
            with suppress(UnavailableError):  # no loss: the read is sent again when it is needed
                await self._dispatch(slot, read, free.pop())

    async def _dispatch(self, slot: int, read: _Read, connection: Connection) -> _Sent:
        try:
            await connection.send(read.command, read.limit_s)
        except BaseException:
            await connection.close()
            raise
        self._sent[slot] = sent = _Sent(read, self._server(read), connection)
        return sent

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
        """End the waits of callers, because a background read is done."""
        if not aside.cancelled():
            aside.exception()  # mark it as retrieved, in case no caller does
            while self._waits:
                self._waits.pop().reschedule(0)

    @asynccontextmanager
    async def _lent(self, server: int, connection: Connection) -> AsyncIterator[None]:
        """Make the connection free after the body. After an error close it: a read may still wait at the server."""
        try:
            yield
        except BaseException:
            await connection.close()
            raise
        self._free.setdefault(server, []).append(connection)

    def _server(self, read: _Read) -> int:
        return self._router.server_of(next(iter(read.after)).key)

    async def _connection(self, server: int) -> Connection:
        free = self._free.get(server, [])
        while free:
            connection = free.pop()
            if not connection.closed:
                return connection
            await connection.close()
        return await self._router.for_reads(server)


@functools.lru_cache(maxsize=64)
def _by_slot(places: tuple[StreamKey, ...]) -> Mapping[int, tuple[StreamKey, ...]]:
    slots: dict[int, tuple[StreamKey, ...]] = {}
    for place in places:
        slot = slot_of(place.key)
        slots[slot] = (*slots.get(slot, ()), place)
    return slots


def entries_of(place: StreamKey, rows: Sequence[Any]) -> list[Entry]:
    """Return the entries of a stream from the rows of a reply."""
    # Runs for every event, and takes half as long as Entry(...).
    new = tuple.__new__
    return [new(Entry, (place, entry_id.decode(), fields[1])) for entry_id, fields in rows]
