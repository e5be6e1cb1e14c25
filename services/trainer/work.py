"""Do the work of a job's process: read the task and the recorded streams, train or fit, and print events.

Each event is one line of JSON. The exit code is 0 if the last event states the result, also if that is a failure.
"""

import sys
from pathlib import Path

import anyio
import msgspec

from schemas.training import TrainingEvent, TrainingRejected
from services.trainer import fit, job
from services.trainer.task import TASK, FitTask, Task, failed
from shared.archive.history import LostError, WholeHistory
from shared.archive.location import open_archive
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
    """Work on the task in ``folder``, and return the exit code."""
    task: Task | FitTask = msgspec.json.decode((folder / TASK).read_bytes(), type=Task | FitTask)
    model = task.model
    try:
        match task:
            case Task():
                job.run(task, folder, anyio.run(recorded, settings, task), _champion(settings, task), _print_event)
            case FitTask():
                fit.run(task, settings, _print_event)
    except UnfitError as error:
        rejected = TrainingRejected(
            request=task.id,
            model=model,
            reason="unfit_data",
            evidence=str(error)[:2000],
            quarantine="",
            seconds=0.0,
            at=now_ms(),
        )
        _print_event(rejected)
    except (LostError, CorruptError, UnavailableError) as error:
        _print_event(failed(task.id, model, "unreadable", str(error)))
    except LibraryMissingError as error:
        _print_event(failed(task.id, model, "crashed", str(error)))
    except OSError as error:
        _print_event(failed(task.id, model, "out_of_disk", f"a file in {folder} cannot be written: {error}"))
    except MemoryError:
        limit = f"it asked for more memory than [training] memory_mb = {settings.training.memory_mb} allows"
        _print_event(failed(task.id, model, "out_of_memory", limit))
    return 0


async def recorded(settings: Settings, task: Task) -> Recorded:
    """Return the data set of a task, read from the server and the archive."""
    async with opened_log(settings, "conclave:trainer:job") as log:
        history = WholeHistory(log, open_archive(settings))
        return await read(history, task.request, task.started, FEATURE_SETS[task.request.recipe.feature_set])


def _champion(settings: Settings, task: Task) -> Artifact | None:
    """Return the artifact that the result is compared with; None if there is none, or it cannot be loaded here."""
    if task.champion is None:
        return None
    try:
        return ArtifactStore(Path(settings.installation.state) / "artifacts").load(task.champion)
    except ArtifactError:
        return None


def _print_event(event: TrainingEvent) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()
