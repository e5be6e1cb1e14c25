"""What every command needs: its settings, and a body that is a coroutine."""

import functools
import getpass
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

import anyio
import click

from shared.settings import Settings

P = ParamSpec("P")
TRY_AGAIN: Final = 75
"""EX_TEMPFAIL of sysexits(3)."""
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""


def settings_of(context: click.Context) -> Settings:
    """Return the settings. They are read once, when the command first needs them."""
    settings: Settings = context.obj()
    return settings


def login() -> str:
    """Return the name under which the user is logged in; its number if no user database knows it, as in a container
    with a user id of its own. A halt must not depend on such a database."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def asynchronous(command: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a click command of a coroutine function."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with _interruptible():
            anyio.run(functools.partial(command, *args, **kwargs))

    return run


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C end the body at once. asyncio would only cancel it, which a body that computes notices when it is
    done. A command that handles the signal itself is not affected."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _seen.clear()
    former = signal.signal(signal.SIGINT, _interrupt)
    try:
        with _interrupt_first():
            yield
    finally:
        signal.signal(signal.SIGINT, former)


_seen: Final = threading.Event()
"""Set by Ctrl-C."""


def _interrupt(*_: object) -> None:
    _seen.set()
    raise KeyboardInterrupt


def check_interrupt() -> None:
    """Raise ``KeyboardInterrupt`` if Ctrl-C was pressed. The first one is lost where a library written in C has called
    back into Python."""
    if _seen.is_set():
        raise KeyboardInterrupt


@contextmanager
def _interrupt_first() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` in place of an error that follows it: a library written in C may lose the interrupt
    in a callback, and then miss what the callback should have done."""
    try:
        yield
    except Exception:
        check_interrupt()
        raise


@contextmanager
def ended_by_interrupt(sentence: str) -> Iterator[None]:
    """Print a sentence at Ctrl-C, and end with the exit code of that signal."""
    try:
        with _interrupt_first():
            yield
    except KeyboardInterrupt:
        click.echo(f"interrupted: {sentence}", err=True)
        raise SystemExit(INTERRUPTED) from None
