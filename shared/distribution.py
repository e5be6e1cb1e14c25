"""The installed distribution: its name, its version, and the command that installs one of its extras.

The command is ``conclave``; the distribution ``conclave`` on the public index is another project. The installed
distribution is found by its command, so that messages are also right for a fork with another name.
"""

from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points
from typing import Final

NAME: Final = "conclave-signals"
"""The name in ``pyproject.toml``."""
COMMAND: Final = "conclave_signals:main"


@cache
def _installed() -> Distribution | None:
    try:
        return distribution(NAME)
    except PackageNotFoundError:
        commands = entry_points(group="console_scripts", name="conclave")
        return next((each.dist for each in commands if each.value == COMMAND), None)


def version() -> str:
    """Return the installed version; ``unknown`` in a tree that is not installed."""
    installed = _installed()
    return installed.version if installed else "unknown"


def install_command(extra: str) -> str:
    """Return the command that installs an extra: ``pip install 'conclave-signals[trees]'``."""
    installed = _installed()
    return f"pip install '{installed.name if installed else NAME}[{extra}]'"
