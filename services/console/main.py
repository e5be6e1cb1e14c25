"""``conclave``: the entry point, and what its exit codes mean.

0 done; 1 a check failed; 2 wrong usage, or it cannot run; 3 inconclusive.
"""

import functools
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, ParamSpec

import anyio
import click

from shared.artifacts.artifact import ArtifactError
from shared.artifacts.manifest import ManifestError
from shared.commands import RefusedError
from shared.control import ControlError
from shared.embedded import EmbeddedError
from shared.log import FencedError, OwnedError, UnavailableError
from shared.log.fitness import UnfitServerError
from shared.process import InstallationError
from shared.runtime import GapError
from shared.settings import Settings, SettingsError, load

P = ParamSpec("P")

CANNOT_RUN: Final = (
    ArtifactError,
    ControlError,
    EmbeddedError,
    FencedError,
    GapError,
    InstallationError,
    ManifestError,
    OwnedError,
    SettingsError,
    UnavailableError,
    UnfitServerError,
)
FAILED: Final = (RefusedError,)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--settings", "path", type=click.Path(path_type=Path), help="Settings file (default: ./conclave.toml).")
@click.version_option(package_name="conclave")
@click.pass_context
def cli(context: click.Context, path: Path | None) -> None:
    """Runs an ensemble of trading-signal models as small services over Redis Streams."""
    context.obj = functools.cache(lambda: load(path))


def settings_of(context: click.Context) -> Settings:
    """The settings in force, read once, when a command first needs them."""
    found: Settings = context.obj()
    return found


def asynchronous(command: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A click command whose body is a coroutine."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        anyio.run(functools.partial(command, *args, **kwargs))

    return run


def main() -> None:
    """Runs the command line; turns what a person must act on into one message and an exit code."""
    from services.console import demo, observe, operate, running, training  # noqa: PLC0415  # they import cli

    for module in (running, operate, observe, training, demo):
        for command in module.COMMANDS:
            cli.add_command(command)
    try:
        cli()
    except FAILED as error:
        _end(error, 1)
    except CANNOT_RUN as error:
        _end(error, 2)
    except BaseExceptionGroup as group:
        _end(_first(group), 2 if isinstance(_first(group), CANNOT_RUN) else 1)


def _first(error: BaseException) -> BaseException:
    """What really happened, out of the groups that concurrent tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(error: BaseException, code: int) -> None:
    if not isinstance(error, (*CANNOT_RUN, *FAILED)):
        raise error
    click.echo(f"conclave: {error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
