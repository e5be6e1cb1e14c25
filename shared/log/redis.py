"""The log on a Redis or Valkey server (7.0 or later; features are probed, the version number is not checked).

Its keys are described in ``shared.log.layout``. The server that has a key is found by ``shared.log.routing``.

Reads are plain ``XREAD`` from a position. So there are no pending entries: a consumer that dies leaves nothing to
reclaim. A commit is one call of a server-side function (``commit.lua``).
"""

import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import msgspec

from schemas.codec import Encoded
from shared.log import (
    START,
    Claim,
    Commit,
    Committed,
    Entry,
    Extent,
    GroupView,
    Owner,
    ReadMark,
    StreamKey,
    UnavailableError,
    preceding,
)
from shared.log.connection import Command, Connection, ServerError
from shared.log.durability import UnfitServerError
from shared.log.identity import fault, truncated
from shared.log.layout import (
    claim_key,
    digest_words,
    extent_of,
    fence_key,
    group_key,
    groups_key,
    owner_of,
    pairs_of,
    position_of,
    refusal,
    stream_key,
    stream_keys,
)
from shared.log.leases import (
    LEASE_MS,
    check_commit,
    check_mark,
    check_partitioned,
    group_owned_error,
    halted,
    lease_runs,
    owner_is_dead,
    owner_is_running,
)
from shared.log.reader import StreamReader, entries_of
from shared.log.routing import Router
from shared.log.topology import CLOSE_S, topology_of
from shared.log.written import FIELD, RunningDigest, Written, advance, of_fields, running, streams_of

_log = logging.getLogger("log")
PAGE: Final = 10_000
"""The most entries to request from the server at once. It is blocked while it prepares the reply."""


REPLICATED_MS: Final = 500
"""How long an entry that is appended under its own id waits for a replica to have it too (milliseconds)."""


@functools.cache
def library() -> tuple[str, str]:
    """Return name and source of the function library. The name contains a digest of the source, so that two releases
    can use one server at the same time."""
    source = Path(__file__).with_name("commit.lua").read_text()
    name = f"conclave_{blake2b(source.encode(), digest_size=4).hexdigest()}"
    return name, source.replace("@LIBRARY@", name)


class RedisLog:
    """``shared.log.Log`` on a server. ``url``: see ``shared.log.topology.parse_address``.

    A command whose connection broke is sent again for up to ``patience_s`` seconds. This is safe: each command here
    either only reads, or is recognised when it is repeated."""

    def __init__(self, url: str, *, name: str = "conclave", patience_s: float = 30.0) -> None:
        self._router = Router(topology_of(url), name, patience_s)
        self._reader = StreamReader(self._router)
        self._checked: dict[tuple[str, int, int], tuple[Connection, int]] = {}
        self._newest: dict[tuple[str, int, int], _Made] = {}
        self._running: dict[tuple[str, int, int], dict[str, RunningDigest]] = {}

    @property
    def opened(self) -> int:
        """See ``Log.opened``."""
        return self._router.opened

    async def time(self, partition: int = 0) -> int:
        """See ``Log.time``."""
        return await self._router.at(groups_key(partition), _now_ms)

    async def check(self, marks: Sequence[ReadMark]) -> None:
        """See ``Log.check``."""

        async def compare() -> None:
            for server, some in self._by_server(marks).items():
                await _compare(await self._router.connected(server), some)

        if marks:
            await self._router.persist(compare)

    async def claim(
        self, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
    ) -> Claim:
        """See ``Log.claim``."""
        check_partitioned(streams, f"group {group!r}")
        keys = [group_key(group, partition), groups_key(partition), *stream_keys(streams, partition)]
        who = msgspec.json.encode(owner._asdict())
        consumer = f"{owner.label}@{owner.host}:{owner.pid}"
        mode: str | bytes = "force" if take_over else ""
        token = secrets.token_hex(12).encode()
        while True:
            reply = await self._function("claim", keys, [group, who, consumer, str(LEASE_MS), mode, token, *streams])
            if reply[0] != b"OWNED":
                break
            former, (since, until, now) = owner_of(reply[2]), map(int, reply[3:6])
            if not owner_is_dead(former, owner):
                raise group_owned_error(
                    group,
                    partition,
                    former,
                    epoch=int(reply[1]),
                    since_ms=since,
                    until_ms=until,
                    now_ms=now,
                    running=owner_is_running(former, owner),
                )
            mode = reply[1]
        _, epoch, before, memo, replayed, positions, wrote, restored = reply
        written = of_fields({field.decode(): value for field, value in pairs_of(wrote).items()})
        self._newest[group, partition, int(epoch)] = _Made(token)
        self._running[group, partition, int(epoch)] = running(written)
        return Claim(
            group,
            partition,
            int(epoch),
            owner,
            {stream: position_of(held) for stream, held in zip(streams, positions, strict=True)},
            msgspec.json.decode(replayed, type=dict[str, str]),
            memo,
            str(owner_of(before)) if before else None,
            written,
            tuple(restored.decode().split()),
        )

    async def renew(self, claim: Claim) -> None:
        """See ``Log.renew``."""
        reply = await self._function("renew", [claim_key(claim)], [str(claim.epoch), str(LEASE_MS)])
        if reply[0] != b"DONE":
            raise refusal(claim, reply)

    async def release(self, claim: Claim) -> None:
        """See ``Log.release``."""
        keys = [claim_key(claim), *stream_keys(claim.positions, claim.partition)]
        await self._function("release", keys, [str(claim.epoch), claim.group])

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        """See ``Log.commit``."""
        check_commit(claim, commit)
        held = (claim.group, claim.partition, claim.epoch)
        newest = self._newest.get(held, _Made(b""))
        made = newest.then(commit)
        repeated = made is newest
        keys: list[str] = [claim_key(claim), *stream_keys(commit.after, claim.partition)]
        args: list[Any] = [
            str(claim.epoch),
            str(LEASE_MS),
            claim.group,
            made.follows,
            made.token,
            commit.memo,
            msgspec.json.encode(commit.since),
            str(len(commit.after)),
        ]
        for stream, after in commit.after.items():
            before = commit.before[stream]
            args += (stream, f"{before.id} {before.seen}", after.id, str(after.seen), after.digest)
        entries: dict[str, list[bytes]] = {}
        for sealed in commit.outputs:
            entries.setdefault(sealed.stream, []).append(sealed.data)
        digests = self._running.get(held) or running(claim.written)
        grown = advance(claim.group, claim.partition, digests, commit.outputs)
        for stream, data in entries.items():
            keys.append(stream_key(stream, claim.partition))
            args += (str(len(data)), *digest_words(stream, digests, grown))
            args += data
        verb = "commit"
        if commit.fence is not None:
            verb = "commit_under"
            keys.append(fence_key(claim.partition))
            args.append(commit.fence)

        async def send(connection: Connection, command: Command) -> Any:
            # If a connection was opened since the last commit, the entries that this commit depends on are compared
            # first. Within one connection that is not needed: a server cannot lose entries between two commands of it.
            if self._checked.get(held) != (connection, self._router.opened):
                for server, marks in self._by_server(_known(claim, commit)).items():
                    await _compare(connection if server == here else await self._router.connected(server), marks)
                self._checked[held] = connection, self._router.opened
            return await connection.call(command, sent=self._reader.committing)

        here = self._router.server_of(keys[0])
        reply = await self._function(verb, keys, args, send)
        if reply[0] == b"HALTED":
            raise halted(claim, commit.fence, reply[1].decode())
        if reply[0] != b"DONE":
            raise refusal(claim, reply)
        if grown and not repeated:
            self._running[held] = {**digests, **grown}
        self._newest[held] = made
        names = [name.decode() for name in reply[1:]]
        for name in names:
            if name.startswith("!"):
                _log.error(
                    "%s takes no entries, so an alarm or a dead letter is lost: its last entry has the greatest id. "
                    "Find out who appended it, delete it (XDEL), and restore the last id (XSETID)",
                    name[1:],
                )
        recreated = tuple(name for name in names if not name.startswith("!"))
        return Committed(recreated, {} if repeated else self._running.get(held, {}))

    async def fence(self, partition: int) -> str:
        """See ``Log.fence``."""
        held = await self._ask("HGET", fence_key(partition), "mark")
        return held.decode() if held else ""

    async def set_fence(self, partition: int, mark: str, note: Encoded, *, expected: str | None = None) -> str:
        """See ``Log.set_fence``."""
        check_mark(mark, note)
        keys = [fence_key(partition), stream_key(note.stream, partition)]
        only = ("if", expected) if expected is not None else ("any", "")
        reply = await self._function("fence", keys, [mark, *only, note.data])
        return str(reply[1].decode())

    async def written(self, claim: Claim) -> Mapping[str, Written]:
        """See ``Log.written``."""
        fields = [f"{FIELD}{stream}" for stream in sorted(streams_of(claim.group))]
        held = await self._ask("HMGET", claim_key(claim), *fields) if fields else ()
        return of_fields({field: value for field, value in zip(fields, held, strict=True) if value is not None})

    async def read(
        self, after: Mapping[StreamKey, str], *, count: int, block_ms: int, ahead: bool = False
    ) -> list[Entry]:
        """See ``Log.read``."""
        return await self._reader.read(after, count, block_ms, ahead=ahead)

    async def scan(self, place: StreamKey, *, after: str = START, until: str = "+", count: int = 1000) -> list[Entry]:
        """See ``Log.scan``."""
        return entries_of(place, await self._ask("XRANGE", place.key, f"({after}", until, "COUNT", str(count)))

    async def tail(self, place: StreamKey, count: int) -> list[Entry]:
        """See ``Log.tail``."""
        entries: list[Entry] = []  # newest first
        while (wanted := min(count - len(entries), PAGE)) > 0:
            until = f"({entries[-1].id}" if entries else "+"
            rows = await self._ask("XREVRANGE", place.key, until, "-", "COUNT", str(wanted))
            entries += entries_of(place, rows)
            if len(rows) < wanted:
                break
        return entries[::-1]

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        """See ``Log.append_at``. A server cannot lose entries between two commands of one connection, so comparing and
        appending over the same one is as safe as a single atomic command."""
        sent = 0

        async def add(connection: Connection) -> Any:
            nonlocal sent
            await _compare(connection, marks)
            sent += 1
            if self._router.address.kind == "server":
                return await connection.call(("XADD", place.key, entry_id, "e", data))
            added, facts = await connection.call_all(
                [("XADD", place.key, entry_id, "e", data), ("INFO", "replication")]
            )
            if isinstance(added, Exception):
                raise added
            # A failover keeps what a replica has. Without replicas the entry is reported all the same.
            if b"connected_slaves:0" not in facts:
                await connection.call(("WAIT", "1", str(REPLICATED_MS)))
            return added

        try:
            await self._router.at(place.key, add)
        except ServerError as error:
            if "equal or smaller" not in str(error) and "must be greater than 0-0" not in str(error):
                raise
            # If it was sent more than once, the entry may be there because an earlier attempt succeeded.
            return sent > 1 and Entry(place, entry_id, data) in await self.scan(
                place, after=preceding(entry_id), count=1
            )
        return True

    async def extent(self, place: StreamKey) -> Extent:
        """See ``Log.extent``. Servers record deletions, but not trims. After a trim ``deleted`` may be too low;
        ``added - length`` is the number of entries that are gone."""
        return await self._router.at(place.key, lambda connection: _extent(connection, place))

    async def groups(self, partition: int) -> list[GroupView]:
        """See ``Log.groups``."""
        names = sorted(name.decode() for name in await self._ask("SMEMBERS", groups_key(partition)))
        records = {name: pairs_of(await self._ask("HGETALL", group_key(name, partition))) for name in names}
        now = await self.time(partition)  # after the leases: one that was extended since would seem to end too late
        views, added = [], dict[str, int]()
        for name, held in records.items():
            positions = {
                field[4:].decode(): position_of(value) for field, value in held.items() if field.startswith(b"pos:")
            }
            for stream in positions.keys() - added.keys():
                added[stream] = (await self.extent(StreamKey(stream, partition))).added
            lag = {stream: max(added[stream] - position.seen, 0) for stream, position in positions.items()}
            owner, alive = str(owner_of(held[b"owner"])), lease_runs(int(held[b"lease"]), now)
            written = of_fields({field.decode(): value for field, value in held.items()})
            epoch, memo = int(held[b"epoch"]), held.get(b"memo", b"")
            views.append(GroupView(name, partition, epoch, owner, alive, positions, lag, written, memo))
        return views

    async def close(self) -> None:
        """See ``Log.close``. A task that is cancelled closes its connections too."""
        for close in (self._reader.close, self._router.close):
            with anyio.move_on_after(CLOSE_S, shield=True):
                await close()

    async def load(self) -> None:
        """Load the functions of the log into each master. Raises ``UnfitServerError``, ``UnavailableError``."""
        for server in await self._router.persist(self._router.masters):
            await self._load_into(await self._router.persist(functools.partial(self._router.connected, server)))

    async def _load_into(self, connection: Connection) -> None:
        """Load the functions of the log into one server. Raises ``UnfitServerError``, ``UnavailableError``."""
        _, source = library()
        try:
            await connection.call(("FUNCTION", "LOAD", source))
        except ServerError as error:
            if "already exists" not in str(error):
                raise UnfitServerError(
                    f"the function library of the log cannot be loaded into {self._router.address}: {error}. It "
                    f"needs Redis 7.0 or Valkey, and once a user who may call FUNCTION LOAD (`conclave prepare`)"
                ) from None

    def _by_server(self, marks: Sequence[ReadMark]) -> dict[int, list[ReadMark]]:
        servers: dict[int, list[ReadMark]] = {}
        for mark in marks:
            servers.setdefault(self._router.server_of(mark.place.key), []).append(mark)
        return servers

    async def _function(
        self,
        verb: str,
        keys: Sequence[str],
        args: Sequence[Any],
        send: Callable[[Connection, Command], Awaitable[Any]] | None = None,
    ) -> Any:
        """Call a function. ``send`` may do more than send the call.

        If the server lacks the library, load it there and into the other masters: it is new, has just joined the
        cluster, or was emptied. Raises ``UnavailableError`` if this user has no permission for that: another must
        run ``conclave prepare``."""
        name, _ = library()
        command = ("FCALL", f"{name}_{verb}", str(len(keys)), *keys, *args)

        def once(connection: Connection) -> Awaitable[Any]:
            return connection.call(command) if send is None else send(connection, command)

        async def call(connection: Connection) -> Any:
            try:
                return await once(connection)
            except ServerError as error:
                if "unction not found" not in str(error) and "unknown command" not in str(error):
                    raise
            try:
                await self._load_into(connection)
                with suppress(UnavailableError):  # another one gets it when it is used
                    for server in await self._router.masters():
                        await self._load_into(await self._router.connected(server))
            except UnfitServerError as error:
                raise (UnavailableError(str(error)) if "NOPERM" in str(error) else error) from None
            return await once(connection)

        reply = await self._router.at(keys[0], call)
        if reply[0] == b"NOSTREAM":
            raise UnfitServerError(
                f"key {reply[1].decode()!r} on {self._router.address} holds a {reply[2].decode()}, not a stream; "
                f"nothing was written. Another program uses this name: move it, or use another database"
            )
        return reply

    async def _ask(self, verb: str, key: str, *words: str) -> Any:
        """Send a command about a key. The command must be one that may be repeated."""
        return await self._router.at(key, lambda connection: connection.call((verb, key, *words)))


async def _compare(connection: Connection, marks: Sequence[ReadMark]) -> None:
    """Compare entries that were read with the log, over this connection. Raises ``TruncatedLogError``."""
    if not marks:
        return
    answers = await connection.call_all(
        [("XRANGE", mark.place.key, mark.position.id, mark.position.id) for mark in marks]
    )
    for mark, rows in zip(marks, answers, strict=True):
        if isinstance(rows, Exception):
            raise rows
        there = entries_of(mark.place, rows)
        extent = None if there else await _extent(connection, mark.place)
        why = fault(mark, there[0].data if there else None, extent)
        if why is not None:
            extent = extent or await _extent(connection, mark.place)
            raise truncated(mark, extent.last, why)


async def _now_ms(connection: Connection) -> int:
    """Return the time by the server's clock; by that of this machine for a user who may only read keys."""
    try:
        seconds, micros = await connection.call(("TIME",))
    except ServerError as error:
        if not str(error).startswith("NOPERM"):
            raise
        return time.time_ns() // 1_000_000
    return int(seconds) * 1000 + int(micros) // 1000


async def _extent(connection: Connection, place: StreamKey) -> Extent:
    try:
        return extent_of(await connection.call(("XINFO", "STREAM", place.key)))
    except ServerError as error:
        if "no such key" in str(error):
            return Extent(START, START, 0, 0, START)
        raise


def _known(claim: Claim, commit: Commit) -> list[ReadMark]:
    """Return the entries that a commit depends on: those in its ``known``, and those at its new positions."""
    read = (
        ReadMark(StreamKey(stream, claim.partition), after) for stream, after in commit.after.items() if after.digest
    )
    return [*commit.known, *read]


class _Made(NamedTuple):
    """A claim, or a commit under it. ``token``: what the server stores of it as ``last``. ``follows``: the token of the
    one before. ``content``: a digest of what was committed.

    The token depends on the one before: after a loss, the server's ``last`` may be an earlier commit with the same
    content as the next one, which must not pass for that one sent again."""

    token: bytes
    follows: bytes = b""
    content: bytes = b""

    def then(self, commit: Commit) -> "_Made":
        """Return the commit that follows this one: this one, if it is the same commit sent again."""
        content = _content(commit)
        if content == self.content:
            return self
        return _Made(blake2b(self.token + content, digest_size=12).hexdigest().encode(), self.token, content)


def _content(commit: Commit) -> bytes:
    """Return a digest of the contents of a commit. Of each event it covers the id, which is a digest of the event."""
    digest = blake2b(b"".join([sealed.envelope.id for sealed in commit.outputs]), digest_size=12)
    digest.update(msgspec.json.encode((commit.before, commit.after, commit.since, commit.fence)) + commit.memo)
    return digest.digest()
