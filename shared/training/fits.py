"""The state of one fit of a stacker, folded from the stream ``training``. Pure."""

from typing import TypeAlias

from msgspec import Struct

from schemas.common import ENSEMBLE
from schemas.training import (
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    TrainingFailed,
    TrainingProgressed,
)

FitEnded: TypeAlias = StackerFitted | StackerRejected | TrainingFailed
FitEvent: TypeAlias = StackerStarted | TrainingProgressed | FitEnded
"""An event of a fit that was requested."""


class Fit(Struct):
    """The state of one fit. ``began``: start times (ms) of its attempts."""

    id: str
    request: StackerRequested
    began: list[int] = []
    started: StackerStarted | None = None
    progress: TrainingProgressed | None = None
    ended: FitEnded | None = None

    @property
    def model(self) -> str:
        """Return the name under which voting policies are judged."""
        return ENSEMBLE

    @property
    def state(self) -> str:
        """Return ``waiting``, ``running``, ``completed``, ``rejected`` or ``failed``."""
        match self.ended:
            case StackerFitted():
                return "completed"
            case StackerRejected():
                return "rejected"
            case TrainingFailed():
                return "failed"
            case None:
                return "running" if self.started is not None else "waiting"

    def apply(self, event: FitEvent) -> None:
        """Apply the next event of this fit, which has not ended."""
        match event:
            case StackerStarted():
                self.began = [*self.began, event.at]
                self.started = event
            case TrainingProgressed():
                self.progress = event
            case StackerFitted() | StackerRejected() | TrainingFailed():
                self.ended = event
