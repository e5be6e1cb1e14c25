"""``conclave up | down``: run all services of an installation on this machine, and their server."""

import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import click

from services.console.context import asynchronous, settings_of
from services.console.control.membership import found_installation
from services.console.run.processes import GRACE_S, Child, Supervisor, console_command
from services.console.run.server import server_for
from services.console.run.service import host, missing_observatory, missing_phone
from services.console.run.up_file import FILE, UpFile, refuse_second, running, terminate, unidentified
from services.watcher.main import addresses
from shared.control import ControlError
from shared.control.issuing import current
from shared.control.serving import WORKER, unserved
from shared.log import Log, UnavailableError
from shared.log.connection import ServerError
from shared.log.durability import fsync_ms
from shared.runtime.process import InstallationError, cancelled_by_signal, opened_log, record_of
from shared.settings import VARIABLE, Settings, address_of, find

READY_WITHIN_S: Final = 60.0
OWNED_WITHIN_S: Final = 15.0
"""How long a service waits for the owner of its group to end. The lease of one that has ended runs ten seconds."""
LOOK_AT_VOTES_S: Final = 2.0
UNSERVED_S: Final = 5.0
"""How long a voting model has no worker until one is started. A worker that starts again is away for less."""
OBSERVATORY: Final = "observatory"
PHONE: Final = "phone"
LOW_PRIORITY: Final = (
    ["shadow-recorder"],
    ["gate-evaluator"],
    ["archiver"],
    ["trainer"],
    ["watcher"],
    [OBSERVATORY],
    [PHONE],
)
"""The services that are not on the path from bar to decision."""


def service_names(settings: Settings) -> list[tuple[str, list[str], str]]:
    """Return the name, the command and the consumer group of every service of an installation."""
    partition_wide = ["feature-builder", "ensemble-voter", "executor", "shadow-recorder", "gate-evaluator"]
    rows = [(name, ["run", name, "--partition", "0"], name) for name in ("archiver", "trainer")]
    for partition in range(settings.installation.partitions):
        where = ["--partition", str(partition)]
        rows += [(f"{name}{_suffix(settings, partition)}", ["run", name, *where], name) for name in partition_wide]
        rows += [_worker(settings, model, partition) for model in settings.models.names]
    return rows


def _worker(settings: Settings, model: str, partition: int) -> tuple[str, list[str], str]:
    """Return the name, the command and the consumer group of a model-worker."""
    words = ["run", "model-worker", "--model", model, "--partition", str(partition)]
    return f"{WORKER}{model}{_suffix(settings, partition)}", words, f"{WORKER}{model}"


def _suffix(settings: Settings, partition: int) -> str:
    return f".{partition}" if settings.installation.partitions > 1 else ""


def children_of(settings: Settings, file: Path | None) -> list[Child]:
    """Return the processes of an installation. They read the settings in ``file``."""
    processes = [(name, words) for name, words, _ in service_names(settings)] + [("guard", ["guard"])]
    if settings.telemetry.endpoint or addresses():
        processes.append(("watcher", ["run", "watcher"]))  # its alerts have a destination
    if settings.observatory.port and missing_observatory() is None:
        processes.append((OBSERVATORY, ["run", OBSERVATORY]))
    if settings.phone.persons and missing_phone(settings) is None:
        processes.append((PHONE, ["run", PHONE]))
    return [_child(name, words, file) for name, words in processes]


def _child(name: str, words: Sequence[str], file: Path | None, *, finishes: bool = False) -> Child:
    environment = {VARIABLE: str(file)} if file else {}
    command = console_command(*words, "--parent", str(os.getpid()))
    return Child(name, command, environment, low_priority=list(words[1:2]) in LOW_PRIORITY, finishes=finishes)


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
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        try:
            await _until_alive(settings, supervisor)
            supervisor.lower_priorities()
            yield supervisor
        finally:
            supervisor.stop()


async def _until_alive(settings: Settings, supervisor: Supervisor | None) -> None:
    """Wait until each service owns its group. Raises ``InstallationError``.

    One that has ended is waited for while another process owns its group: that may be a service of a ``conclave up``
    that was killed, and it ends too."""
    begun, log_folder = time.monotonic(), f"{settings.installation.state}/log"
    async with opened_log(settings, "conclave:console") as log:
        while missing := await _missing(settings, log, supervisor):
            waited = time.monotonic() - begun
            children = supervisor.children if supervisor is not None else ()
            for child in children:
                ended = child.code is not None or child.refusal
                if ended and child.name in missing and (not missing[child.name] or waited > OWNED_WITHIN_S):
                    raise InstallationError(f"{child.name} ended: {child.refusal or child.code}; see {log_folder}")
            if waited > READY_WITHIN_S:
                late = f"not alive within {READY_WITHIN_S:.0f} s: {', '.join(missing)}"
                raise InstallationError(f"{late}; see {log_folder}")
            await anyio.sleep(0.02)


async def _missing(settings: Settings, log: Log, supervisor: Supervisor | None) -> dict[str, str]:
    """Return each service whose group is not owned by a child of ``supervisor``, with the owner that it has, or ''.
    Without a supervisor any owner will do: services are tasks of this process, which end it if they are refused."""
    views = [view for partition in range(settings.installation.partitions) for view in await log.groups(partition)]
    owners = {(view.group, view.partition): view.owner for view in views if view.alive}
    found = {name: owners.get((group, partition_in(words)), "") for name, words, group in service_names(settings)}
    if supervisor is None:
        return {name: owner for name, owner in found.items() if not owner}
    here = tuple(f"(pid {child.pid} on {socket.gethostname()})" for child in supervisor.children)
    return {name: owner for name, owner in found.items() if not owner.endswith(here)}


def partition_in(words: Sequence[str]) -> int:
    """Return the partition in the command of a service."""
    return int(words[words.index("--partition") + 1])


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
        if not one_process:
            _echo_address(settings)
        return
    with UpFile(state).written() as file:
        await _up(context, settings, file, one_process=one_process, with_feed=with_feed)


def _echo_address(settings: Settings) -> None:
    if settings.observatory.port:
        click.echo(missing_observatory() or f"look at it in a browser: {address_of(settings.observatory)}")


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
            _echo_address(settings)
            if settings.phone.persons:
                click.echo(missing_phone(settings) or f"the bot answers {len(settings.phone.persons)} chats")
            if with_feed:
                supervisor.add(_child("feed", ["run", "feed"], chosen, finishes=True))

            def start_worker(model: str, partition: int) -> None:
                name, words, _ = _worker(settings, model, partition)
                supervisor.add(_child(name, words, chosen))

            await _serve_voting(settings, start_worker)


async def _serve_voting(settings: Settings, start: Callable[[str, int], None]) -> None:
    """Start a worker for each model that votes and has had none for ``UNSERVED_S``, though the settings do not list it:
    its name was taken out of them, or it was promoted from a machine that has it. Bars from files would wait for its
    answer without end. One whose last worker ran on another machine is left to that machine. Ends by cancellation."""
    since: dict[tuple[str, int], float] = {}
    started: set[tuple[str, int]] = set()
    async with opened_log(settings, "conclave:up") as log:
        while True:
            with suppress(UnavailableError, ServerError, ControlError):  # services report it; the next turn tries again
                places = {place for place in await _nobodys(settings, log) if place not in started}
                now = time.monotonic()
                since = {place: since.get(place, now) for place in places}
                for model, partition in sorted(place for place in places if now - since[place] >= UNSERVED_S):
                    click.echo(
                        f"{model} votes, and no worker serves it in partition {partition}: one is started, though the "
                        "settings do not list it. Add it to `names` in [models], or take it out of the vote"
                    )
                    started.add((model, partition))
                    start(model, partition)
            await anyio.sleep(LOOK_AT_VOTES_S)


async def _nobodys(settings: Settings, log: Log) -> list[tuple[str, int]]:
    """Return the voting models, each with a partition, that no worker serves and that no other machine served last."""
    views = [view for each in range(settings.installation.partitions) for view in await log.groups(each)]
    here = f" on {socket.gethostname()})"  # how the text of an owner ends
    elsewhere = {(view.group, view.partition) for view in views if not view.owner.endswith(here)}
    return [
        (model, partition)
        for model, partitions in unserved(await current(log), views).items()
        for partition in partitions
        if model not in settings.models.names and (f"{WORKER}{model}", partition) not in elsewhere
    ]


def _synced(state: Path) -> str:
    """Return what a durable write costs on the disk of the embedded server; '' if nothing can be written there."""
    with suppress(OSError):
        return f"; its disk takes {fsync_ms(state / 'redis'):.1f} ms to make a write durable"
    return ""


async def _one_process(settings: Settings, with_feed: bool, file: UpFile) -> None:
    stop = anyio.Event()

    async def note_ready() -> None:
        await _until_alive(settings, None)
        file.ready()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(note_ready)
        for name, words, _ in service_names(settings):
            model = words[words.index("--model") + 1] if "--model" in words else None
            partition = partition_in(words)
            tasks.start_soon(host, settings, words[1], model, partition, stop, name=name)

        def start_worker(model: str, partition: int) -> None:
            tasks.start_soon(host, settings, "model-worker", model, partition, stop)

        tasks.start_soon(_serve_voting, settings, start_worker)
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
            lines = (state / "log" / "up.log").read_text(errors="replace").splitlines()
            why = f": {lines[-1].removeprefix('conclave: ')}" if lines and process.returncode else ""
            raise InstallationError(f"it did not start{why}; see {state / 'log' / 'up.log'}")
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
