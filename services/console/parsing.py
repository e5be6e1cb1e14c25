"""Parse arguments: times, and words of the form NAME=VALUE."""

import math
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from services.console.context import login
from shared.commands.words import pairs as parsed

COUNT: Final = click.IntRange(min=0)
POSITIVE: Final = click.IntRange(min=1)


class NumberRange(click.FloatRange):
    """A range of numbers. That of ``click`` has ``nan`` in it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.FloatRange``."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


WEIGHT: Final = NumberRange(0, 1)
SHARE: Final = NumberRange(0, 1, min_open=True, max_open=True)
"""A part of a whole: neither nothing nor all."""


class FilePath(click.Path):
    """The path of a file that exists and ends: not a folder, and not a device such as ``/dev/zero``."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.Path``."""
        path = super().convert(value, param, ctx)
        file = Path(os.fsdecode(path))
        if file.is_char_device() or file.is_block_device():
            self.fail(f"{str(file)!r} is a device, not a file", param, ctx)
        return path


class NewFile(click.Path):
    """The path of a file that a command writes at its end. What keeps it from that is found before its work."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.Path``."""
        path = super().convert(value, param, ctx)
        folder = Path(os.fsdecode(path)).parent
        if not folder.is_dir():
            self.fail(f"no file can be written to {str(folder)!r}: there is no such folder", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"no file can be written to {str(folder)!r}: it is read-only for {login()}", param, ctx)
        return path


def moment_ms(text: str, *, otherwise: str = "") -> int:
    """Return a time (ISO 8601; UTC if it names no zone) in milliseconds.

    ``otherwise``: what else the argument may be, for the error message. Raises ``click.BadParameter``."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        expected = f"{otherwise} or a time" if otherwise else "a time"
        raise click.BadParameter(f"{text!r}: expected {expected} such as 2026-01-31T12:00") from None
    at = int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    if at < 0:
        raise click.BadParameter(f"{text!r}: expected a time from 1970 on")
    return at


def pairs(words: Iterable[str], expected: str = "NAME=VALUE") -> dict[str, str]:
    """Return the values of NAME=VALUE words by name. Raises ``click.BadParameter``, which names ``expected``."""
    try:
        return parsed(words, expected)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def numbers(words: Sequence[str]) -> dict[str, int | float]:
    """Return the numbers of NAME=NUMBER words by name: integers if written without a point. Raises
    ``click.BadParameter``."""
    expected = "NAME=NUMBER, such as epochs=3"
    try:
        return {name: number_of(value) for name, value in pairs(words, expected).items()}
    except ValueError:
        raise click.BadParameter(f"{' '.join(words)!r}; expected {expected}") from None


def parameters(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, int | float]:
    """Return the numbers of NAME=NUMBER words by name: the callback of an option. See ``numbers``."""
    return numbers(given)


def varied(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, list[int | float]]:
    """Return the lists of NAME=NUMBER,NUMBER words by name: the callback of an option."""
    try:
        return {name: [number_of(value) for value in values.split(",")] for name, values in pairs(given).items()}
    except ValueError:
        raise click.BadParameter(f"{' '.join(given)!r}; expected NAME=NUMBER,NUMBER, such as eta=0.03,0.05") from None


def number_of(text: str) -> int | float:
    """Return a number: an integer if it is written without a point. Raises ``ValueError``."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
