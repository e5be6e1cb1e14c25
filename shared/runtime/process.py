"""Run a service as an operating-system process: open the log, react to signals, report to the supervisor.

Exit codes of ``conclave run``: 0 after a stop, 2 if the service cannot run (a second copy, a gap, settings, control).
"""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from shared.control import ControlReader, State, checkpoint
from shared.control.issuing import current
from shared.control.stream import now_ms
from shared.log import Owner
from shared.log.durability import check_server, reach_server, rewrite_append_only_file
from shared.log.redis import RedisLog
from shared.log.written import Written
from shared.processes import identity_of
from shared.recovery.record import ControlRecord
from shared.recovery.storage import Storage
from shared.runtime.clock import ServerClock
from shared.runtime.host import Host
from shared.runtime.service import Service
from shared.runtime.supervision import Supervised
from shared.server import embedded
from shared.settings import Settings, redis_url_with_password
from shared.telemetry import start

ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The environment of every worker: on a busy processor two threads are slower than one."""
REFUSED_S: Final = 1.0
"""How long a write to a server that reported that it takes none is tried again (seconds). Shorter than the limit of
``shared.control.fence.REACH_S``, so that the reason is known in time."""
PR_SET_PDEATHSIG: Final = 1


class InstallationError(RuntimeError):
    """The control stream and this machine's settings do not match. The message names the difference."""


def owner(label: str) -> Owner:
    """Return this process as the owner of a group, shown to people as ``label``."""
    pid, born, namespace = identity_of(os.getpid())
    return Owner(socket.gethostname(), pid, label, born, namespace)


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends, for whatever reason (Linux; elsewhere nothing is asked).

    The process gets a process group of its own, since a Ctrl-C is for the parent, which ends its children. It stays in
    the parent's session: the kernel shares the processor among sessions first (sched(7), autogroup), and priorities do
    not count across them."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(2)


@asynccontextmanager
async def stop_on_signal() -> AsyncIterator[anyio.Event]:
    """Give an event that SIGTERM and SIGINT set, for work that ends by itself after it."""
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_on_signal, stop.set)
        yield stop
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def cancelled_by_signal() -> AsyncIterator[None]:
    """Cancel the body on SIGTERM and SIGINT, and go on after it: for work that cleans up."""
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
    """Open the log to write to it, after a check that the server keeps what is written (``shared.log.durability``)."""
    url = server_url(settings)
    await check_server(url, settings.redis.ephemeral)
    async with _closing(RedisLog(url, name=name)) as log:
        yield log


@asynccontextmanager
async def reached_log(settings: Settings, name: str) -> AsyncIterator[RedisLog]:
    """Open the log of a server that answers, whatever state it is in: to look, or to halt.

    Neither the server nor a disk is written to. A server that reports that it takes no writes now is not waited for:
    a write fails after ``REFUSED_S`` seconds with the reason. Raises ``UnavailableError``."""
    url = server_url(settings)
    refused = await reach_server(url)
    log = RedisLog(url, name=name) if refused is None else RedisLog(url, name=name, patience_s=REFUSED_S)
    async with _closing(log):
        yield log


def server_url(settings: Settings) -> str:
    """Return the address of the server, with the password. It is the socket of an embedded server where there is
    one."""
    return embedded.nearest(redis_url_with_password(settings), Path(settings.installation.state) / "redis")


@asynccontextmanager
async def _closing(log: RedisLog) -> AsyncIterator[RedisLog]:
    try:
        yield log
    finally:
        await log.close()


def check_installation(settings: Settings, state: State) -> None:
    """Compare this machine's settings with the installation in ``state``. Raises ``InstallationError``."""
    if state.version == 0:
        raise InstallationError("the control stream is empty: found the installation first (`conclave found`)")
    if state.partitions != settings.installation.partitions:
        raise InstallationError(
            f"the installation was founded with {state.partitions} partitions, [installation] partitions says "
            f"{settings.installation.partitions}; the count cannot change: correct the settings"
        )


def record_of(settings: Settings, storage: Storage | None = None) -> ControlRecord | None:
    """Return the record that this machine keeps of the control log; None for a log that may vanish."""
    return None if settings.redis.ephemeral else ControlRecord(Path(settings.installation.state), storage)


def missing_by(settings: Settings, storage: Storage | None = None) -> Callable[[State], str | None]:
    """Return the function by which a ``ControlWriter`` finds out that commands are missing (``ControlRecord.why``)."""
    record = record_of(settings, storage)
    return (lambda _: None) if record is None else record.why


def checkpoints(settings: Settings) -> Path:
    """Return the folder of this machine's notes about what the log held."""
    return Path(settings.installation.state) / "checkpoints"


def digests_noted(
    settings: Settings, group: str, partition: int, state: State, storage: Storage | None = None
) -> Callable[[State, Mapping[str, Written]], bool]:
    """Return the function that notes a group's running digests with the control head. ``state`` is noted for a service
    that does not follow control.

    A failing disk stops nothing (``shared.recovery.storage``), since the next note covers the same entries."""
    storage, folder = storage or Storage(group), checkpoints(settings)

    def note(now: State, written: Mapping[str, Written]) -> bool:
        noted = now if now.version else state
        return storage.attempt(
            checkpoint.file_of(folder, partition),
            lambda: checkpoint.note_digests(folder, partition, group, written, noted, now_ms()),
            f"digests of what {group} wrote",
        )

    return note


async def serve(
    service: Service[Any],
    settings: Settings,
    partition: int,
    stop: anyio.Event,
    *,
    take_over: bool = False,
    alongside: Callable[[Host[Any]], Awaitable[None]] | None = None,
) -> None:
    """Host a service until ``stop``, and give its supervisor a sign of life after each turn. ``alongside`` is run from
    the end of the start until the end. Raises ``InstallationError``, and what ``Host.run`` does."""
    if not 0 <= partition < settings.installation.partitions:
        raise InstallationError(f"partition {partition} of {settings.installation.partitions} does not exist")
    telemetry = start(settings.telemetry, service.group, partition)
    supervised, started = Supervised(), anyio.Event()

    def ready() -> None:
        supervised.ready()
        started.set()

    try:
        async with opened_log(settings, f"conclave:{service.group}:{partition}") as log:
            state = await current(log)
            check_installation(settings, state)
            storage = Storage(service.group)
            note_digests = (
                None if settings.redis.ephemeral else digests_noted(settings, service.group, partition, state, storage)
            )
            record = record_of(settings, storage)
            lost = record.lost(state) if record is not None else None
            note_head = (lambda now: record.note(now, now_ms())) if record is not None else None
            if note_head is not None and lost is None:
                note_head(state)
            host = Host(
                service,
                log,
                partition,
                owner(service.group),
                telemetry=telemetry,
                take_over=take_over,
                ready=ready,
                note_head=note_head,
                note_digests=note_digests,
                alive=supervised.alive,
                reader=record.reader if record is not None else ControlReader,
                lost=lost,
                accepted=record.accepted if record is not None else None,
                clock=ServerClock(),
                storage=storage,
                noted=record.lost if record is not None else None,
                reconnected=partial(rewrite_append_only_file, server_url(settings)),
            )
            if alongside is None:
                await host.run(stop)
            else:
                await _both(host, stop, started, alongside)
    finally:
        supervised.stopping()
        telemetry.stop()


async def _both(
    host: Host[Any], stop: anyio.Event, started: anyio.Event, alongside: Callable[[Host[Any]], Awaitable[None]]
) -> None:
    """Run the host, and ``alongside`` once it has started, until the host ends."""

    async def when_started() -> None:
        await started.wait()
        await alongside(host)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(when_started)
        await host.run(stop)
        tasks.cancel_scope.cancel()
