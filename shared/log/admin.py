"""What is done with a server's streams as a whole: a cut through them, trimming, restoring.

A cut is taken in one transaction of a partition. Commits are atomic there too, so the streams' ends and the
groups' positions in it fit together: whoever restores exactly that much goes on as after a crash.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from schemas.catalogue import STREAMS
from shared.log import START, Entry, StreamKey
from shared.log.connection import Connection, ServerError, pack, parse_address
from shared.log.redis import ANSWER_S

AT_ONCE: Final = 500
"""Entries of one round trip when restoring."""


class StreamEnd(NamedTuple):
    """Where a stream ended: its oldest and newest entry, and how many were ever added."""

    first: str = START
    last: str = START
    added: int = 0


class PartitionCut(NamedTuple):
    """One partition at one moment: the ends of its streams, and each group's hash, field by field."""

    ends: Mapping[str, StreamEnd]
    groups: Mapping[str, Mapping[str, bytes]]


class NotEmptyError(RuntimeError):
    """A server to restore into holds something of Conclave's already. Says which key."""


@asynccontextmanager
async def opened_whole(url: str, name: str) -> AsyncIterator["Whole"]:
    """A connection of its own to the server at ``url``. Raises ``UnavailableError``."""
    wire = await Connection.open(parse_address(url), name)
    try:
        yield Whole(wire)
    finally:
        wire.close()


class Whole:
    """A server's streams as a whole, over one connection that is not opened again."""

    def __init__(self, wire: Connection) -> None:
        self._wire = wire

    async def cut(self, partition: int) -> PartitionCut:
        """A partition at one moment."""
        streams = [spec for spec in STREAMS.values() if spec.partitioned]
        names = await self._ask("SMEMBERS", _groups(partition))
        while True:
            asked = [
                ("SMEMBERS", _groups(partition)),
                *(("XINFO", "STREAM", spec.key(partition)) for spec in streams),
                *(("HGETALL", _group(name.decode(), partition)) for name in names),
            ]
            known, *facts = await self._at_once(asked)
            if set(known) == set(names):
                break
            names = known
        ends = {spec.name: _end(found) for spec, found in zip(streams, facts, strict=False)}
        held = facts[len(streams) :]
        return PartitionCut(
            {name: end for name, end in ends.items() if end.added},
            {
                name.decode(): {field.decode(): value for field, value in _pairs(found).items()}
                for name, found in sorted(zip(names, held, strict=True))
            },
        )

    async def end(self, place: StreamKey) -> StreamEnd:
        """Where one stream ends now."""
        [found] = await self._at_once([("XINFO", "STREAM", place.key)])
        return _end(found)

    async def trim(self, place: StreamKey, first_kept: str) -> int:
        """Removes the entries before ``first_kept``; how many those were."""
        removed: int = await self._ask("XTRIM", place.key, "MINID", "=", first_kept)
        return removed

    async def refuse_unless_empty(self, partitions: int) -> None:
        """Raises ``NotEmptyError`` where a stream or a group of Conclave's is there."""
        keys = [
            spec.key(number) for spec in STREAMS.values() for number in range(partitions if spec.partitioned else 1)
        ]
        for key in (*keys, *(_groups(number) for number in range(partitions))):
            if await self._ask("EXISTS", key):
                raise NotEmptyError(
                    f"the server holds {key} already: restore into an empty one, so that nothing is mixed. "
                    "If this is what an interrupted restore left, empty it (FLUSHDB) and begin again"
                )

    async def restore(self, place: StreamKey, entries: Iterable[Sequence[Entry]], end: StreamEnd) -> int:
        """Writes a stream as it was: the same ids, the same bytes, the same count of entries ever added.
        ``entries`` come in slices, in order; how many those were."""
        count = 0
        for some in entries:
            for start in range(0, len(some), AT_ONCE):
                commands = [pack("XADD", place.key, one.id, "e", one.data) for one in some[start : start + AT_ONCE]]
                for answer in self._wire.post(b"".join(commands), len(commands)):
                    reply = await answer
                    if isinstance(reply, ServerError):
                        raise self._wire.judged(reply)
            count += len(some)
        await self._ask(
            "XSETID", place.key, end.last, "ENTRIESADDED", str(max(end.added, count)), "MAXDELETEDID", START
        )
        return count

    async def restore_group(self, group: str, partition: int, fields: Mapping[str, bytes]) -> None:
        """Writes a group as it was, released, under a new epoch: who held it before the loss cannot commit."""
        kept = dict(fields) | {"lease": b"0", "last": b"", "epoch": str(int(fields["epoch"]) + 1).encode()}
        if fields.get("wrote") == fields["epoch"]:
            kept["wrote"] = kept["epoch"]  # its digests are those of the restored entries
        await self._ask("HSET", _group(group, partition), *(word for pair in kept.items() for word in pair))
        await self._ask("SADD", _groups(partition), group)

    async def _ask(self, *command: Any) -> Any:
        return await self._wire.call(pack(*command), ANSWER_S)

    async def _at_once(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        packed = [pack("MULTI"), *(pack(*command) for command in commands), pack("EXEC")]
        *queued, done = self._wire.post(b"".join(packed), len(packed))
        for answer in queued:
            reply = await answer
            if isinstance(reply, ServerError):
                await done
                raise self._wire.judged(reply)
        replies: Any = await done
        if isinstance(replies, ServerError):
            raise self._wire.judged(replies)
        return list(replies)


def _end(found: Any) -> StreamEnd:
    if isinstance(found, ServerError):
        if "no such key" in str(found):
            return StreamEnd()
        raise found
    facts = _pairs(found)
    first = facts[b"first-entry"][0].decode() if facts[b"length"] else START
    return StreamEnd(first, facts[b"last-generated-id"].decode(), int(facts[b"entries-added"]))


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _group(group: str, partition: int) -> str:
    return f"conclave:{{p{partition}}}:group:{group}"


def _groups(partition: int) -> str:
    return f"conclave:{{p{partition}}}:groups"
