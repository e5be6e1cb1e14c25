"""The loop of a service that is one process for all partitions: claims, supervision, telemetry.

    async with opened_loop(settings, GROUP) as loop, loop.owned(partitions):
        loop.ready()
        await loop.repeat(turn, every_s, stop)

``shared.runtime.host`` hosts a service that reads one partition. Feed, trainer, archiver, watcher and guard work on all
partitions in one process, and use this loop instead. Watcher and guard write nothing under a claim, and own no group.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import anyio

from schemas.codec import encode
from schemas.operations import AlarmEvent, OwnerReplaced
from shared.control.issuing import current
from shared.log import Claim, Commit, Log, Owner
from shared.log.durability import rewrite_append_only_file
from shared.recovery.storage import Storage
from shared.runtime.claims import claim_group
from shared.runtime.clock import ClockAlarms, ServerClock
from shared.runtime.losses import refuse_another_log
from shared.runtime.process import check_installation, opened_log, server_url
from shared.runtime.process import owner as this_process
from shared.runtime.reported import reported
from shared.runtime.supervision import Supervised
from shared.settings import Settings
from shared.telemetry import start
from shared.telemetry.reporting import BatchReport, Telemetry

T = TypeVar("T")
_log = logging.getLogger(__name__)

RENEW_S: Final = 1.0
"""Seconds between two renewals of the leases, and the longest wait without a sign of life. A lease runs ten seconds."""
READ_CLOCK_S: Final = 5.0
RELEASE_S: Final = 2.0
"""How long a process that ends waits for the server to release its claims."""


class Loop:
    """One process of ``group`` on all partitions. ``claims``: those of ``owned``, by partition.

    ``log_id``: the installation of the log, '' if it is not known. ``reconnected`` is called after a connection was
    opened. ``storage``: the files outside the log; which of them cannot be written is an alarm. ``clock``: the clocks
    of this process and of the server; if it is given, what is wrong with them is an alarm."""

    def __init__(
        self,
        log: Log,
        group: str,
        *,
        owner: Owner | None = None,
        log_id: str = "",
        reconnected: Callable[[], Awaitable[None]] | None = None,
        telemetry: Telemetry | None = None,
        supervised: Supervised | None = None,
        clock: ServerClock | None = None,
    ) -> None:
        self.log = log
        self.group = group
        self.owner = owner or this_process(group)
        self.telemetry = telemetry or Telemetry()
        self.clock = clock or ServerClock()
        self.telemetry.use_clock(self.clock.now_ns)
        self.claims: list[Claim] = []
        self._clock_alarms = ClockAlarms(clock, group) if clock is not None else None
        self._clock_read_at = 0.0
        self.storage = Storage(group)
        self._committing = anyio.Lock()
        """A commit follows the one before it, so two tasks must not commit at the same time."""
        self._committed: dict[int, tuple[bytes, Mapping[str, str]]] = {}
        self._log_id = log_id
        self._reconnected = reconnected
        self._connections = -1
        self._supervised = supervised or Supervised()
        self._renewed_at = 0.0

    @asynccontextmanager
    async def owned(
        self, partitions: int, streams: Sequence[str] = (), *, take_over: bool = False
    ) -> AsyncIterator[None]:
        """Own the group in every partition while the body runs, and release it at the end, so that the next process can
        begin at once. Write ``OwnerReplaced`` in each partition whose former owner had not released it.

        Raises ``OwnedError`` if another process owns one of the partitions, and releases the others."""
        try:
            for partition in range(partitions):
                claim = await claim_group(self.log, self.group, streams, partition, self.owner, take_over=take_over)
                self.claims.append(claim)  # at once: released if the next is refused
            if self._clock_alarms is not None and self.claims:
                earlier = await reported(self.log, self.claims[0].partition, self.group)
                self._clock_alarms.resume(apart=earlier.apart)
                self.storage.resume(earlier.files)
            await self.read_clock()
            for claim in self.claims:
                if claim.former is not None:
                    replaced = OwnerReplaced(
                        group=claim.group,
                        former=claim.former,
                        owner=str(claim.owner),
                        epoch=claim.epoch,
                        at=self.clock.now_ms(),
                    )
                    await self.commit(claim, Commit([encode("alarms", replaced)], {}, {}, claim.memo, claim.since))
            yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(RELEASE_S):
                for claim in self.claims:
                    await self.log.release(claim)
            self.claims.clear()
            self._committed.clear()

    async def claim_again(self) -> None:
        """Claim the group again in each partition, after a server lost its last writes (``TruncatedLogError``).

        Raises ``OwnedError`` if another process owns one of them, and ``ControlError`` if the server has the log of
        another installation, or none."""
        await refuse_another_log(self.log, self._log_id)
        for number, claim in enumerate(self.claims):
            self.claims[number] = await claim_group(
                self.log, self.group, tuple(claim.positions), claim.partition, self.owner
            )
        self._committed.clear()

    def ready(self) -> None:
        """Report to the supervisor that the start is over."""
        self._supervised.ready()

    async def alive(self) -> None:
        """Renew the leases and give a sign of life, at most once a second. Raises ``SupersededError`` if another
        process has taken a group over."""
        if time.monotonic() - self._renewed_at >= RENEW_S:
            for claim in self.claims:
                await self.log.renew(claim)
            if self.claims:
                await self.read_clock()
                if alarms := self.storage.due(self.clock.now_ms()):
                    await self.alarm(*alarms)
            self._renewed_at = time.monotonic()
        if self._reconnected is not None and self.log.opened != self._connections:
            self._connections = self.log.opened
            await self._reconnected()
        self._supervised.alive()

    async def read_clock(self) -> None:
        """Read the server's time, at most every five seconds, and raise the alarms that are due. A process that owns no
        group cannot write them, and logs them. Raises ``UnavailableError``."""
        if self._clock_read_at and time.monotonic() - self._clock_read_at < READ_CLOCK_S:
            return
        await self.clock.read(self.log)
        self._clock_read_at = time.monotonic()
        alarms = self._clock_alarms.after_read() if self._clock_alarms is not None else []
        if alarms and self.claims:
            await self.alarm(*alarms)
        elif alarms:
            _log.warning("%s", "; ".join(map(str, alarms)))

    async def alarm(self, *alarms: AlarmEvent, claim: Claim | None = None) -> None:
        """Write alarms under a claim, by default that of the first partition that this process owns."""
        claim = claim or self.claims[0]
        outputs = [encode("alarms", alarm) for alarm in alarms]
        async with self._committing:
            memo, since = self._committed.get(claim.partition, (claim.memo, claim.since))
            await self._commit(claim, Commit(outputs, {}, {}, memo, since))

    async def repeat(self, turn: Callable[[], Awaitable[None]], every_s: float, stop: anyio.Event) -> None:
        """Call ``turn`` until ``stop``, each time ``every_s`` seconds after the last call ended.

        Leases are renewed before each call and between calls, but not during one, so the supervisor notices a turn that
        hangs. A long turn must call ``alive`` itself."""
        due = time.monotonic()
        while not stop.is_set():
            await self.alive()
            if time.monotonic() >= due:
                await turn()
                due = time.monotonic() + every_s
            await wait(min(due - time.monotonic(), RENEW_S), stop)

    async def alongside(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await ``work`` and return its result; call ``alive`` every second meanwhile. For work that may wait long,
        like a feed for its source. A blocked event loop gives no sign of life."""

        async def renew() -> None:
            while True:
                await anyio.sleep(RENEW_S)
                await self.alive()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(renew)
                result = await work()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The caller expects the error of the work itself.
            raise group.exceptions[0] from None
        return result

    async def commit(self, claim: Claim, commit: Commit, *, started_ns: int | None = None) -> None:
        """Commit under a claim, and report the outputs to telemetry. ``started_ns``: when the work on them began
        (nanoseconds since 1970; now, if it is left out)."""
        async with self._committing:
            await self._commit(claim, commit, started_ns)

    async def _commit(self, claim: Claim, commit: Commit, started_ns: int | None = None) -> None:
        handled = self.clock.now_ns()
        await self.log.commit(claim, commit)
        self._committed[claim.partition] = commit.memo, commit.since
        if commit.outputs:
            self.telemetry.batch(
                BatchReport(
                    consumed={},
                    outputs=commit.outputs,
                    started_ns=handled if started_ns is None else started_ns,
                    handled_ns=handled,
                    committed_ns=self.clock.now_ns(),
                )
            )


async def wait(seconds: float, stop: anyio.Event) -> None:
    """Wait, at most until ``stop`` is set."""
    if seconds > 0:
        with anyio.move_on_after(seconds):
            await stop.wait()


@asynccontextmanager
async def opened_loop(settings: Settings, group: str) -> AsyncIterator[Loop]:
    """Open a loop on the log of the settings, with the telemetry and the supervisor of this process.
    Raises ``InstallationError``."""
    supervised, telemetry = Supervised(), start(settings.telemetry, group)
    try:
        async with opened_log(settings, f"conclave:{group}") as log:
            state = await current(log)
            check_installation(settings, state)
            yield Loop(
                log,
                group,
                log_id=state.log_id,
                reconnected=partial(rewrite_append_only_file, server_url(settings)),
                telemetry=telemetry,
                supervised=supervised,
                clock=ServerClock(),
            )
    finally:
        supervised.stopping()
        telemetry.stop()
