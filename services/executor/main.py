"""Make the executor of a partition; the runtime hosts it."""

from services.executor.core import Executor


def service() -> Executor:
    """Return the core of the executor."""
    return Executor()
