"""What a person types as an argument: moments, and words of the form NAME=VALUE."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click


def moment_ms(text: str, *, otherwise: str = "") -> int:
    """Return a time (ISO 8601; UTC where it names no zone) in milliseconds.

    ``otherwise``: what the argument may be instead, for the error. Raises ``click.BadParameter``."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        expected = f"{otherwise} or a time" if otherwise else "a time"
        raise click.BadParameter(f"{text!r}: expected {expected} such as 2026-01-31T12:00") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def pairs(words: Iterable[str], expected: str = "NAME=VALUE") -> dict[str, str]:
    """Return the values of NAME=VALUE words by name. Raises ``click.BadParameter`` with what was ``expected``."""
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not (name and value):
            raise click.BadParameter(f"{word!r}; expected {expected}")
        if name in found:
            raise click.BadParameter(f"{name} is named twice")
        found[name] = value
    return found


def numbers(words: Sequence[str]) -> dict[str, int | float]:
    """Return the numbers of NAME=NUMBER words by name, whole where written so. Raises ``click.BadParameter``."""
    expected = "NAME=NUMBER, as epochs=3"
    try:
        return {name: _number(value) for name, value in pairs(words, expected).items()}
    except ValueError:
        raise click.BadParameter(f"{' '.join(words)!r}; expected {expected}") from None


def parameters(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, int | float]:
    """See ``numbers``: the callback of an option."""
    return numbers(given)


def varied(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, list[int | float]]:
    """Return the numbers of NAME=NUMBER,NUMBER words by name: the callback of an option."""
    try:
        return {name: [_number(value) for value in values.split(",")] for name, values in pairs(given).items()}
    except ValueError:
        raise click.BadParameter(f"{' '.join(given)!r}; expected NAME=NUMBER,NUMBER, as eta=0.03,0.05") from None


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
