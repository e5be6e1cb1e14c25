"""The archiver's shell: one process for the installation, a round every so often."""

import logging
import time
from pathlib import Path
from typing import Final

import anyio

from schemas.codec import Encoded, encode
from schemas.operations import OwnerReplaced
from services.archiver.core import GROUP
from services.archiver.sealing import ArchiveError, round_of
from shared.archive.store import SegmentStore, opened
from shared.control.issuing import current
from shared.control.stream import now_ms
from shared.log import Claim, Commit, Log
from shared.log.admin import opened_whole
from shared.runtime.process import check_installation, opened_log, owner
from shared.runtime.supervision import Supervised
from shared.settings import Settings, redis_url_with_password
from shared.telemetry import start
from shared.telemetry.reporting import BatchReport, Telemetry

RENEW_S: Final = 3.0
_log = logging.getLogger(GROUP)


def store_of(settings: Settings) -> SegmentStore:
    """Where this installation's archive lies."""
    return opened(settings.archive.path or Path(settings.installation.state) / "archive")


async def run(settings: Settings, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Archives until ``stop``. Raises ``OwnedError`` where another archiver runs."""
    supervised = Supervised()
    meter = start(settings.telemetry, GROUP)
    try:
        async with opened_log(settings, f"conclave:{GROUP}") as log:
            check_installation(settings, await current(log))
            claims: list[Claim] = []
            try:
                for partition in range(settings.installation.partitions):
                    claim = await log.claim(GROUP, (), partition, owner(GROUP), take_over=take_over)
                    claims.append(claim)  # released if a later one is refused
                await _archive(settings, log, claims, stop, supervised, meter)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    for claim in claims:
                        await log.release(claim)
    finally:
        supervised.stopping()
        meter.stop()


async def _archive(
    settings: Settings, log: Log, claims: list[Claim], stop: anyio.Event, supervised: Supervised, meter: Telemetry
) -> None:
    store = store_of(settings)
    copy = opened(settings.archive.copy) if settings.archive.copy else None
    told, renewed = "", 0.0

    async def renew() -> None:
        """Fenced here, before anything is written or trimmed, if another process took over."""
        nonlocal renewed
        if time.monotonic() - renewed > RENEW_S / 3:
            for claim in claims:
                await log.renew(claim)
            renewed = time.monotonic()
        supervised.alive()

    if claims[0].former is not None:
        alarm = OwnerReplaced(GROUP, claims[0].former, str(claims[0].owner), claims[0].epoch, now_ms())
        await _raise(log, claims[0], encode("alarms", alarm), meter)
    supervised.ready()
    due = time.monotonic()
    while not stop.is_set():
        await renew()
        if time.monotonic() >= due:
            try:
                async with opened_whole(redis_url_with_password(settings), f"conclave:{GROUP}") as whole:
                    done = await round_of(
                        log, whole, store, copy=copy, partitions=len(claims), now=now_ms(), renew=renew
                    )
                _log.info("sealed %d entries in %d files, trimmed %d", done.sealed, done.files, done.trimmed)
                told = ""
            except ArchiveError as fault:
                if str(fault) != told:
                    _log.error("nothing is trimmed: %s", fault)
                    await _raise(log, claims[0], encode("alarms", fault.alarm(now_ms())), meter)
                    told = str(fault)
            due = time.monotonic() + settings.archive.every_s
        with anyio.move_on_after(min(RENEW_S, max(due - time.monotonic(), 0.01))):
            await stop.wait()


async def _raise(log: Log, claim: Claim, alarm: Encoded, meter: Telemetry) -> None:
    now = time.time_ns()
    await log.commit(claim, Commit([alarm], {}, {}))
    meter.batch(BatchReport(consumed={}, outputs=[alarm], started_ns=now, handled_ns=now, committed_ns=time.time_ns()))
