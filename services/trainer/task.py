"""What the trainer tells the process of a job, and where that leaves what it made."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from schemas.training import TrainingRequested, TrainingStarted
from shared.settings import Settings

TASK: Final = "task.json"
STORE: Final = "artifacts"
QUARANTINE: Final = "quarantine"


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """What a training process is told. ``champion``: the digest of whom the result is compared with; ``bridge``:
    the gap policy of the recorded vectors; ``rows``: fewest labelled rows; ``sanity``: as in the training policy."""

    id: str
    request: TrainingRequested
    started: TrainingStarted
    bridge: int
    rows: int
    sanity: str
    champion: str | None = None


def folder_of(settings: Settings, job: str) -> Path:
    """The folder of a job."""
    return Path(settings.installation.state) / "training" / job[:12]
