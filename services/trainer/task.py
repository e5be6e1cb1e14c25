"""The input of a job's process, and the names of the files in its folder."""

from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from schemas.common import ENSEMBLE
from schemas.training import StackerRequested, StackerStarted, TrainingFailed, TrainingRequested, TrainingStarted
from shared.control.stream import now_ms
from shared.settings import Settings

TASK: Final = "task.json"
STORE: Final = "artifacts"
QUARANTINE: Final = "quarantine"


class Task(Struct, frozen=True, forbid_unknown_fields=True, tag="model"):
    """The input of a process that trains a model. ``bridge``: how many missing bars in a row the recorded vectors
    bridge. ``rows``: the fewest labelled rows to train on. ``sanity``: as in the training policy. ``champion``: the
    digest of the artifact that the result is compared with."""

    id: str
    request: TrainingRequested
    started: TrainingStarted
    bridge: int
    rows: int
    sanity: str
    champion: str | None = None

    @property
    def model(self) -> str:
        """Return the model that is trained."""
        return self.request.model


class FitTask(Struct, frozen=True, forbid_unknown_fields=True, tag="stacker"):
    """The input of a process that fits a stacker."""

    id: str
    request: StackerRequested
    started: StackerStarted

    @property
    def model(self) -> str:
        """Return the name under which voting policies are judged."""
        return ENSEMBLE


def folder_of(settings: Settings, job: str) -> Path:
    """Return the folder of a job."""
    return Path(settings.installation.state) / "training" / job[:12]


def failed(job: str, model: str, reason: Any, detail: str) -> TrainingFailed:
    """Return the event for a job that ended without a result, now. ``reason`` is one of those of ``TrainingFailed``."""
    return TrainingFailed(request=job, model=model, reason=reason, detail=detail[:2000], at=now_ms())
