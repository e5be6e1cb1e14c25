"""The log in memory, for tests, simulation and replay. The tasks of one process share it.

Nothing outlives the object. Two users of one object correspond to two processes on one server.
"""

import itertools
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

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
    Position,
    ReadMark,
    StreamKey,
    SupersededError,
)
from shared.log.identity import fault, rolled_back, truncated
from shared.log.leases import (
    LEASE_MS,
    check_commit,
    check_mark,
    check_partitioned,
    group_owned_error,
    halted,
    id_order,
    is_open,
    lease_runs,
    owner_is_dead,
    owner_is_running,
)
from shared.log.written import Written, advance, running


def wall_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass
class _Stream:
    """The entries of a stream in order. ``orders`` holds their ids as numbers."""

    entries: list[Entry] = field(default_factory=list)
    orders: list[tuple[int, int]] = field(default_factory=list)
    last: tuple[int, int] = (0, 0)
    added: int = 0
    deleted: str = START

    def behind(self, entry_id: str) -> int:
        """Return the index of the first entry after ``entry_id``."""
        return bisect_right(self.orders, id_order(entry_id))


@dataclass
class _Group:
    epoch: int = 0
    owner: Owner | None = None
    claimed: int = 0
    lease: int = 0
    memo: bytes = b""
    since: Mapping[str, str] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    visible: set[str] = field(default_factory=set)
    last: tuple[int, Commit] | None = None
    written: dict[str, Written] = field(default_factory=dict)
    token: int = 0
    restored: tuple[str, ...] = ()


class MemoryLog:
    """``shared.log.Log`` without a server. ``now`` returns the time in milliseconds, for entry ids and leases."""

    def __init__(self, now: Callable[[], int] = wall_ms) -> None:
        self._now = now
        self._streams: dict[StreamKey, _Stream] = {}
        self._groups: dict[tuple[int, str], _Group] = {}
        self._fences: dict[int, str] = {}
        self._waiting: dict[anyio.Event, None] = {}
        self._opened = 1
        self._shown: dict[tuple[str, StreamKey], Position] = {}
        self._tokens: dict[tuple[str, int, int, Owner], int] = {}
        self._numbers = itertools.count(1)

    @property
    def opened(self) -> int:
        """See ``Log.opened``. Each ``restore`` counts as one more connection."""
        return self._opened

    async def time(self, partition: int = 0) -> int:
        """See ``Log.time``. All partitions have the same clock."""
        await checkpoint()
        return self._now()

    async def check(self, marks: Sequence[ReadMark]) -> None:
        """See ``Log.check``."""
        await checkpoint()
        self._compare(marks)

    async def claim(
        self, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
    ) -> Claim:
        """See ``Log.claim``."""
        await checkpoint()
        check_partitioned(streams, f"group {group!r}")
        if (partition, group) not in self._groups:
            visible = self._visible(group, streams, partition)
            self._groups[partition, group] = _Group(positions=dict(visible), restored=tuple(visible))
        state, now = self._groups[partition, group], self._now()
        state.lease = min(state.lease, now + LEASE_MS)
        if state.owner and state.lease > now and not take_over and not owner_is_dead(state.owner, owner):
            raise group_owned_error(
                group,
                partition,
                state.owner,
                epoch=state.epoch,
                since_ms=state.claimed,
                until_ms=state.lease,
                now_ms=now,
                running=owner_is_running(state.owner, owner),
            )
        former = str(state.owner) if state.owner and state.lease else None
        state.epoch += 1
        state.owner, state.claimed, state.lease = owner, now, now + LEASE_MS
        self._token(group, partition, state, owner)
        for stream in streams:
            state.positions.setdefault(stream, Position())
        state.visible.update(streams)
        positions = {stream: state.positions[stream] for stream in streams}
        for stream in streams:
            self._shown[group, StreamKey(stream, partition)] = positions[stream]
        given = (dict(state.since), state.memo, former, dict(state.written), state.restored)
        return Claim(group, partition, state.epoch, owner, positions, *given)

    async def renew(self, claim: Claim) -> None:
        """See ``Log.renew``."""
        await checkpoint()
        self._mine(claim).lease = self._now() + LEASE_MS

    async def release(self, claim: Claim) -> None:
        """See ``Log.release``."""
        await checkpoint()
        state = self._groups.get((claim.partition, claim.group))
        if state and state.epoch == claim.epoch:
            state.lease = 0

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        """See ``Log.commit``."""
        await checkpoint()
        check_commit(claim, commit)
        state = self._mine(claim)
        state.lease = self._now() + LEASE_MS
        newest = self._tokens.get((claim.group, claim.partition, claim.epoch, claim.owner))
        if state.last == (claim.epoch, commit) and state.token == newest:
            return Committed()
        self._follows(claim, state)
        self._compare(commit.known)
        self._refuse_halted(claim, commit)
        for stream, before in commit.before.items():
            if state.positions[stream][:2] != before[:2]:
                raise SupersededError(
                    f"group {claim.group!r} stands at {state.positions[stream].id} on {stream!r}, "
                    f"the commit starts at {before.id}; nothing was written"
                )
        self._compare(
            [ReadMark(StreamKey(stream, claim.partition), at) for stream, at in commit.after.items() if at.digest]
        )
        first: dict[str, str] = {}
        last: dict[str, str] = {}
        for sealed in commit.outputs:
            last[sealed.stream] = self._add(StreamKey(sealed.stream, claim.partition), sealed.data)
            first.setdefault(sealed.stream, last[sealed.stream])
        grown = advance(claim.group, claim.partition, running(state.written), commit.outputs)
        for stream, (count, digest) in grown.items():
            former = state.written.get(stream)
            since = former.since if former else first[stream]
            state.written[stream] = Written(since, last[stream], count, digest)
        state.positions.update(commit.after)
        state.memo, state.since, state.restored = commit.memo, dict(commit.since), ()
        state.last = (claim.epoch, commit)
        self._token(claim.group, claim.partition, state, claim.owner)
        for stream, after in commit.after.items():
            self._shown[claim.group, StreamKey(stream, claim.partition)] = after
        recreated = tuple(stream for stream in commit.after if stream not in state.visible)
        state.visible.update(recreated)
        self._wake()
        return Committed(recreated, running(state.written))

    async def fence(self, partition: int) -> str:
        """See ``Log.fence``."""
        await checkpoint()
        return self._fences.get(partition, "")

    async def set_fence(self, partition: int, mark: str, note: Encoded, *, expected: str | None = None) -> str:
        """See ``Log.set_fence``."""
        await checkpoint()
        check_mark(mark, note)
        there = self._fences.get(partition, "")
        if there != mark and expected in (None, there):
            self._fences[partition] = there = mark
            self._add(StreamKey(note.stream, partition), note.data)
            self._wake()
        return there

    async def written(self, claim: Claim) -> Mapping[str, Written]:
        """See ``Log.written``."""
        await checkpoint()
        state = self._groups.get((claim.partition, claim.group), _Group())
        return dict(state.written)

    async def read(
        self, after: Mapping[StreamKey, str], *, count: int, block_ms: int, ahead: bool = False
    ) -> list[Entry]:
        """See ``Log.read``."""
        await checkpoint()
        found = self._collect(after, count)
        if found or block_ms <= 0:
            return found
        with anyio.move_on_after(block_ms / 1000):
            while not found:
                event = anyio.Event()
                self._waiting[event] = None
                try:
                    await event.wait()
                finally:
                    self._waiting.pop(event, None)
                found = self._collect(after, count)
        return found

    async def scan(self, place: StreamKey, *, after: str = START, until: str = "+", count: int = 1000) -> list[Entry]:
        """See ``Log.scan``."""
        await checkpoint()
        stream = self._streams.get(place, _Stream())
        stop = len(stream.entries) if until == "+" else stream.behind(until)
        start = stream.behind(after)
        return stream.entries[start : min(stop, start + count)]

    async def tail(self, place: StreamKey, count: int) -> list[Entry]:
        """See ``Log.tail``."""
        await checkpoint()
        entries = self._streams.get(place, _Stream()).entries
        return entries[max(len(entries) - count, 0) :]

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        """See ``Log.append_at``."""
        await checkpoint()
        self._compare(marks)
        if id_order(entry_id) <= self._streams.get(place, _Stream()).last:
            return False
        self._append(place, id_order(entry_id), data)
        self._wake()
        return True

    async def extent(self, place: StreamKey) -> Extent:
        """See ``Log.extent``."""
        await checkpoint()
        return self._extent(place)

    def _extent(self, place: StreamKey) -> Extent:
        stream = self._streams.get(place, _Stream())
        entries = stream.entries
        first, last = (entries[0].id, entries[-1].id) if entries else (START, START)
        return Extent(first, last, len(entries), stream.added, stream.deleted)

    async def groups(self, partition: int) -> list[GroupView]:
        """See ``Log.groups``."""
        await checkpoint()
        return [
            GroupView(
                group,
                partition,
                state.epoch,
                str(state.owner),
                lease_runs(state.lease, self._now()),
                dict(state.positions),
                {
                    stream: self._streams.get(StreamKey(stream, partition), _Stream()).added - position.seen
                    for stream, position in state.positions.items()
                },
                dict(state.written),
                state.memo,
            )
            for (where, group), state in sorted(self._groups.items())
            if where == partition and state.epoch
        ]

    async def close(self) -> None:
        """See ``Log.close``. The entries are kept, because others may still use the object."""

    def trim(self, place: StreamKey, first: str) -> None:
        """Drop the entries before ``first``, as an operator's ``XTRIM MINID`` would."""
        stream = self._streams.setdefault(place, _Stream())
        count = sum(1 for held in stream.orders if held < id_order(first))
        if count:
            stream.deleted = stream.entries[count - 1].id
            del stream.entries[:count], stream.orders[:count]

    def lose_group(self, group: str, place: StreamKey) -> None:
        """Drop a consumer group, as an operator's ``XGROUP DESTROY`` would."""
        self._groups[place.partition, group].visible.discard(place.stream)
        self._shown.pop((group, place), None)

    def lose_hash(self, group: str, partition: int = 0) -> None:
        """Drop all data of a group except its consumer groups, as an operator's ``DEL`` of its hash would."""
        del self._groups[partition, group]

    def image(self) -> object:
        """Return a copy of the current state for ``restore``, like a copy of the append-only file."""
        return self._copied((self._streams, self._groups, self._shown, self._fences))

    def restore(self, image: object) -> None:
        """Return to the state of ``image``, like a server that lost the writes that were not durable."""
        self._streams, self._groups, self._shown, self._fences = self._copied(image)
        self._opened += 1
        self._wake()

    def _copied(self, image: Any) -> Any:
        """Return a copy of a state that shares what never changes in place: entries, positions, commits."""
        streams, groups, shown, fences = image
        return (
            {place: replace(each, entries=each.entries[:], orders=each.orders[:]) for place, each in streams.items()},
            {
                key: replace(
                    each, positions=dict(each.positions), visible=set(each.visible), written=dict(each.written)
                )
                for key, each in groups.items()
            },
            dict(shown),
            dict(fences),
        )

    def _visible(self, group: str, streams: Sequence[str], partition: int) -> Mapping[str, Position]:
        found = {stream: self._shown.get((group, StreamKey(stream, partition)), Position()) for stream in streams}
        return {stream: Position(*at[:2]) for stream, at in found.items() if at.id != START}

    def _compare(self, marks: Sequence[ReadMark]) -> None:
        for mark in marks:
            stream = self._streams.get(mark.place, _Stream())
            at = stream.behind(mark.position.id) - 1
            there = stream.entries[at].data if at >= 0 and stream.entries[at].id == mark.position.id else None
            extent = self._extent(mark.place)
            why = fault(mark, there, extent)
            if why is not None:
                raise truncated(mark, extent.last, why)

    def lose_fence(self, partition: int) -> None:
        """Drop a fence, as an operator's ``DEL`` would."""
        self._fences.pop(partition, None)

    def _refuse_halted(self, claim: Claim, commit: Commit) -> None:
        there = self._fences.get(claim.partition, "")
        intents = any(sealed.stream == "intents" for sealed in commit.outputs)
        if commit.fence not in (None, there) or (intents and not is_open(commit.fence or "")):
            raise halted(claim, commit.fence, there)

    def _mine(self, claim: Claim) -> _Group:
        state = self._groups.get((claim.partition, claim.group))
        if state is None or state.epoch != claim.epoch:
            holder = f"{state.owner} under epoch {state.epoch}" if state else "nobody"
            said = (
                f"group {claim.group!r} of partition {claim.partition} belongs to {holder}; "
                f"{claim.owner} held epoch {claim.epoch}; nothing was written"
            )
            raise rolled_back(claim, said) if state is None or state.epoch < claim.epoch else SupersededError(said)
        return state

    def _token(self, group: str, partition: int, state: _Group, owner: Owner) -> None:
        """Set a new token. As on a server, it shows that the next commit follows this one."""
        state.token = self._tokens[group, partition, state.epoch, owner] = next(self._numbers)

    def _follows(self, claim: Claim, state: _Group) -> None:
        if state.token != self._tokens[claim.group, claim.partition, claim.epoch, claim.owner]:
            said = f"group {claim.group!r}: the commit does not follow the last one that was applied"
            raise SupersededError(said) if state.owner != claim.owner else rolled_back(claim, said)

    def _collect(self, after: Mapping[StreamKey, str], count: int) -> list[Entry]:
        found: list[Entry] = []
        for place, entry_id in after.items():
            stream = self._streams.get(place)
            if stream is not None and stream.last > id_order(entry_id):
                start = stream.behind(entry_id)
                found += stream.entries[start : start + count]
        return found

    def _add(self, place: StreamKey, data: bytes) -> str:
        last = self._streams.get(place, _Stream()).last
        moment = self._now()
        self._append(place, (moment, 0) if moment > last[0] else (last[0], last[1] + 1), data)
        return self._streams[place].entries[-1].id

    def _append(self, place: StreamKey, at: tuple[int, int], data: bytes) -> None:
        stream = self._streams.setdefault(place, _Stream())
        stream.entries.append(Entry(place, f"{at[0]}-{at[1]}", data))
        stream.orders.append(at)
        stream.last = at
        stream.added += 1

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()
