"""``conclave``: the entry point of the command line.

Exit codes: 0 done; 1 a check failed; 2 wrong usage, or it cannot run; 3 inconclusive; 75 the server can do it after a
while; 130 interrupted by Ctrl-C.
"""

import functools
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import click

from shared.distribution import version
from shared.settings import VARIABLE, SettingsError, load

MODULES: Final = {
    "run": "run.service",
    "up": "run.installation",
    "down": "run.installation",
    "bars": "bars.commands",
    "feed": "run.feed",
    "train": "training.commands",
    "artifacts": "training.artifacts",
    "import": "training.weights",
    "features": "training.features",
    "status": "run.status",
    "observatory": "run.observatory",
    "found": "control.membership",
    "register": "control.membership",
    "shadow": "evidence.shadow",
    "gates": "evidence.gates",
    "money": "evidence.money",
    "promote": "control.membership",
    "propose": "control.approval",
    "approve": "control.approval",
    "refuse": "control.approval",
    "confirm": "control.membership",
    "rollback": "control.membership",
    "retire": "control.retiring",
    "halt": "control.policy",
    "resume": "control.policy",
    "weights": "control.policy",
    "ladder": "control.policy",
    "policy": "control.policy",
    "vote": "control.vote",
    "keys": "control.keys",
    "issue": "control.issue",
    "verify": "audit.verify",
    "whatif": "research.whatif",
    "proof": "audit.proof",
    "blame": "audit.blame",
    "history": "control.history",
    "diff": "control.history",
    "decisions": "run.decisions",
    "doctor": "run.doctor",
    "groups": "run.status",
    "dead-letters": "run.dead_letters",
    "guard": "run.guard",
    "notify": "run.notify",
    "archive": "run.archive",
    "recover": "run.recover",
    "access": "run.access",
    "prepare": "run.access",
    "demo": "demo.command",
}
"""The module of each command. A module is imported when its command runs, so that the process of a service does not
load what only training needs."""


INTERRUPTED: Final = "interrupted before it was done; what it had recorded by then stays"
"""What is said of a command that Ctrl-C ends."""


class Commands(click.Group):
    """The commands. Each is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which a user needs them."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, or None if there is none."""
        if cmd_name not in MODULES:
            return None
        # "import" is a keyword of Python, and a name has no hyphen.
        name = "import_" if cmd_name == "import" else cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"services.console.{MODULES[cmd_name]}"), name)
        return command


def _show_version(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        click.echo(f"conclave, version {version()}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--settings", "path", type=click.Path(path_type=Path), help="Settings file (default: ./conclave.toml).")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context, path: Path | None) -> None:
    """Run an ensemble of trading-signal models as small services over Redis Streams."""
    if path is not None:
        context.with_resource(_inherited(path))
    context.obj = functools.cache(lambda: load(path))


@contextmanager
def _inherited(path: Path) -> Iterator[None]:
    """Have every process that the command starts use the same settings file, from whatever folder it runs."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def main() -> None:
    """Run the command line. An error that a user can act on, and Ctrl-C, become one message and an exit code."""
    try:
        _main()
    except KeyboardInterrupt:  # while the end of another error was written
        _end(INTERRUPTED, 130)


def _main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may be of another encoding
    for word in sys.argv[1:]:
        if word != word.encode(errors="replace").decode():
            _end(f"{word!r:.200} is not UTF-8; a name of a file that is not can be reached by a link", 2)
    try:
        os.getcwd()
    except OSError as error:
        _end(f"the working folder cannot be used ({error.strerror}): change to another one", 2)
    try:
        code = cli.main(prog_name="conclave", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        _end(INTERRUPTED, 130 if isinstance(error.__cause__ or error, KeyboardInterrupt) else 1)
    except BaseExceptionGroup as error:
        _end_with(_first(error))
    except SettingsError as error:
        _end(error, 2)
    except Exception as error:
        _end_with(error)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _end_with(error: BaseException) -> NoReturn:
    """End with the message and the exit code of an error. Raises the error if it is a bug."""
    from services.console.errors import exit_code, message  # noqa: PLC0415  # slow to import, rarely needed

    if isinstance(error, KeyboardInterrupt):
        _end(INTERRUPTED, 130)
    code = exit_code(error)
    if code is None:
        raise error
    _end(message(error), code)


def _first(error: BaseException) -> BaseException:
    """Return the first error inside the exception groups of concurrent tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(error: BaseException | str, code: int) -> NoReturn:
    from services.console.output import printable  # noqa: PLC0415  # slow to import

    click.echo(printable(f"conclave: {error}", keep="\n"), err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
