"""Reads of streams, each waiting on a connection of its own; some are sent ahead.

Keys of one command lie in one slot (a cluster demands it), so streams are read by partition, and control by itself:
each has its ``XREAD``, and the first that is answered ends the wait. The others wait on for the next read.

Two reads are sent before they are asked for. Under a backlog, where a batch was full: the next one comes while the
caller is busy with this one. And right after a commit, for a caller who announced that it reads on: the server, which
the commit has woken, takes both before it sleeps again. The commit goes first, since somebody waits for what it writes.
An answer that nobody asks for is dropped.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from shared.log import Entry, StreamKey
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
    answer: asyncio.Task[Any]


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
        self._next: dict[int, _Read] = {}

    async def read(self, after: Mapping[StreamKey, str], count: int, block_ms: int, *, ahead: bool) -> list[Entry]:
        """See ``Log.read``."""
        reads = {
            slot: _Read({place: after[place] for place in places}, count, max(block_ms, 0))
            for slot, places in _by_slot(tuple(after)).items()
        }
        rows: Rows = await self._persist(partial(self._first if block_ms > 0 else self._now, reads))
        self._next = {}
        for slot, read in reads.items():
            found = {place: rows[place] for place in read.after if place in rows}
            if read.full(found):
                self._send(slot, read.next(found, 0))
            elif ahead and found:
                self._next[slot] = read.next(found, read.block_ms)
        return [entry for place in after if place in rows for entry in entries_of(place, rows[place])]

    def committing(self) -> None:
        """A commit was sent: what its caller reads next goes after it."""
        for slot, read in self._next.items():
            self._send(slot, read)
        self._next = {}

    async def close(self) -> None:
        """Closes at once."""
        for sent in self._sent.values():
            sent.answer.cancel()
        free = [connection for some in self._free.values() for connection in some]
        for connection in (*free, *(sent.connection for sent in self._sent.values())):
            await connection.close()
        self._free, self._sent, self._next = {}, {}, {}

    async def _first(self, reads: Mapping[int, _Read]) -> Rows:
        """Waits for the first answer, and takes what else has come by then."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + max(read.block_ms for read in reads.values()) / 1000
        waiting: dict[int, _Sent] = {}
        try:
            while True:
                for slot, read in reads.items():
                    if slot not in waiting:
                        waiting[slot] = await self._sent_before(slot, read) or await self._start(slot, read)
                answers = [sent.answer for sent in waiting.values()]
                left_s = max(deadline - clock(), 0)
                done, _ = await asyncio.wait(answers, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                rows: Rows = {}
                for slot in [slot for slot, sent in waiting.items() if sent.answer in done]:
                    rows |= await self._taken(waiting.pop(slot))
                if rows or not done:
                    return rows
        finally:
            for slot, sent in waiting.items():
                if slot in self._sent:  # of another caller, who reads the same streams
                    await self._drop(sent)
                else:
                    self._sent[slot] = sent

    async def _now(self, reads: Mapping[int, _Read]) -> Rows:
        """Reads without waiting, in one write to each server."""
        rows: Rows = {}
        servers: dict[int, list[_Read]] = {}
        for slot, read in reads.items():
            sent = self._sent.get(slot)
            if sent is not None and not sent.read.block_ms:
                del self._sent[slot]
                if sent.read != read:
                    await self._drop(sent)
                elif found := await self._taken(sent):
                    rows |= found
                    continue
            servers.setdefault(self._server(read), []).append(read)
        for server, some in servers.items():
            connection = await self._free_connection(server)
            try:
                answers = await connection.call_all([read.command for read in some], GRACE_S)
            except BaseException:
                await connection.close()
                raise
            self._free.setdefault(server, []).append(connection)
            for read, answer in zip(some, answers, strict=True):
                if isinstance(answer, Exception):
                    raise answer
                rows |= read.rows(answer)
        return rows

    async def _sent_before(self, slot: int, read: _Read) -> _Sent | None:
        """What was sent already, where it is this read."""
        sent = self._sent.pop(slot, None)
        if sent is not None and sent.read[:2] != read[:2]:
            await self._drop(sent)
            return None
        return sent

    async def _start(self, slot: int, read: _Read) -> _Sent:
        server = self._server(read)
        return _started(read, server, await self._free_connection(server))

    def _send(self, slot: int, read: _Read) -> None:
        """Sends ahead, if a connection is free."""
        server = self._server(read)
        free = self._free.get(server)
        if free and slot not in self._sent:
            self._sent[slot] = _started(read, server, free.pop())

    async def _taken(self, sent: _Sent) -> Rows:
        """The entries of an answer, which is waited for. The end of a backlog counts as nothing: it is read again,
        since more may have come."""
        try:
            answer = await sent.answer
        except BaseException:
            await sent.connection.close()  # the server may still be waiting on it
            raise
        self._free.setdefault(sent.server, []).append(sent.connection)
        rows = sent.read.rows(answer)
        return rows if sent.read.block_ms or sent.read.full(rows) else {}

    async def _drop(self, sent: _Sent) -> None:
        if sent.answer.done() and not sent.connection.closed:
            self._free.setdefault(sent.server, []).append(sent.connection)
        else:
            sent.answer.cancel()
            await sent.connection.close()

    def _server(self, read: _Read) -> int:
        return self._server_of(next(iter(read.after)).key)

    async def _free_connection(self, server: int) -> Connection:
        free = self._free.get(server, [])
        while free:
            connection = free.pop()
            if not connection.closed:
                return connection
        return await self._connect(server)


def _started(read: _Read, server: int, connection: Connection) -> _Sent:
    answer = asyncio.create_task(connection.call(read.command, read.block_ms / 1000 + GRACE_S))
    answer.add_done_callback(lambda task: task.cancelled() or task.exception())  # retrieved: nobody may ask
    return _Sent(read, server, connection, answer)


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
