"""``conclave run``: run one service in this process. Only what that service needs is imported: four workers with a
training stack each would not fit on a small machine.

Exit codes for a supervisor: 0 drained, or at the end of its input; 2 it cannot run, and printed why; 75 the server does
not answer, takes no writes or lost its last ones (``services.console.errors``).
"""

import functools
import sys
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, ParamSpec

import anyio
import click

from services.console.context import TRY_AGAIN, settings_of
from services.console.parsing import COUNT, POSITIVE
from shared.distribution import install_command
from shared.log import TruncatedLogError, UnavailableError
from shared.runtime.process import die_with_parent, serve, stop_on_signal
from shared.runtime.service import Service
from shared.settings import PHONE_TOKEN, Settings, SettingsError, phone_token
from shared.telemetry import logs

P = ParamSpec("P")

SERVICES: Final = (
    "feature-builder",
    "model-worker",
    "ensemble-voter",
    "executor",
    "shadow-recorder",
    "gate-evaluator",
    "archiver",
    "trainer",
    "watcher",
    "observatory",
    "phone",
    "feed",
)


NO_PHONE: Final = f"the bot for a phone needs python-telegram-bot: {install_command('phone')}"


def supervised(command: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a click command of a coroutine function, for a supervisor: it ends with one line and ``TRY_AGAIN`` if the
    server does not answer, takes no writes now, or lost its last ones."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        lost = None
        try:
            anyio.run(functools.partial(command, *args, **kwargs), backend_options={"use_uvloop": True})
        except* (UnavailableError, TruncatedLogError) as group:
            lost = next(_leaves(group))
        # Not in the except block: SystemExit raised there would be wrapped in a group and lose its exit code.
        if lost is not None:
            click.echo(f"conclave: {lost}", err=True)
            sys.exit(TRY_AGAIN)

    return run


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option("--model", help="The model that a model-worker serves.")
@click.option(
    "--partition",
    type=COUNT,
    default=0,
    show_default=True,
    help="The partition that the service reads.",
)
@click.option("--take-over", is_flag=True, help="Take the group from a living owner, whose commits are then refused.")
@click.option("--parent", type=POSITIVE, hidden=True, help="End when this process ends.")
@click.pass_context
@supervised
async def run(
    context: click.Context, /, service: str, model: str | None, partition: int, take_over: bool, parent: int | None
) -> None:
    """Run one service in the foreground, until SIGTERM."""
    if parent is not None:
        die_with_parent(parent)
    if (service == "model-worker") != (model is not None):
        raise click.UsageError("a model-worker needs --model; no other service takes it")
    logs.configure(f"{service}.{model}" if model else service)
    await _run(settings_of(context), service, model, partition, take_over=take_over)


async def _run(settings: Settings, service: str, model: str | None, partition: int, *, take_over: bool) -> None:
    async with stop_on_signal() as stop:
        if service == "feed":
            from services.console.run.feed import feed_from_settings  # noqa: PLC0415  # imported where needed

            await feed_from_settings(settings, stop)
        else:
            await host(settings, service, model, partition, stop, take_over=take_over)


async def host(
    settings: Settings, service: str, model: str | None, partition: int, stop: anyio.Event, *, take_over: bool = False
) -> None:
    """Run one service until ``stop``."""
    if service == "gate-evaluator":
        from services.gate_evaluator import main as evaluator  # noqa: PLC0415  # imported where needed

        await evaluator.run(settings, partition, stop, take_over=take_over)
    elif service == "archiver":
        from services.archiver import main as archiver  # noqa: PLC0415  # imported where needed

        await archiver.run(settings, stop, take_over=take_over)
    elif service == "trainer":
        from services.trainer import main as trainer  # noqa: PLC0415  # imported where needed

        await trainer.run(settings, stop, take_over=take_over)
    elif service == "executor":
        from services.executor import main as executor  # noqa: PLC0415  # imported where needed

        await executor.run(settings, partition, stop, take_over=take_over)
    elif service == "watcher":
        from services.watcher import main as watcher  # noqa: PLC0415  # imported where needed

        await watcher.run(settings, stop)
    elif service == "observatory":
        await observatory_of()(settings, stop)
    elif service == "phone":
        await phone_of()(settings, stop)
    else:
        await serve(service_of(service, model, settings), settings, partition, stop, take_over=take_over)


def observatory_of() -> Callable[[Settings, anyio.Event], Coroutine[Any, Any, None]]:
    """Return the function that runs the observatory. Raises ``SettingsError`` if its extra is not installed."""
    if (missing := missing_observatory()) is not None:
        raise SettingsError(missing)
    from services.observatory import main as observatory  # noqa: PLC0415  # imported where needed

    return observatory.run


def missing_observatory() -> str | None:
    """Return why the observatory cannot run, in a sentence; None if what it needs is installed."""
    missing = [name for name in ("litestar", "uvicorn", "argon2") if find_spec(name) is None]
    if not missing:
        return None
    return f"the observatory needs {' and '.join(missing)}: {install_command('observatory')}"


def phone_of() -> Callable[[Settings, anyio.Event], Coroutine[Any, Any, None]]:
    """Return the function that runs the bot for a phone. Raises ``SettingsError`` if its extra is not installed."""
    if find_spec("telegram") is None:
        raise SettingsError(NO_PHONE)
    from services.phone import main as phone  # noqa: PLC0415  # imported where needed

    return phone.run


def missing_phone(settings: Settings) -> str | None:
    """Return why the bot for a phone cannot run, in a sentence; None if it can, or is not configured."""
    if not settings.phone.persons:
        return None
    if find_spec("telegram") is None:
        return NO_PHONE
    try:
        token = phone_token()
    except SettingsError as error:
        return f"the bot for a phone is not started: {error}"
    return None if token else f"the bot for a phone has no token: set ${PHONE_TOKEN}_FILE to the path of its file"


def service_of(service: str, model: str | None, settings: Settings) -> Service[Any]:
    """Return a service. It is imported here, so that each process loads only what it needs. Raises
    ``SettingsError``."""
    match service:
        case "ensemble-voter":
            from services.ensemble_voter import main as voter  # noqa: PLC0415  # imported where needed

            return voter.service()
        case "shadow-recorder":
            from services.shadow_recorder import main as recorder  # noqa: PLC0415  # imported where needed

            return recorder.service()
        case "feature-builder":
            from services.feature_builder import main as builder  # noqa: PLC0415  # imported where needed
            from shared.features.installed import FEATURE_SETS  # noqa: PLC0415  # imported where needed

            names, bridge = settings.features.sets, settings.features.bridge
            if unknown := [name for name in names if name not in FEATURE_SETS]:
                known = ", ".join(FEATURE_SETS)
                raise SettingsError(f"[features] sets: no set {', '.join(unknown)}; there are: {known}")
            return builder.service([FEATURE_SETS[name] for name in names], bridge)
        case _:
            from services.model_worker import main as worker  # noqa: PLC0415  # imported where needed
            from shared.artifacts import ArtifactStore  # noqa: PLC0415  # imported where needed

            assert model is not None
            return worker.service(model, ArtifactStore(Path(settings.installation.state) / "artifacts"))
