"""Load artifacts for the core, one at a time and in a thread, so that predictions go on meanwhile."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from services.model_worker.inference import Predictor
from services.model_worker.members import Fault, Loaded
from shared.artifacts.artifact import Pause
from shared.control.stream import now_ms
from shared.processes import resident_mb

Outcome = Loaded | Fault

SWITCH_S: Final = 0.00005
"""How long (s) the thread that loads may keep the interpreter from the one that predicts. With Python's default of 5
ms, every read and write of a batch would wait that long."""
REST: Final = 9
"""After each piece of a load, its thread sleeps for this multiple of the piece's processor time."""


class Rests:
    """A pause between two pieces of work in a thread, which leaves the processor to predictions."""

    def __init__(self) -> None:
        self._worked = time.thread_time()

    def __call__(self) -> None:
        """Sleep for ``REST`` times the processor time since the last call."""
        time.sleep(REST * (time.thread_time() - self._worked))
        self._worked = time.thread_time()


@contextmanager
def switching_fast() -> Iterator[None]:
    """Let Python switch between threads after ``SWITCH_S`` while the body runs."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


class ThreadLoader:
    """``services.model_worker.members.Loader`` over ``read``, which returns an artifact verified and warm, or raises.

    The reason of a fault is what ``read`` raised. In the background ``read`` gets a pause, to be called between two
    pieces of its work. All methods must be called from one thread."""

    def __init__(self, read: Callable[[str, Pause | None], Predictor]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._loading: dict[str, Future[Outcome]] = {}
        self._outcomes: dict[str, Outcome] = {}

    def load(self, artifact: str) -> Outcome:
        """See ``Loader.load``. An artifact that waits for its turn in the background is loaded at once instead."""
        future = self._loading.pop(artifact, None)
        if future is not None and not future.cancel():
            self._outcomes[artifact] = future.result()
        if not isinstance(self._outcomes.get(artifact), Loaded):
            self._outcomes[artifact] = self._read_artifact(artifact)
        return self._outcomes[artifact]

    def request(self, artifact: str) -> None:
        """See ``Loader.request``."""
        if not isinstance(self.outcome(artifact), Loaded) and artifact not in self._loading:
            self._loading[artifact] = self._thread.submit(self._in_background, artifact)

    def outcome(self, artifact: str) -> Outcome | None:
        """See ``Loader.outcome``."""
        future = self._loading.get(artifact)
        if future is None:
            return self._outcomes.get(artifact)
        if not future.done():
            return None
        self._outcomes[artifact] = self._loading.pop(artifact).result()
        return self._outcomes[artifact]

    def forget(self, artifact: str) -> None:
        """See ``Loader.forget``."""
        future = self._loading.pop(artifact, None)
        if future is not None:
            future.cancel()
        self._outcomes.pop(artifact, None)

    def _in_background(self, artifact: str) -> Outcome:
        with switching_fast():
            return self._read_artifact(artifact, Rests())

    def _read_artifact(self, artifact: str, pause: Pause | None = None) -> Outcome:
        began = time.monotonic()
        try:
            predictor = self._read(artifact, pause)
        except Exception as error:
            return Fault(f"{type(error).__name__}: {error}", now_ms())
        took_ms = round(1000 * (time.monotonic() - began))
        return Loaded(predictor, now_ms(), took_ms, round(resident_mb(os.getpid()), 1) or None)
