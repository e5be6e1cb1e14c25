"""The input of a job's process, and the names of the files in its folder."""

from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from schemas.training import TrainingFailed, TrainingRequested, TrainingStarted
from shared.control.stream import now_ms
from shared.settings import Settings

TASK: Final = "task.json"
STORE: Final = "artifacts"
QUARANTINE: Final = "quarantine"


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """The input of a training process. ``bridge``: how many missing bars in a row the recorded vectors bridge.
    ``rows``: the fewest labelled rows to train on. ``sanity``: as in the training policy. ``champion``: the digest of
    the artifact that the result is compared with."""

    id: str
    request: TrainingRequested
    started: TrainingStarted
    bridge: int
    rows: int
    sanity: str
    champion: str | None = None


def folder_of(settings: Settings, job: str) -> Path:
    """Return the folder of a job."""
    return Path(settings.installation.state) / "training" / job[:12]


def failed(job: str, model: str, reason: Any, detail: str) -> TrainingFailed:
    """Return the event for a job that ended without a result, now. ``reason`` is one of those of ``TrainingFailed``."""
    return TrainingFailed(request=job, model=model, reason=reason, detail=detail[:2000], at=now_ms())
