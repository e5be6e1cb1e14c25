"""Run a job as a child process, and forward the events that it prints."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Final

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from schemas.training import TrainingEvent, TrainingFailed
from services.trainer.task import TASK, FitTask, Task, failed
from shared.processes import module_command
from shared.runtime.process import ONE_THREAD
from shared.settings import VARIABLE, Settings, find

GIB: Final = 2**30
LONGEST_LINE: Final = 2**22
OUTPUT: Final = "output.log"
_decode = msgspec.json.Decoder(TrainingEvent).decode


async def run_child(
    task: Task | FitTask, folder: Path, settings: Settings, emit: Callable[[TrainingEvent], Awaitable[None]]
) -> None:
    """Run a task in ``folder``, which is emptied first, until it ends. ``emit`` is called with each event; the last one
    ends the job, also if the process crashed or the disk is too full to start it. A cancellation kills the process."""
    if (short := too_full(folder, settings.training.free_gb)) is not None:
        await emit(failed(task.id, task.model, "out_of_disk", short))
        return
    try:
        output = _prepared(task, folder)
    except OSError as error:
        await emit(failed(task.id, task.model, "out_of_disk", f"{folder} cannot be written: {error}"))
        return
    with output:
        process = await anyio.open_process(
            module_command("services.trainer.child", str(folder), str(os.getpid())),
            stdin=None,
            stderr=output,
            env={**os.environ, **ONE_THREAD, **({VARIABLE: str(file)} if (file := find()) else {})},
        )
    try:
        ended = await _forward_events(process, emit)
        code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()
    if not ended:
        await emit(_crashed(task, code, folder))


def _prepared(task: Task | FitTask, folder: Path) -> IO[bytes]:
    """Empty the folder of a task, write the task, and return the open file for the output. Raises ``OSError``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TASK).write_bytes(msgspec.json.encode(task))
    return (folder / OUTPUT).open("wb")


async def _forward_events(process: Process, emit: Callable[[TrainingEvent], Awaitable[None]]) -> bool:
    """Emit each event that the process prints. Return whether one of them ends the job."""
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    ended = False
    while True:
        try:
            line = await lines.receive_until(b"\n", LONGEST_LINE)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return ended
        event = _decode(line)
        await emit(event)
        ended = ended or hasattr(event, "seconds") or isinstance(event, TrainingFailed)


def too_full(folder: Path, free_gb: float) -> str | None:
    """Return why a job cannot start if less than ``free_gb`` GiB are free on the disk of ``folder``; None otherwise."""
    existing = next(parent for parent in folder.parents if parent.is_dir())
    free = shutil.disk_usage(existing).free / GIB
    if free >= free_gb:
        return None
    return f"{free:.1f} GiB are free at {existing}, [training] free_gb asks for {free_gb:g}; make room"


def _crashed(task: Task | FitTask, code: int, folder: Path) -> TrainingFailed:
    try:
        lines = (folder / OUTPUT).read_text(errors="replace").strip().splitlines()
    except OSError as error:
        lines = [f"its output cannot be read: {error}"]
    last = lines[-1] if lines else "no output"
    if code == -9:
        detail = f"killed (SIGKILL), as the kernel does when memory runs out; {last}"
        return failed(task.id, task.model, "out_of_memory", detail)
    return failed(task.id, task.model, "crashed", f"ended with code {code}: {last}; see {folder / OUTPUT}")
