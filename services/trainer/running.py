"""A job as a child process: its folder, its limits, its lines, its end."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from schemas.training import TrainingEvent, TrainingFailed
from services.trainer.task import TASK, Task
from shared.control.stream import now_ms
from shared.runtime.process import ONE_THREAD, module_command
from shared.settings import VARIABLE, Settings, find

GIB: Final = 2**30
LONGEST_LINE: Final = 2**22
OUTPUT: Final = "output.log"
_decode = msgspec.json.Decoder(TrainingEvent).decode


async def run_child(
    task: Task, folder: Path, settings: Settings, say: Callable[[TrainingEvent], Awaitable[None]]
) -> None:
    """Runs a task in ``folder``, which is emptied first, to its end; ``say`` is called with each event, the last of
    which ends the job. Cancelled, it ends the process."""
    if (short := too_full(folder, settings.training.free_gb)) is not None:
        await say(_failed(task, "out_of_disk", short))
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / TASK).write_bytes(msgspec.json.encode(task))
    with (folder / OUTPUT).open("wb") as output:
        process = await anyio.open_process(
            module_command("services.trainer.child", str(folder), str(os.getpid())),
            stdin=None,
            stderr=output,
            env={**os.environ, **ONE_THREAD, **({VARIABLE: str(file)} if (file := find()) else {})},
        )
    try:
        ended = await _listen(process, say)
        code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()
    if not ended:
        await say(_crashed(task, code, folder))


async def _listen(process: Process, say: Callable[[TrainingEvent], Awaitable[None]]) -> bool:
    """Whether it said how it ended."""
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    ended = False
    while True:
        try:
            line = await lines.receive_until(b"\n", LONGEST_LINE)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return ended
        event = _decode(line)
        await say(event)
        ended = ended or hasattr(event, "seconds") or isinstance(event, TrainingFailed)


def too_full(folder: Path, free_gb: float) -> str | None:
    """What is wrong with the disk of ``folder``, if there is too little room on it."""
    there = next(one for one in folder.parents if one.exists())
    free = shutil.disk_usage(there).free / GIB
    if free >= free_gb:
        return None
    return f"{free:.1f} GiB are free at {there}, [training] free_gb asks for {free_gb:g}; make room"


def _crashed(task: Task, code: int, folder: Path) -> TrainingFailed:
    words = (folder / OUTPUT).read_text(errors="replace").strip().splitlines()
    said = words[-1] if words else "it said nothing"
    if code == -9:
        return _failed(task, "out_of_memory", f"killed (SIGKILL), as the kernel does when memory runs out; {said}")
    return _failed(task, "crashed", f"ended with code {code}: {said}; see {folder / OUTPUT}")


def _failed(task: Task, reason: str, detail: str) -> TrainingFailed:
    known = {"request": task.id, "model": task.request.model, "reason": reason, "detail": detail[:2000], "at": now_ms()}
    return msgspec.convert(known, TrainingFailed)
