"""``conclave up | down``: run all services of an installation on this machine, and their server."""

import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import click

from services.console.context import asynchronous, settings_of
from services.console.control.membership import found_installation
from services.console.run.processes import GRACE_S, LONGEST_DELAY_S, Child, Supervisor, console_command
from services.console.run.service import host, missing_observatory
from services.console.run.status import all_alive
from services.console.run.up_file import FILE, UpFile, refuse_second, running, terminate, unidentified
from services.watcher.main import addresses
from shared.control.issuing import current
from shared.log import UnavailableError
from shared.log.durability import check_server, fsync_ms
from shared.runtime.process import InstallationError, cancelled_by_signal, opened_log, record_of
from shared.server.embedded import EmbeddedError, EmbeddedServer
from shared.settings import LOOPBACK, VARIABLE, Settings, address_of, find, redis_url_with_password

READY_WITHIN_S: Final = 60.0
LOOK_AT_SERVER_S: Final = 0.5
OBSERVATORY: Final = "observatory"
LOW_PRIORITY: Final = (["shadow-recorder"], ["gate-evaluator"], ["archiver"], ["trainer"], ["watcher"], [OBSERVATORY])
"""The services that are not on the path from bar to decision."""


def service_names(settings: Settings) -> list[tuple[str, list[str], str]]:
    """Return the name, the command and the consumer group of every service of an installation."""
    partition_wide = ["feature-builder", "ensemble-voter", "executor", "shadow-recorder", "gate-evaluator"]
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
    processes = [(name, words) for name, words, _ in service_names(settings)] + [("guard", ["guard"])]
    if settings.telemetry.endpoint or addresses():
        processes.append(("watcher", ["run", "watcher"]))  # its alerts have a destination
    if settings.observatory.port and missing_observatory() is None:
        processes.append((OBSERVATORY, ["run", OBSERVATORY]))
    return [_child(name, words, file) for name, words in processes]


def _child(name: str, words: Sequence[str], file: Path | None, *, finishes: bool = False) -> Child:
    environment = {VARIABLE: str(file)} if file else {}
    command = console_command(*words, "--parent", str(os.getpid()))
    return Child(name, command, environment, low_priority=list(words[1:2]) in LOW_PRIORITY, finishes=finishes)


@asynccontextmanager
async def server_for(settings: Settings) -> AsyncIterator[bool]:
    """Ensure that a server answers at the configured address. If none does, run an embedded one inside this context,
    unless the log may be elsewhere (``_elsewhere``). Yields whether it was started here. Raises
    ``UnavailableError``."""
    answers = True
    try:
        await check_server(redis_url_with_password(settings), settings.redis.ephemeral)
    except UnavailableError as error:
        if (why := _elsewhere(settings)) is not None:
            raise UnavailableError(f"{error}{why}") from None
        answers = False
    if answers:
        yield False
        return
    url = urlsplit(settings.redis.url)
    data = Path(settings.installation.state) / "redis"
    server = EmbeddedServer(data, port=url.port or 6379, die_with_parent=True)
    server.start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_running, server)
            yield True
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            server.stop()


async def _keep_running(server: EmbeddedServer) -> None:
    """Start the server again whenever it has ended. It is started in this thread: it ends with the thread that started
    it."""
    delay, failed = 0.0, False
    code: int | None = None
    while True:
        await anyio.sleep(max(delay, LOOK_AT_SERVER_S))
        if not failed:
            code = server.ended()
            if code is None:
                delay = 0.0
                continue
        delay = min(max(2 * delay, 1.0), LONGEST_DELAY_S)
        try:
            server.start()
        except EmbeddedError as error:
            if not failed:
                click.echo(f"the embedded server cannot be started, and is tried again: {error}", err=True)
            failed = True
        else:
            click.echo(f"the embedded server had ended with code {code}; it was started again")
            failed = False


def _elsewhere(settings: Settings) -> str | None:
    """Return why no server may be started in place of one that does not answer, as a sentence for people; None if one
    may be started.

    An address on loopback may be that of a master under Sentinel, of a tunnel, or of a server that is down for an hour.
    An empty server in its place would look like the installation's. So none is started if this machine has the records
    of an installation, and the state folder does not have its data."""
    url = urlsplit(settings.redis.url)
    if url.scheme != "redis" or url.hostname not in LOOPBACK:
        return ""
    data, record = Path(settings.installation.state) / "redis", record_of(settings)
    if data.exists() or record is None or record.empty():
        return None
    return (
        f" None is started in its place: {record.path.parent} has the records of an installation, whose log is not in "
        f"{data}. Start the server that has it, or restore it (`conclave archive restore`)"
    )


async def found_if_new(settings: Settings, actor: str) -> None:
    """Create the installation if the stream ``control`` is empty.

    Raises ``InstallationError`` if the records of this machine are of an installation that was created before: then
    the server lost it, and nothing could be restored to a server that has another one."""
    record = record_of(settings)
    async with opened_log(settings, "conclave:console") as log:
        if (await current(log)).version == 0:
            if record is not None and not record.empty():
                raise InstallationError(
                    f"the server is empty, but {record.path.parent} has the records of an installation. Restore it "
                    f"(`conclave archive restore`), or give it its own server again. To begin a new installation on "
                    f"purpose, move {record.path.parent} away"
                )
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


async def _until_alive(settings: Settings, wanted: set[str], supervisor: Supervisor | None) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    async with opened_log(settings, "conclave:console") as log:
        while not await all_alive(log, settings.installation.partitions, wanted):
            children = supervisor.children if supervisor is not None else ()
            needed = [child for child in children if child.name != OBSERVATORY]  # its port may be taken
            ended = [child.name for child in needed if child.code is not None or child.refusal]
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
    refuse_second(state)
    if detach:
        _detach(state, [*(["--one-process"] if one_process else []), *(["--feed"] if with_feed else [])])
        return
    with UpFile(state).written() as file:
        await _up(context, settings, file, one_process=one_process, with_feed=with_feed)


async def _up(context: click.Context, settings: Settings, file: UpFile, *, one_process: bool, with_feed: bool) -> None:
    state = Path(settings.installation.state)
    async with cancelled_by_signal(), server_for(settings) as started_here:
        await found_if_new(settings, "conclave up")
        if started_here:
            click.echo(f"an embedded server answers at {settings.redis.url}, data in {state / 'redis'}{_synced(state)}")
        if one_process:
            await _one_process(settings, with_feed, file)
            return
        chosen = find(context.find_root().params["path"])
        async with services_up(settings, click.echo, chosen) as supervisor:
            file.ready()
            names = ", ".join(child.name for child in supervisor.children)
            click.echo(f"up: {names}. Ctrl-C or `conclave down` ends it; logs are in {state / 'log'}")
            if settings.observatory.port:
                click.echo(missing_observatory() or f"look at it in a browser: {address_of(settings.observatory)}")
            if with_feed:
                supervisor.add(_child("feed", ["run", "feed"], chosen, finishes=True))
            await anyio.sleep_forever()


def _synced(state: Path) -> str:
    """Return what a durable write costs on the disk of the embedded server; '' if nothing can be written there."""
    with suppress(OSError):
        return f"; its disk takes {fsync_ms(state / 'redis'):.1f} ms to make a write durable"
    return ""


async def _one_process(settings: Settings, with_feed: bool, file: UpFile) -> None:
    stop = anyio.Event()
    wanted = {group for _, _, group in service_names(settings)}

    async def note_ready() -> None:
        await _until_alive(settings, wanted, None)
        file.ready()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(note_ready)
        for name, words, _ in service_names(settings):
            model = words[words.index("--model") + 1] if "--model" in words else None
            partition = int(words[words.index("--partition") + 1])
            tasks.start_soon(host, settings, words[1], model, partition, stop, name=name)
        if with_feed:
            await _feed(settings, stop)


async def _feed(settings: Settings, stop: anyio.Event) -> None:
    from services.console.run.feed import feed_from_settings  # noqa: PLC0415  # imported where needed

    await feed_from_settings(settings, stop)


def _detach(state: Path, words: Sequence[str]) -> None:
    (state / "log").mkdir(exist_ok=True)
    with (state / "log" / "up.log").open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # a fixed command
            console_command("up", *words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_WITHIN_S + GRACE_S
    while (up := running(state)) is None or up.pid != process.pid or not up.ready:
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise InstallationError(f"it did not start; see {state / 'log' / 'up.log'}")
        time.sleep(0.05)
    click.echo(f"up, as pid {process.pid}; `conclave status` shows it, `conclave down` ends it")


@click.command()
@click.pass_context
def down(context: click.Context) -> None:
    """Drain and end the services that `conclave up` started, and then its embedded server."""
    state = Path(settings_of(context).installation.state)
    if terminate(state, READY_WITHIN_S):
        click.echo("down")
        return
    click.echo("not up; nothing to do")
    if (pid := unidentified(state)) is not None:
        click.echo(
            f"{state / FILE} is of an older release and names pid {pid} alone. If `ps -p {pid} -o args` shows a "
            f"`conclave up`, end it: kill {pid}",
            err=True,
        )
