"""``conclave up | down``: run all services of an installation on this machine, and their server."""

import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import click

from services.console.context import asynchronous, settings_of
from services.console.control.membership import found_installation
from services.console.run.processes import Child, Supervisor, console_command
from services.console.run.service import host
from services.console.run.status import all_alive
from services.watcher.main import addresses
from shared.control.issuing import current
from shared.log import UnavailableError
from shared.log.durability import check_server
from shared.runtime.process import InstallationError, cancelled_by_signal, opened_log
from shared.server.embedded import EmbeddedServer
from shared.settings import LOOPBACK, VARIABLE, Settings, find, redis_url_with_password

PID_FILE: Final = "up.json"
READY_WITHIN_S: Final = 60.0
LOW_PRIORITY: Final = (["shadow-recorder"], ["gate-evaluator"], ["archiver"], ["trainer"], ["watcher"])
"""The services that are not on the path from bar to decision."""


def service_names(settings: Settings) -> list[tuple[str, list[str], str]]:
    """Return the name, the command and the consumer group of every service of an installation."""
    partition_wide = ["feature-builder", "ensemble-voter", "shadow-recorder", "gate-evaluator"]
    rows = [(name, ["run", name, "--partition", "0"], name) for name in ("archiver", "trainer")]
    for partition in range(settings.installation.partitions):
        where = ["--partition", str(partition)]
        suffix = f".{partition}" if settings.installation.partitions > 1 else ""
        rows += [(f"{name}{suffix}", ["run", name, *where], name) for name in partition_wide]
        rows += [
            (
                f"model-worker.{model}{suffix}",
                ["run", "model-worker", "--model", model, *where],
                f"model-worker.{model}",
            )
            for model in settings.models.names
        ]
    return rows


def children_of(settings: Settings, file: Path | None) -> list[Child]:
    """Return the processes of an installation. They read the settings in ``file``."""
    parent = ["--parent", str(os.getpid())]
    environment = {VARIABLE: str(file)} if file else {}
    processes = [(name, words) for name, words, _ in service_names(settings)] + [("guard", ["guard"])]
    if settings.telemetry.endpoint or addresses():
        processes.append(("watcher", ["run", "watcher"]))  # its alerts have a destination
    return [
        Child(name, console_command(*words, *parent), environment, low_priority=words[1:2] in LOW_PRIORITY)
        for name, words in processes
    ]


@asynccontextmanager
async def server_for(settings: Settings) -> AsyncIterator[bool]:
    """Ensure that a server answers at the configured address. If none does and the settings have an embedded one, run
    it inside this context. Yields whether it was started here. Raises ``UnavailableError``."""
    answers = True
    try:
        await check_server(redis_url_with_password(settings), settings.redis.ephemeral)
    except UnavailableError as error:
        if not settings.redis.embedded:
            raise _without_server(settings, error) from None
        answers = False
    if answers:
        yield False
        return
    url = urlsplit(settings.redis.url)
    data = Path(settings.installation.state) / "redis"
    server = EmbeddedServer(data, port=url.port or 6379, die_with_parent=True)
    server.start()
    try:
        yield True
    finally:
        with anyio.CancelScope(shield=True):
            server.stop()


def _without_server(settings: Settings, error: UnavailableError) -> UnavailableError:
    """Return the error with a hint, if the server that does not answer may have been an embedded one."""
    url = urlsplit(settings.redis.url)
    if url.scheme != "redis" or url.hostname not in LOOPBACK:
        return error
    return UnavailableError(
        f"{error} None is started in its place: the settings name a server, which may have the log. If it is this "
        f"installation's own, with its data in {settings.installation.state}/redis, write embedded = true in [redis]"
    )


async def found_if_new(settings: Settings, actor: str) -> None:
    """Create the installation if the stream ``control`` is empty."""
    async with opened_log(settings, "conclave:console") as log:
        if (await current(log)).version == 0:
            await found_installation(log, settings, actor, "first start")


@asynccontextmanager
async def services_up(
    settings: Settings, report: Callable[[str], None], file: Path | None
) -> AsyncIterator[Supervisor]:
    """Run every service as a process of its own. All are alive when this yields, and are drained on exit."""
    supervisor = Supervisor(children_of(settings, file), Path(settings.installation.state) / "log", report)
    wanted = {group for _, _, group in service_names(settings)}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        try:
            await _until_alive(settings, wanted, supervisor)
            supervisor.lower_priorities()
            yield supervisor
        finally:
            supervisor.stop()


async def _until_alive(settings: Settings, wanted: set[str], supervisor: Supervisor) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    async with opened_log(settings, "conclave:console") as log:
        while not await all_alive(log, settings.installation.partitions, wanted):
            ended = [child.name for child in supervisor.children if child.code is not None]
            if ended or time.monotonic() > deadline:
                late = f"not every service was alive within {READY_WITHIN_S:.0f} s"
                what = f"{', '.join(ended)} ended" if ended else late
                raise InstallationError(f"{what}; see {settings.installation.state}/log")
            await anyio.sleep(0.02)


@click.command()
@click.option("--one-process", is_flag=True, help="Run all services as tasks of one process, for development.")
@click.option("--detach", "-d", is_flag=True, help="Run in the background; `conclave down` ends it.")
@click.option("--feed", "with_feed", is_flag=True, help="Also start the feed that the settings describe.")
@click.pass_context
@asynchronous
async def up(context: click.Context, /, one_process: bool, detach: bool, with_feed: bool) -> None:
    """Start the installation: a server if none answers, and each service as a process of its own."""
    settings = settings_of(context)
    state = Path(settings.installation.state)
    state.mkdir(parents=True, exist_ok=True)
    _refuse_second(state)
    if detach:
        _detach(state, [*(["--one-process"] if one_process else []), *(["--feed"] if with_feed else [])])
        return
    async with cancelled_by_signal(), server_for(settings) as started_here:
        await found_if_new(settings, "conclave up")
        if started_here:
            click.echo(f"an embedded server answers at {settings.redis.url}, data in {state / 'redis'}")
        if one_process:
            await _one_process(settings, with_feed)
            return
        async with services_up(settings, click.echo, find(context.find_root().params["path"])) as supervisor:
            (state / PID_FILE).write_text(json.dumps({"pid": os.getpid(), "since": time.time()}))
            names = ", ".join(child.name for child in supervisor.children)
            click.echo(f"up: {names}. Ctrl-C or `conclave down` ends it; logs are in {state / 'log'}")
            try:
                if with_feed:
                    await _feed(settings, anyio.Event())
                await anyio.sleep_forever()
            finally:
                (state / PID_FILE).unlink(missing_ok=True)


async def _one_process(settings: Settings, with_feed: bool) -> None:
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for name, words, _ in service_names(settings):
            model = words[words.index("--model") + 1] if "--model" in words else None
            partition = int(words[words.index("--partition") + 1])
            tasks.start_soon(host, settings, words[1], model, partition, stop, name=name)
        if with_feed:
            await _feed(settings, stop)


async def _feed(settings: Settings, stop: anyio.Event) -> None:
    from services.console.run.feed import feed_from_settings  # noqa: PLC0415  # imported where needed

    await feed_from_settings(settings, stop)


def _refuse_second(state: Path) -> None:
    pid = _running(state)
    if pid is not None:
        raise InstallationError(f"already up, as pid {pid}; `conclave down` ends it")


def _running(state: Path) -> int | None:
    """Return the pid of the ``conclave up`` that uses this state folder; None if none runs."""
    try:
        pid = int(json.loads((state / PID_FILE).read_text())["pid"])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError):
        return None
    return pid


def _detach(state: Path, words: Sequence[str]) -> None:
    file = find()
    environment = {**os.environ, **({VARIABLE: str(file)} if file else {})}
    (state / "log").mkdir(exist_ok=True)
    with (state / "log" / "up.log").open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # a fixed command
            console_command("up", *words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
    deadline = time.monotonic() + READY_WITHIN_S
    while _running(state) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise InstallationError(f"it did not start; see {state / 'log' / 'up.log'}")
        time.sleep(0.05)
    click.echo(f"up, as pid {process.pid}; `conclave status` shows it, `conclave down` ends it")


@click.command()
@click.pass_context
def down(context: click.Context) -> None:
    """Drain and end the services that `conclave up` started, and then its embedded server."""
    state = Path(settings_of(context).installation.state)
    pid = _running(state)
    if pid is None:
        click.echo("not up; nothing to do")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + READY_WITHIN_S
    while _alive(pid):
        if time.monotonic() > deadline:
            raise InstallationError(f"pid {pid} did not end within {READY_WITHIN_S:.0f} s; see {state / 'log'}")
        time.sleep(0.05)
    click.echo("down")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
