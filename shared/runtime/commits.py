"""Commit what a batch led to, together with how far the group has read.

A commit is one atomic step on the server (``shared.log``): the events written, the positions after the entries read,
the service's snapshot, and the entry of each stream from which it must replay. All of it is applied, or nothing.

The process dies before its commit is applied
    Nothing of the batch is on the log. The next process claims the group, rebuilds the state as of the last commit
    (``startup``, ``replay``) and reads the batch again. Cores are deterministic, so it writes what would have been
    written, under the same event ids.
The process dies after its commit is applied
    All of the batch is on the log. The next process goes on with the entry after it.
The reply to a commit is lost
    The log sends the same commit again. The server applies it once.
Another process has taken the group over (``SupersededError``)
    Nothing is written. The process stops.
The fence of the partition was moved since the batch was handled (``HaltedError``)
    Nothing is written. The host rebuilds the state and handles the batch again, under the new mark.
The log is not the one that was read (``TruncatedLogError``)
    Nothing is written. The host claims the group again and starts from what the log holds now (``losses``).
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from schemas.codec import Encoded, encode
from schemas.operations import GroupRecreated
from shared.log import START, Claim, Commit, Entry, Log, Lost, Owner, Position, ReadMark, StreamKey
from shared.log.identity import digest_of
from shared.log.leases import id_order
from shared.log.written import RunningDigest, Written, running
from shared.runtime.claims import claim_group
from shared.runtime.clock import ServerClock
from shared.runtime.follower import ControlFollower
from shared.telemetry.reporting import BatchReport, Telemetry

RENEW_AFTER_S: Final = 3.0
"""Seconds after which a lease is renewed that no commit renewed. A lease runs ten seconds."""
STREAM_KEY: Final = itemgetter(0)


class Commits:
    """The commits of one group in one partition, and the positions that they move.

    ``claim``: the right to commit. ``positions``: after the last entry handled, by stream; ``committed``: after the
    last entry whose handling is committed. ``snapshot`` and ``replay_from``: of the last commit, see ``Service``.
    ``reconnected`` is called after a connection was opened, and may raise what ``check`` does.
    ``committed_at``: when the lease was last renewed (s, monotonic clock)."""

    claim: Claim

    def __init__(
        self,
        log: Log,
        group: str,
        reads: Sequence[str],
        partition: int,
        owner: Owner,
        *,
        control: ControlFollower,
        telemetry: Telemetry | None,
        clock: ServerClock | None = None,
        reconnected: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.log = log
        self.group = group
        self.partition = partition
        self.owner = owner
        self.control = control
        self.telemetry = telemetry
        self.clock = clock or ServerClock()
        self._reconnected = reconnected
        self.keys = {stream: StreamKey(stream, partition) for stream in reads}
        self.positions: dict[str, Position] = {}
        self.committed: dict[str, Position] = {}
        self.snapshot = b""
        self.replay_from: Mapping[str, str] = {}
        self._running: Mapping[str, RunningDigest] = {}
        self.committed_at = time.monotonic()
        self._compared_on = -1

    async def claim_group(self, *, take_over: bool = False) -> None:
        """Claim the group for this process, after the lease of a former owner. Raises ``OwnedError`` if that owner
        lives."""
        self.claim = await claim_group(
            self.log, self.group, tuple(self.keys), self.partition, self.owner, take_over=take_over
        )
        self.committed_at = time.monotonic()

    def resume(self) -> list[Lost]:
        """Go back to the last commit that the log has of the group.

        Return what the log lost of later commits of this process: positions, and events that the group wrote. The
        entries after these positions are handled again, which writes the events again."""
        lost = [*self._lost_positions(), *self._lost_outputs()]
        self._running = running(self.claim.written)
        self._compared_on = -1
        self.committed = dict(self.claim.positions)
        self.snapshot, self.replay_from = self.claim.memo, self.claim.since
        self.rewind()
        return lost

    def _lost_positions(self) -> Iterator[Lost]:
        for stream, position in self.committed.items():
            there = self.claim.positions[stream]
            if position.seen > there.seen:
                detail = (
                    f"the group had handled {position.seen} entries and its record has {there.seen}: those after "
                    f"{there.id} are handled again"
                )
                yield Lost(self.keys[stream], position.id, there.id, detail)

    def _lost_outputs(self) -> Iterator[Lost]:
        for stream, known in sorted(self._running.items()):
            there = self.claim.written.get(stream) or Written(START, START, 0, b"")
            if known.entries > there.entries:
                detail = (
                    f"the group had written {known.entries} events and {there.entries} are left: those after "
                    f"{there.last} are lost"
                )
                yield Lost(StreamKey(stream, self.partition), START, there.last, detail)

    def rewind(self) -> None:
        """Go back to the last commit of this process: what was handled since is read again."""
        self.positions = dict(self.committed)

    async def commit(
        self,
        outputs: Sequence[Encoded],
        after: Mapping[str, Position],
        snapshot: bytes,
        replay_from: Mapping[str, str],
        fence: str | None = None,
    ) -> None:
        """Commit ``outputs`` and the positions in ``after``. ``fence``: the mark under which the outputs were decided;
        None if they do not depend on the fence. Raises what ``Log.commit`` does.

        Writes ``GroupRecreated`` for each consumer group that was missing."""
        commit = Commit(
            outputs=outputs,
            before={stream: self.committed[stream] for stream in after},
            after=after,
            memo=snapshot,
            since=replay_from,
            fence=fence,
            known=self.control.marks,
        )
        committed = await self.log.commit(self.claim, commit)
        self.committed_at = time.monotonic()
        self._running = committed.running or self._running
        self.committed.update(after)
        self.positions.update(after)
        self.snapshot, self.replay_from = snapshot, replay_from
        if committed.recreated:
            await self.append(self.recreated(committed.recreated))

    async def append(self, outputs: Sequence[Encoded], after: Mapping[str, Position] | None = None) -> None:
        """Commit events that no batch led to: an alarm, a dead letter. Telemetry counts them as any others."""
        now = self.clock.now_ns()
        await self.commit(outputs, after or {}, self.snapshot, self.replay_from)
        self.report((), outputs, started_ns=now, handled_ns=now)

    async def renew(self) -> None:
        """Renew the lease without a commit. Raises ``SupersededError``."""
        await self.log.renew(self.claim)
        self.committed_at = time.monotonic()

    async def renew_if_due(self) -> None:
        """Renew the lease, if that is due. Called wherever work may take long. Raises ``SupersededError``."""
        if time.monotonic() - self.committed_at > RENEW_AFTER_S:
            await self.renew()

    async def check(self) -> None:
        """Compare the entries read last with what the log has in their place. Raises ``TruncatedLogError``."""
        read = (ReadMark(key, self.positions[stream]) for stream, key in self.keys.items())
        await self.log.check([*self.control.marks, *read])

    async def check_new_connection(self) -> None:
        """``check``, and call ``reconnected``, if a connection was opened since the last call: only then may the log be
        another one.

        A commit without content shows whether the last commit of the group is still there. Without new entries there
        would be no other commit, and what the lost one wrote would stay lost for as long."""
        if self.log.opened != self._compared_on:
            first, self._compared_on = self._compared_on < 0, self.log.opened
            await self.check()
            if not first:
                await self.commit([], {}, self.snapshot, self.replay_from)
            if self._reconnected is not None:
                await self._reconnected()

    @property
    def uncommitted(self) -> int:
        """The number of entries that were handled and not committed."""
        return sum(position.seen - self.committed[stream].seen for stream, position in self.positions.items())

    def after(self, entries: Sequence[Entry]) -> dict[str, Position]:
        """Return the positions after these entries, which follow ``positions``."""
        after = dict(self.positions)
        # The entries of a stream are adjacent: one position for all of them is faster than one for each.
        for key, run in groupby(entries, key=STREAM_KEY):
            of_stream = list(run)
            last = of_stream[-1]
            after[key.stream] = Position(last.id, after[key.stream].seen + len(of_stream), digest_of(last.data))
        return after

    def recreated(self, streams: Sequence[str]) -> list[Encoded]:
        """Return an alarm for each of these streams: its consumer group was missing, and was created again."""
        return [
            encode("alarms", GroupRecreated(self.group, stream, self.positions[stream].id, self.clock.now_ms()))
            for stream in streams
        ]

    def report(self, entries: Sequence[Entry], outputs: Sequence[Encoded], *, started_ns: int, handled_ns: int) -> None:
        """Report a batch to telemetry as committed now. The times are nanoseconds since 1970, by the server's clock."""
        if self.telemetry is None:
            return
        consumed: dict[str, int] = {}
        oldest_ms: int | None = None
        key = None
        for entry in entries:
            if entry.place is not key:  # the first of its stream
                key = entry.place
                written_ms = id_order(entry.id)[0]
                oldest_ms = written_ms if oldest_ms is None else min(oldest_ms, written_ms)
            consumed[key.stream] = consumed.get(key.stream, 0) + 1
        self.telemetry.batch(
            BatchReport(
                consumed=consumed,
                outputs=outputs,
                started_ns=started_ns,
                handled_ns=handled_ns,
                committed_ns=self.clock.now_ns(),
                oldest_ms=oldest_ms,
            )
        )
