"""The log on a Redis or Valkey server (7.0 or later; features are probed, the version number is not checked).

The keys of a partition have its hash tag, and so lie in one slot of a cluster:

``conclave:{p<n>}:<stream>``, ``conclave:control``      stream
    The entries. Each has one field, ``e``: the encoded envelope. The consumer groups of the stream mirror the
    positions below for standard tools (``XINFO GROUPS`` shows lag and owner). They are read only by a claim of a group
    whose hash is lost, which takes the positions from there.
``conclave:{p<n>}:groups``                              set
    The names of all groups that were ever claimed.
``conclave:{p<n>}:group:<group>``                       hash
    The durable record of a group:
    ``epoch``         number of claims. A commit under an older epoch is refused.
    ``owner``         JSON: host, pid, label, start time of the process (``born``), namespace of the pid.
    ``consumer``      name of the owner within the consumer groups.
    ``claimed``       time of the claim, in milliseconds of the server's clock.
    ``lease``         time until which other owners are excluded, by the same clock; 0: released.
    ``pos:<stream>``  ``<id> <seen>``: the last entry committed, and how many entries were read up to there.
    ``read:<stream>`` ``<id> <digest>``: the id of that entry again, and the digest of its bytes.
    ``since``         JSON: by stream, the id after which entries are replayed to rebuild the state.
    ``restored``      streams whose position was taken from the consumer group; empty after the next commit.
    ``memo``          the snapshot: the part of the state that is not replayed, encoded by the service.
    ``last``          token of the last commit under this epoch, which recognises a repeat. After a claim it is a
                      random one, so that two claims of one epoch differ (the server may have lost the first).
    ``wrote:<stream>`` ``<since> <last> <count> <digest>``: what the group wrote there (``shared.log.written``).
    ``wrote``         epoch of the last owner that kept these digests. If it is not ``epoch``, an older release has
                      owned the group since.
``conclave:{p<n>}:fence``                               hash
    ``mark``          ``open <command id>`` or ``closed <command id>``: whether intents may be written.

Reads are plain ``XREAD`` from a position. So there are no pending entries: a consumer that dies leaves nothing to
reclaim. A commit is one call of a server-side function (``commit.lua``).
"""

import functools
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import msgspec

from schemas.catalogue import STREAMS
from schemas.codec import Encoded
from shared.log import (
    START,
    Claim,
    Commit,
    Committed,
    Entry,
    Extent,
    FencedError,
    GroupView,
    Mark,
    Owner,
    Position,
    StreamKey,
    TruncatedLogError,
    UnavailableError,
    preceding,
)
from shared.log.connection import Command, Connection, RedirectedError, ServerError
from shared.log.durability import UnfitServerError
from shared.log.identity import fault, rolled_back, truncated
from shared.log.leases import (
    LEASE_MS,
    check_commit,
    check_mark,
    check_partitioned,
    group_owned_error,
    halted,
    owner_is_dead,
    owner_is_running,
)
from shared.log.reader import StreamReader, entries_of
from shared.log.topology import topology_of
from shared.log.written import FIELD, RunningDigest, Written, advance, of_fields, running, streams_of

T = TypeVar("T")


PAGE: Final = 10_000
"""The most entries to request from the server at once. It is blocked while it prepares the reply."""


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
        self._topology = topology_of(url)
        self._name = name
        self._patience = patience_s
        self._commands: dict[int, Connection] = {}
        self._checked: dict[tuple[str, int, int], tuple[Connection, int]] = {}
        self._opened = 0
        self._opening = anyio.Lock()
        self._reader = StreamReader(self._topology.server_of, self._for_reads, self._persist)
        self._tokens: dict[tuple[str, int, int], bytes] = {}
        self._running: dict[tuple[str, int, int], dict[str, RunningDigest]] = {}

    @property
    def opened(self) -> int:
        """See ``Log.opened``."""
        return self._opened

    async def check(self, marks: Sequence[Mark]) -> None:
        """See ``Log.check``."""

        async def compare() -> None:
            for server, some in self._by_server(marks).items():
                await _compare(await self._connected(server), some)

        if marks:
            await self._persist(compare)

    async def claim(
        self, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
    ) -> Claim:
        """See ``Log.claim``."""
        check_partitioned(streams, f"group {group!r}")
        keys = [_group_key(group, partition), _groups_key(partition), *_keys(streams, partition)]
        who = msgspec.json.encode(owner._asdict())
        consumer = f"{owner.label}@{owner.host}:{owner.pid}"
        mode: str | bytes = "force" if take_over else ""
        token = secrets.token_hex(12).encode()
        while True:
            reply = await self._function("claim", keys, [group, who, consumer, str(LEASE_MS), mode, token, *streams])
            if reply[0] != b"OWNED":
                break
            former, (since, until, now) = _owner(reply[2]), map(int, reply[3:6])
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
        written = of_fields({field.decode(): value for field, value in _pairs(wrote).items()})
        self._tokens[group, partition, int(epoch)] = token
        self._running[group, partition, int(epoch)] = running(written)
        return Claim(
            group,
            partition,
            int(epoch),
            owner,
            {stream: _position(held) for stream, held in zip(streams, positions, strict=True)},
            msgspec.json.decode(replayed, type=dict[str, str]),
            memo,
            str(_owner(before)) if before else None,
            written,
            tuple(restored.decode().split()),
        )

    async def renew(self, claim: Claim) -> None:
        """See ``Log.renew``."""
        reply = await self._function("renew", [_claim_key(claim)], [str(claim.epoch), str(LEASE_MS)])
        if reply[0] != b"DONE":
            raise _refusal(claim, reply)

    async def release(self, claim: Claim) -> None:
        """See ``Log.release``."""
        keys = [_claim_key(claim), *_keys(claim.positions, claim.partition)]
        await self._function("release", keys, [str(claim.epoch), claim.group])

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        """See ``Log.commit``."""
        check_commit(claim, commit)
        held = (claim.group, claim.partition, claim.epoch)
        token = _token(commit)
        keys: list[str] = [_claim_key(claim), *_keys(commit.after, claim.partition)]
        args: list[Any] = [
            str(claim.epoch),
            str(LEASE_MS),
            claim.group,
            self._tokens.get(held, b""),
            token,
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
            keys.append(_key(stream, claim.partition))
            args += (str(len(data)), *_digest(stream, digests, grown))
            args += data
        verb = "commit"
        if commit.fence is not None:
            verb = "commit_under"
            keys.append(_fence_key(claim.partition))
            args.append(commit.fence)

        async def send(connection: Connection, command: Command) -> Any:
            # If a connection was opened since the last commit, the entries that this commit depends on are compared
            # first. Within one connection that is not needed: a server cannot lose entries between two commands of it.
            if self._checked.get(held) != (connection, self._opened):
                for server, marks in self._by_server(_known(claim, commit)).items():
                    await _compare(connection if server == here else await self._connected(server), marks)
                self._checked[held] = connection, self._opened
            return await connection.call(command, sent=self._reader.committing)

        here = self._topology.server_of(keys[0])
        reply = await self._function(verb, keys, args, send)
        if reply[0] == b"HALTED":
            raise halted(claim, commit.fence, reply[1].decode())
        if reply[0] != b"DONE":
            raise _refusal(claim, reply)
        recreated = tuple(name.decode() for name in reply[1:])
        if self._tokens.get(held) == token:  # a commit that is sent twice counts once
            return Committed(recreated)
        self._tokens[held], self._running[held] = token, {**digests, **grown}
        return Committed(recreated, self._running[held])

    async def fence(self, partition: int) -> str:
        """See ``Log.fence``."""
        held = await self._ask("HGET", _fence_key(partition), "mark")
        return held.decode() if held else ""

    async def set_fence(self, partition: int, mark: str, note: Encoded, *, expected: str | None = None) -> str:
        """See ``Log.set_fence``."""
        check_mark(mark, note)
        keys = [_fence_key(partition), _key(note.stream, partition)]
        only = ("if", expected) if expected is not None else ("any", "")
        reply = await self._function("fence", keys, [mark, *only, note.data])
        return str(reply[1].decode())

    async def written(self, claim: Claim) -> Mapping[str, Written]:
        """See ``Log.written``."""
        fields = [f"{FIELD}{stream}" for stream in sorted(streams_of(claim.group))]
        held = await self._ask("HMGET", _claim_key(claim), *fields) if fields else ()
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

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[Mark] = ()) -> bool:
        """See ``Log.append_at``. A server cannot lose entries between two commands of one connection, so comparing and
        appending over the same one is as safe as a single atomic command."""
        sent = 0

        async def add(connection: Connection) -> Any:
            nonlocal sent
            await _compare(connection, marks)
            sent += 1
            return await connection.call(("XADD", place.key, entry_id, "e", data))

        try:
            await self._at(place.key, add)
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
        return await self._at(place.key, lambda connection: _extent(connection, place))

    async def groups(self, partition: int) -> list[GroupView]:
        """See ``Log.groups``."""
        names = sorted(name.decode() for name in await self._ask("SMEMBERS", _groups_key(partition)))
        seconds, micros = await self._at(_groups_key(partition), lambda connection: connection.call(("TIME",)))
        now = int(seconds) * 1000 + int(micros) // 1000
        views, added = [], dict[str, int]()
        for name in names:
            held = _pairs(await self._ask("HGETALL", _group_key(name, partition)))
            positions = {
                field[4:].decode(): _position(value) for field, value in held.items() if field.startswith(b"pos:")
            }
            for stream in positions.keys() - added.keys():
                added[stream] = (await self.extent(StreamKey(stream, partition))).added
            lag = {stream: max(added[stream] - position.seen, 0) for stream, position in positions.items()}
            owner, alive = str(_owner(held[b"owner"])), int(held[b"lease"]) > now
            written = of_fields({field.decode(): value for field, value in held.items()})
            views.append(GroupView(name, partition, int(held[b"epoch"]), owner, alive, positions, lag, written))
        return views

    async def close(self) -> None:
        """See ``Log.close``."""
        for connection in self._commands.values():
            await connection.close()
        self._commands = {}
        await self._reader.close()
        await self._topology.close()

    async def load(self) -> None:
        """Load the functions of the log into each master. Raises ``UnfitServerError``, ``UnavailableError``."""
        _, source = library()
        for server in await self._persist(self._topology.masters):
            connection = await self._persist(functools.partial(self._connected, server))
            try:
                await connection.call(("FUNCTION", "LOAD", source))
            except ServerError as error:
                if "already exists" not in str(error):
                    raise UnfitServerError(
                        f"the function library of the log cannot be loaded into {self._topology.address}: {error}. It "
                        f"needs Redis 7.0 or Valkey, and once a user who may call FUNCTION LOAD"
                    ) from None

    async def _function(
        self,
        verb: str,
        keys: Sequence[str],
        args: Sequence[Any],
        send: Callable[[Connection, Command], Awaitable[Any]] | None = None,
    ) -> Any:
        """Call a function, and load the library first if it is missing. ``send`` may do more than send the call."""
        name, _ = library()
        command = ("FCALL", f"{name}_{verb}", str(len(keys)), *keys, *args)

        def call(connection: Connection) -> Awaitable[Any]:
            return connection.call(command) if send is None else send(connection, command)

        try:
            reply = await self._at(keys[0], call)
        except ServerError as error:
            if "unction not found" not in str(error) and "unknown command" not in str(error):
                raise
            await self.load()
            reply = await self._at(keys[0], call)
        if reply[0] == b"NOSTREAM":
            raise UnfitServerError(
                f"key {reply[1].decode()!r} on {self._topology.address} holds a {reply[2].decode()}, not a stream; "
                f"nothing was written. Another program uses this name: move it, or use another database"
            )
        return reply

    async def _ask(self, verb: str, key: str, *words: str) -> Any:
        """Send a command about a key. The command must be one that may be repeated."""
        return await self._at(key, lambda connection: connection.call((verb, key, *words)))

    async def _at(self, key: str, send: Callable[[Connection], Awaitable[T]]) -> T:
        """Await ``send`` with the connection to the server of a key, and repeat it if the connection breaks."""

        async def attempt() -> T:
            try:
                return await send(await self._connected(self._topology.server_of(key)))
            except RedirectedError as error:
                if not error.asked:
                    raise
                # The slot is being moved, and this key is not at its old node. The next command about it starts at the
                # old node again: the new one would create keys that have not been moved yet.
                connection = await self._topology.open_at(error.host, error.port, self._name, asking=True)
            self._opened += 1
            try:
                return await send(connection)
            finally:
                await connection.close()

        return await self._persist(attempt)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat an attempt until it is answered, or until ``patience_s`` seconds have passed."""
        deadline, pause = time.monotonic() + self._patience, 0.02
        while True:
            try:
                return await attempt()
            except UnavailableError as error:
                if isinstance(error, RedirectedError) and not error.asked:
                    await self._moved(error)
                if time.monotonic() + pause > deadline:
                    raise
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)

    async def _moved(self, error: RedirectedError) -> None:
        """Record that another node has the slot now, and close the connection to the former one."""
        self._topology.redirected(error)
        if (connection := self._commands.pop(error.slot, None)) is not None:
            await connection.close()

    def _by_server(self, marks: Sequence[Mark]) -> dict[int, list[Mark]]:
        servers: dict[int, list[Mark]] = {}
        for mark in marks:
            servers.setdefault(self._topology.server_of(mark.place.key), []).append(mark)
        return servers

    async def _for_reads(self, server: int) -> Connection:
        connection = await self._topology.open(server, f"{self._name}:read")
        self._opened += 1
        return connection

    async def _connected(self, server: int) -> Connection:
        connection = self._commands.get(server)
        if connection is None or connection.closed:
            async with self._opening:
                connection = self._commands.get(server)
                if connection is None or connection.closed:
                    if connection is not None:
                        await connection.close()
                    connection = self._commands[server] = await self._topology.open(server, self._name)
                    self._opened += 1
        return connection


async def _compare(connection: Connection, marks: Sequence[Mark]) -> None:
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


async def _extent(connection: Connection, place: StreamKey) -> Extent:
    try:
        return _extent_of(await connection.call(("XINFO", "STREAM", place.key)))
    except ServerError as error:
        if "no such key" in str(error):
            return Extent(START, START, 0, 0, START)
        raise


def _extent_of(reply: Any) -> Extent:
    facts = _pairs(reply)
    length, added = int(facts[b"length"]), int(facts[b"entries-added"])
    if length == 0:
        return Extent(START, START, 0, added, facts[b"last-generated-id"].decode() if added else START)
    first, last = facts[b"first-entry"][0].decode(), facts[b"last-entry"][0].decode()
    return Extent(first, last, length, added, facts[b"max-deleted-entry-id"].decode())


@functools.cache
def _group_key(group: str, partition: int) -> str:
    return f"conclave:{{p{partition}}}:group:{group}"


def _groups_key(partition: int) -> str:
    return f"conclave:{{p{partition}}}:groups"


@functools.cache
def _fence_key(partition: int) -> str:
    return f"conclave:{{p{partition}}}:fence"


def _claim_key(claim: Claim) -> str:
    return _group_key(claim.group, claim.partition)


@functools.cache
def _key(stream: str, partition: int) -> str:
    return STREAMS[stream].key(partition)


def _keys(streams: Sequence[str] | Mapping[str, Any], partition: int) -> list[str]:
    return [_key(stream, partition) for stream in streams]


def _position(held: bytes) -> Position:
    entry_id, seen, *digest = held.decode().split(" ")
    return Position(entry_id, int(seen), *digest)


def _known(claim: Claim, commit: Commit) -> list[Mark]:
    """Return the entries that a commit depends on: those in its ``known``, and those at its new positions."""
    read = (Mark(StreamKey(stream, claim.partition), after) for stream, after in commit.after.items() if after.digest)
    return [*commit.known, *read]


def _digest(
    stream: str, before: Mapping[str, RunningDigest], after: Mapping[str, RunningDigest]
) -> tuple[str, str, str]:
    """Return the field of a running digest, ``on`` if it continues (else ``new``), and its value; all '' for none."""
    grown = after.get(stream)
    if grown is None:
        return "", "", ""
    return f"{FIELD}{stream}", "on" if stream in before else "new", f"{grown.entries} {grown.digest.hex()}"


def _owner(held: bytes) -> Owner:
    found = msgspec.json.decode(held)
    return Owner(found["host"], found["pid"], found["label"], found.get("born", 0), found.get("namespace", ""))


def _pairs(reply: Any) -> dict[bytes, Any]:
    """Return a reply of names and values as a mapping, which it is already under RESP 3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _token(commit: Commit) -> bytes:
    """Return a digest of the contents of a commit. Of each event it covers the id, which is a digest of the event."""
    digest = blake2b(b"".join([sealed.envelope.id for sealed in commit.outputs]), digest_size=12)
    digest.update(msgspec.json.encode((commit.before, commit.after, commit.since, commit.fence)) + commit.memo)
    return digest.hexdigest().encode()


def _refusal(claim: Claim, reply: Sequence[bytes]) -> FencedError | TruncatedLogError:
    what = f"group {claim.group!r} of partition {claim.partition}"
    if reply[0] == b"FENCED":
        epoch, held = int(reply[1]), reply[2]
        holder = (
            f"{_owner(held)} under epoch {epoch}" if held else "nobody: the server was emptied, or the hash deleted"
        )
        said = f"{what} belongs to {holder}; {claim.owner} held epoch {claim.epoch}; nothing was written"
        return FencedError(said) if epoch > claim.epoch else rolled_back(claim, said)
    if reply[0] == b"MOVED":
        stream, stands, starts = (part.decode() for part in reply[1:4])
        return FencedError(
            f"{what} stands at {stands} on {stream!r}, the commit starts at {starts}; nothing was written"
        )
    said = f"{what}: the commit does not follow the last one that was applied; nothing was written"
    other = _owner(reply[1]) if reply[1] else None
    return FencedError(f"{said}. It belongs to {other}") if other != claim.owner else rolled_back(claim, said)
