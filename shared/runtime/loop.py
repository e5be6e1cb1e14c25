"""The loop of a service that is one process for all partitions: claims, supervision, telemetry.

    async with opened_loop(settings, GROUP) as loop, loop.owned(partitions):
        loop.ready()
        await loop.repeat(turn, every_s, stop)

``shared.runtime.host`` hosts a service that reads one partition. Feed, trainer, archiver, watcher and guard work on all
partitions in one process, and use this loop instead. Watcher and guard write nothing under a claim, and own no group.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio

from schemas.codec import encode
from schemas.operations import OwnerReplaced
from shared.control.issuing import current
from shared.control.stream import now_ms
from shared.log import Claim, Commit, Log, Owner
from shared.runtime.claims import claim_group
from shared.runtime.process import check_installation, opened_log
from shared.runtime.process import owner as this_process
from shared.runtime.supervision import Supervised
from shared.settings import Settings
from shared.telemetry import start
from shared.telemetry.reporting import BatchReport, Telemetry

T = TypeVar("T")

RENEW_S: Final = 1.0
"""Seconds between two renewals of the leases, and the longest wait without a sign of life. A lease runs ten seconds."""
RELEASE_S: Final = 2.0
"""How long a process that ends waits for the server to release its claims."""


class Loop:
    """One process of ``group`` on all partitions. ``claims``: those of ``owned``, by partition."""

    def __init__(
        self,
        log: Log,
        group: str,
        *,
        owner: Owner | None = None,
        telemetry: Telemetry | None = None,
        supervised: Supervised | None = None,
    ) -> None:
        self.log = log
        self.group = group
        self.owner = owner or this_process(group)
        self.telemetry = telemetry or Telemetry()
        self.claims: list[Claim] = []
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
            for claim in self.claims:
                if claim.former is not None:
                    replaced = OwnerReplaced(
                        group=claim.group, former=claim.former, owner=str(claim.owner), epoch=claim.epoch, at=now_ms()
                    )
                    await self.commit(claim, Commit([encode("alarms", replaced)], {}, {}, claim.memo, claim.since))
            yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(RELEASE_S):
                for claim in self.claims:
                    await self.log.release(claim)
            self.claims.clear()

    def ready(self) -> None:
        """Report to the supervisor that the start is over."""
        self._supervised.ready()

    async def alive(self) -> None:
        """Renew the leases and give a sign of life, at most once a second. Raises ``FencedError`` if another process
        has taken a group over."""
        if time.monotonic() - self._renewed_at >= RENEW_S:
            for claim in self.claims:
                await self.log.renew(claim)
            self._renewed_at = time.monotonic()
        self._supervised.alive()

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
        handled = time.time_ns()
        await self.log.commit(claim, commit)
        if commit.outputs:
            self.telemetry.batch(
                BatchReport(
                    consumed={},
                    outputs=commit.outputs,
                    started_ns=handled if started_ns is None else started_ns,
                    handled_ns=handled,
                    committed_ns=time.time_ns(),
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
            check_installation(settings, await current(log))
            yield Loop(log, group, telemetry=telemetry, supervised=supervised)
    finally:
        supervised.stopping()
        telemetry.stop()
