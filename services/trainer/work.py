"""What the process of a job does: reads the task and the recorded streams, trains, and prints events.

A line of JSON for each event. It ends with 0 whatever came of the job, as long as it said what.
"""

import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec

from schemas.training import TrainingEvent, TrainingFailed, TrainingRejected
from services.trainer import job
from services.trainer.task import TASK, Task
from shared.archive.history import LostError, WholeHistory
from shared.archive.past import past_of
from shared.archive.sealed import CorruptError
from shared.artifacts.artifact import Artifact, ArtifactError
from shared.artifacts.store import ArtifactStore
from shared.control.stream import now_ms
from shared.families.libraries import LibraryMissingError
from shared.features.installed import FEATURE_SETS
from shared.log import UnavailableError
from shared.runtime.process import opened_log
from shared.settings import Settings
from shared.training.recorded import Recorded, UnfitError, read


def work(folder: Path, settings: Settings) -> int:
    """The task in ``folder``."""
    task = msgspec.json.decode((folder / TASK).read_bytes(), type=Task)
    of: dict[str, Any] = {"request": task.id, "model": task.request.model}
    try:
        job.run(task, folder, anyio.run(recorded, settings, task), _champion(settings, task), _say)
    except UnfitError as error:
        nothing: dict[str, Any] = {"evidence": str(error)[:2000], "quarantine": "", "seconds": 0.0}
        _say(TrainingRejected(**of, **nothing, reason="unfit_data", at=now_ms()))
    except (LostError, CorruptError, UnavailableError) as error:
        _say(TrainingFailed(**of, reason="unreadable", detail=str(error)[:2000], at=now_ms()))
    except LibraryMissingError as error:
        _say(TrainingFailed(**of, reason="crashed", detail=str(error), at=now_ms()))
    except MemoryError:
        limit = f"it asked for more than [training] memory_mb = {settings.training.memory_mb} allows"
        _say(TrainingFailed(**of, reason="out_of_memory", detail=limit, at=now_ms()))
    return 0


async def recorded(settings: Settings, task: Task) -> Recorded:
    """The data set of a task, from the server and the archive."""
    async with opened_log(settings, "conclave:trainer:job") as log:
        history = WholeHistory(log, past_of(settings))
        return await read(history, task.request, task.started, FEATURE_SETS[task.request.recipe.feature_set])


def _champion(settings: Settings, task: Task) -> Artifact | None:
    """Whom the result is compared with; none where it cannot be loaded here."""
    if task.champion is None:
        return None
    try:
        return ArtifactStore(Path(settings.installation.state) / "artifacts").load(task.champion)
    except ArtifactError:
        return None


def _say(event: TrainingEvent) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()
