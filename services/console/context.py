"""What every command needs: its settings, and a body that is a coroutine."""

import functools
import getpass
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import anyio
import click

from shared.settings import Settings

P = ParamSpec("P")


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
        anyio.run(functools.partial(command, *args, **kwargs))

    return run
