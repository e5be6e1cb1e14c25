"""The shell of the shadow-recorder."""

from services.shadow_recorder.core import Recorder


def service() -> Recorder:
    """The recorder of one partition."""
    return Recorder()
