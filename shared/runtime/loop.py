"""The loop of a service that is one process for the whole installation: claims, notices, supervision, telemetry.

    async with opened_loop(settings, GROUP) as loop, loop.owned(partitions):
        loop.ready()
        await loop.repeat(turn, every_s, stop)

A service that reads one partition is hosted by ``shared.runtime.host``. Feed, trainer, archiver, watcher and guard look
at all partitions at once, and keep this loop instead. The two that write nothing under a claim (watcher and guard)
own no group.
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
from shared.runtime.process import check_installation, opened_log
from shared.runtime.process import owner as this_process
from shared.runtime.supervision import Supervised
from shared.settings import Settings
from shared.telemetry import start
from shared.telemetry.reporting import BatchReport, Telemetry

T = TypeVar("T")

RENEW_S: Final = 1.0
"""Between two renewals of the leases, and the longest wait without a sign of life. A lease runs ten seconds."""
RELEASE_S: Final = 2.0
"""How long the end of a process may wait for the server to release its claims."""


class Loop:
    """One process of ``group`` on all partitions. ``claims``: what ``owned`` claimed, by partition."""

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
        """Owns the group in every partition while the body runs; releases it at the end, so that the next process
        begins at once. Writes ``OwnerReplaced`` where the former owner had not released it.

        Raises ``OwnedError`` where another process owns one of the partitions, and releases the others."""
        try:
            for partition in range(partitions):
                claim = await self.log.claim(self.group, streams, partition, self.owner, take_over=take_over)
                self.claims.append(claim)  # at once: released if the next is refused
            for claim in self.claims:
                if claim.former is not None:
                    replaced = OwnerReplaced(claim.group, claim.former, str(claim.owner), claim.epoch, now_ms())
                    await self.commit(claim, Commit([encode("alarms", replaced)], {}, {}, claim.memo, claim.since))
            yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(RELEASE_S):
                for claim in self.claims:
                    await self.log.release(claim)
            self.claims.clear()

    def ready(self) -> None:
        """Reports to the supervisor that the process owns its group and works from here on."""
        self._supervised.ready()

    async def alive(self) -> None:
        """Renews the leases and gives a sign of life. Cheap: does nothing where the last time was a moment ago.
        Raises ``FencedError`` where another process took over."""
        if time.monotonic() - self._renewed_at >= RENEW_S:
            for claim in self.claims:
                await self.log.renew(claim)
            self._renewed_at = time.monotonic()
        self._supervised.alive()

    async def repeat(self, turn: Callable[[], Awaitable[None]], every_s: float, stop: anyio.Event) -> None:
        """Calls ``turn`` until ``stop``, ``every_s`` seconds after the last call ended. Renews before each call and
        during the wait, so a turn that hangs is seen by the supervisor; a longer one calls ``alive`` itself."""
        due = time.monotonic()
        while not stop.is_set():
            await self.alive()
            if time.monotonic() >= due:
                await turn()
                due = time.monotonic() + every_s
            await wait(min(due - time.monotonic(), RENEW_S), stop)

    async def alongside(self, work: Callable[[], Awaitable[T]]) -> T:
        """Awaits ``work``, and renews meanwhile: for work that may rightly wait long, as a feed for its source. Gives
        signs of life from the event loop, so a blocked loop gives none."""

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
            # The error that ended the work, rather than the group that it ended in.
            raise group.exceptions[0] from None
        return result

    async def commit(self, claim: Claim, commit: Commit, *, started_ns: int | None = None) -> None:
        """Commits under a claim, and reports to telemetry what was written. ``started_ns``: when the work on it began
        (nanoseconds since 1970); now, where it is left out."""
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
    """Waits, or less where ``stop`` is set; not at all where there is no time to wait."""
    if seconds > 0:
        with anyio.move_on_after(seconds):
            await stop.wait()


@asynccontextmanager
async def opened_loop(settings: Settings, group: str) -> AsyncIterator[Loop]:
    """A loop on the log of the settings, with the telemetry and the supervisor of this process.
    Raises ``InstallationError``."""
    supervised, telemetry = Supervised(), start(settings.telemetry, group)
    try:
        async with opened_log(settings, f"conclave:{group}") as log:
            check_installation(settings, await current(log))
            yield Loop(log, group, telemetry=telemetry, supervised=supervised)
    finally:
        supervised.stopping()
        telemetry.stop()
