"""Parse what people and programs give as words of the form NAME=VALUE."""

from collections.abc import Iterable


def pairs(words: Iterable[str], expected: str = "NAME=VALUE") -> dict[str, str]:
    """Return the values of NAME=VALUE words by name. Raises ``ValueError``, which names ``expected``."""
    values: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not (name and value):
            raise ValueError(f"{word!r}; expected {expected}")
        if name in values:
            raise ValueError(f"{name} is given twice")
        values[name] = value
    return values
