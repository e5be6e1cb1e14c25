"""Operate on the streams of a server as a whole: take a consistent cut, trim, restore.

The cut of a partition is read in one transaction. Commits are atomic too, so the ends of the streams and the positions
of the groups in a cut are consistent. On a log that was restored to exactly that cut, services continue as after a
crash.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import anyio
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from schemas.catalogue import STREAMS
from shared.log import START, Entry, StreamKey
from shared.log.connection import server_errors
from shared.log.layout import group_key, groups_key
from shared.log.topology import CLOSE_S, Topology, topology_of

AT_ONCE: Final = 500
"""How many entries one round trip of a restore writes."""


class StreamEnd(NamedTuple):
    """The end of a stream: its oldest and newest id, and the number of entries ever added."""

    first: str = START
    last: str = START
    added: int = 0


class PartitionCut(NamedTuple):
    """A partition at one moment: the ends of its streams, and the hash of each group, field by field."""

    ends: Mapping[str, StreamEnd]
    groups: Mapping[str, Mapping[str, bytes]]


class NotEmptyError(RuntimeError):
    """The server to restore into already has data of Conclave. The message names the key."""


@asynccontextmanager
async def opened_whole(url: str, name: str) -> AsyncIterator["Whole"]:
    """Open separate clients for the servers at ``url``, and close them after the body. Raises ``UnavailableError``."""
    topology = topology_of(url)
    whole = Whole(topology, name)
    try:
        with server_errors(str(topology.address)):
            yield whole
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await whole.close()
            await topology.close()


class Whole:
    """The streams of all servers. A command is not repeated if its connection breaks."""

    def __init__(self, topology: Topology, name: str) -> None:
        self._topology = topology
        self._name = name
        self._clients: dict[int, Redis] = {}

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.aclose()

    async def cut(self, partition: int) -> PartitionCut:
        """Return a consistent cut of a partition."""
        streams = [spec for spec in STREAMS.values() if spec.partitioned]
        client = await self._client(groups_key(partition))
        names: Any = await client.smembers(groups_key(partition))
        while True:
            async with client.pipeline(transaction=True) as at_once:
                at_once.smembers(groups_key(partition))
                for spec in streams:
                    at_once.xinfo_stream(spec.key(partition))
                for name in names:
                    at_once.hgetall(group_key(name.decode(), partition))
                known, *facts = await at_once.execute(raise_on_error=False)
            if isinstance(known, Exception):
                raise known
            if known == names:
                break
            names = known
        ends = {spec.name: _end(found) for spec, found in zip(streams, facts, strict=False)}
        groups = zip(names, facts[len(streams) :], strict=True)
        return PartitionCut(
            {name: end for name, end in ends.items() if end.added},
            {
                name.decode(): {field.decode(): value for field, value in fields.items()}
                for name, fields in sorted(groups)
            },
        )

    async def end(self, place: StreamKey) -> StreamEnd:
        """Return the current end of a stream."""
        try:
            return _end(await (await self._client(place.key)).xinfo_stream(place.key))
        except ResponseError as error:
            return _end(error)

    async def trim(self, place: StreamKey, first_kept: str) -> int:
        """Remove the entries before ``first_kept``. Return how many were removed."""
        return int(await (await self._client(place.key)).xtrim(place.key, minid=first_kept, approximate=False))

    async def refuse_unless_empty(self, partitions: int) -> None:
        """Raise ``NotEmptyError`` if a stream or a group of Conclave exists in the first ``partitions`` partitions."""
        keys = [
            spec.key(number) for spec in STREAMS.values() for number in range(partitions if spec.partitioned else 1)
        ]
        for key in (*keys, *(groups_key(number) for number in range(partitions))):
            if await (await self._client(key)).exists(key):
                raise NotEmptyError(
                    f"the server holds {key} already: restore into an empty one, so that nothing is mixed. "
                    "If this is what an interrupted restore left, empty it (FLUSHDB) and begin again"
                )

    async def restore(self, place: StreamKey, entries: Iterable[Sequence[Entry]], end: StreamEnd) -> int:
        """Write a stream as it was: the same ids, the same bytes, the same count of entries ever added.

        ``entries`` are slices of the stream, in order. Return how many entries were written."""
        client, count = await self._client(place.key), 0
        for some in entries:
            for start in range(0, len(some), AT_ONCE):
                async with client.pipeline(transaction=False) as commands:
                    for entry in some[start : start + AT_ONCE]:
                        commands.xadd(place.key, {"e": entry.data}, id=entry.id)
                    await commands.execute()
            count += len(some)
        words = ("XSETID", place.key, end.last, "ENTRIESADDED", max(end.added, count), "MAXDELETEDID", START)
        await client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no annotations here
        return count

    async def restore_group(self, group: str, partition: int, fields: Mapping[str, bytes]) -> None:
        """Write a group as it was, but released and under a new epoch, so that its owner from before the loss cannot
        commit."""
        kept: dict[Any, Any] = dict(fields) | {
            "lease": b"0",
            "last": b"",
            "epoch": str(int(fields["epoch"]) + 1).encode(),
        }
        if fields.get("wrote") == fields["epoch"]:
            kept["wrote"] = kept["epoch"]  # the digests cover the restored entries
        client = await self._client(groups_key(partition))
        await client.hset(group_key(group, partition), mapping=kept)
        await client.sadd(groups_key(partition), group)

    async def _client(self, key: str) -> Redis:
        server = self._topology.server_of(key)
        if server not in self._clients:
            self._clients[server] = await self._topology.client(server, self._name)
        return self._clients[server]


def _end(found: Any) -> StreamEnd:
    if isinstance(found, Exception):
        if "no such key" in str(found):
            return StreamEnd()
        raise found
    first = found["first-entry"][0].decode() if found["length"] else START
    return StreamEnd(first, found["last-generated-id"].decode(), found["entries-added"])
