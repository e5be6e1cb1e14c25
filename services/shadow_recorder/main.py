"""Make the shadow-recorder of a partition; the runtime hosts it."""

from services.shadow_recorder.core import Recorder


def service() -> Recorder:
    """Return the core of the shadow-recorder."""
    return Recorder()
