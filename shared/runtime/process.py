"""A service as an operating-system process: its server, its signals, its end.

Exit codes of ``conclave run``: 0 drained, 2 cannot run (a second copy, a gap, settings, control).
"""

import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from shared.control import ControlReader, State, checkpoint
from shared.control.issuing import current
from shared.control.stream import now_ms
from shared.log import Owner
from shared.log.durability import check_server
from shared.log.leases import born
from shared.log.redis import RedisLog
from shared.log.written import Written
from shared.recovery.record import ControlRecord
from shared.runtime.host import Host
from shared.runtime.service import Service
from shared.runtime.supervision import Supervised
from shared.server import embedded
from shared.settings import Settings, redis_url_with_password
from shared.telemetry import start

ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The environment of every worker: two threads beside a busy neighbour are slower than one."""
PR_SET_PDEATHSIG: Final = 1
_log = logging.getLogger(__name__)


class InstallationError(RuntimeError):
    """The control stream and this machine's settings do not fit together. Says how."""


def module_command(module: str, *words: str) -> list[str]:
    """Return the command that runs an installed module as a child, with the interpreter of this process.

    ``-P`` keeps the working folder off the import path: a folder ``services`` in a person's project must not be run
    in place of the installed package."""
    return [sys.executable, "-P", "-m", module, *words]


def owner(label: str) -> Owner:
    """This process, as the owner of a group."""
    return Owner(socket.gethostname(), os.getpid(), label, born(os.getpid()))


def die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGTERM when the parent ends, however it ends (Linux; elsewhere nothing). In a process
    group of its own: a Ctrl-C is for the parent, which ends its children. In the parent's session: the kernel shares
    the processor among sessions first (sched(7), autogroup), and no priority counts across them."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(2)


@asynccontextmanager
async def stop_on_signal() -> AsyncIterator[anyio.Event]:
    """An event that SIGTERM and SIGINT set: for work that drains by itself."""
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_on_signal, stop.set)
        yield stop
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def cancelled_by_signal() -> AsyncIterator[None]:
    """Cancels its body on SIGTERM and SIGINT, and goes on behind it: for work that cleans up."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_on_signal, tasks.cancel_scope.cancel)
        yield
        tasks.cancel_scope.cancel()


async def _on_signal(act: Callable[[], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            act()


@asynccontextmanager
async def opened_log(settings: Settings, name: str) -> AsyncIterator[RedisLog]:
    """The log on a server that was found fit to keep it."""
    url = embedded.nearest(redis_url_with_password(settings), Path(settings.installation.state) / "redis")
    await check_server(url, settings.redis.ephemeral)
    log = RedisLog(url, name=name)
    try:
        yield log
    finally:
        await log.close()


def check_installation(settings: Settings, state: State) -> None:
    """Whether this machine's settings are those of the installation. Raises ``InstallationError``."""
    if state.version == 0:
        raise InstallationError("the control stream is empty: found the installation first (`conclave found`)")
    if state.partitions != settings.installation.partitions:
        raise InstallationError(
            f"the installation was founded with {state.partitions} partitions, [installation] partitions says "
            f"{settings.installation.partitions}; the count cannot change: correct the settings"
        )


def record_of(settings: Settings) -> ControlRecord | None:
    """What this machine noted of the control log; None for a log that may vanish."""
    return None if settings.redis.ephemeral else ControlRecord(Path(settings.installation.state))


def missing_by(settings: Settings) -> Callable[[State], str | None]:
    """For a ``ControlWriter``: whether commands are missing, by what this machine noted."""
    record = record_of(settings)
    return (lambda _: None) if record is None else record.why


def checkpoints(settings: Settings) -> Path:
    """Where this machine notes what the server held."""
    return Path(settings.installation.state) / "checkpoints"


def digests_noted(
    settings: Settings, group: str, partition: int, state: State
) -> Callable[[State, Mapping[str, Written]], None]:
    """How to note what a group has written, beside the control head; ``state`` is noted for a service that does not
    follow control. A disk that refuses is reported once, and stops nothing: the next note holds this one's entries."""
    reported = ""

    def note(now: State, written: Mapping[str, Written]) -> None:
        nonlocal reported
        try:
            checkpoint.note_digests(
                checkpoints(settings), partition, group, written, now if now.version else state, now_ms()
            )
            reported = ""
        except OSError as error:
            if reported != str(error):
                _log.warning("digests of what %s wrote could not be noted: %s", group, error)
            reported = str(error)

    return note


async def serve(
    service: Service[Any],
    settings: Settings,
    partition: int,
    stop: anyio.Event,
    *,
    take_over: bool = False,
) -> None:
    """Hosts a service until ``stop``, and shows its supervisor that the loop turns. Raises whatever ends it
    otherwise."""
    if not 0 <= partition < settings.installation.partitions:
        raise InstallationError(f"partition {partition} of {settings.installation.partitions} does not exist")
    meter = start(settings.telemetry, service.group, partition)
    supervised = Supervised()
    try:
        async with opened_log(settings, f"conclave:{service.group}:{partition}") as log:
            state = await current(log)
            check_installation(settings, state)
            digests = None if settings.redis.ephemeral else digests_noted(settings, service.group, partition, state)
            record = record_of(settings)
            lost = record.lost(state) if record is not None else None
            noting = (lambda now: record.note(now, now_ms())) if record is not None else None
            if noting is not None and lost is None:
                noting(state)
            host = Host(
                service,
                log,
                partition,
                owner(service.group),
                meter=meter,
                take_over=take_over,
                ready=supervised.ready,
                noting=noting,
                noting_digests=digests,
                alive=supervised.alive,
                reader=record.reader if record is not None else ControlReader,
                lost=lost,
                accepted=record.accepted if record is not None else None,
            )
            await host.run(stop)
    finally:
        supervised.stopping()
        meter.stop()
