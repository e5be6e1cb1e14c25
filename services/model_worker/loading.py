"""Loads artifacts for the core: one at a time, in a thread, so that ballots go on meanwhile."""

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

Outcome = Loaded | Fault

SWITCH_S: Final = 0.00005
"""How long the thread that loads may keep the interpreter from the one that answers. Python's own 5 ms
would be waited out at each of a batch's reads and writes."""
REST: Final = 9
"""After each piece of a load its thread rests so many times as long as the piece took of the processor."""


class Rests:
    """A pause between two pieces of work in a thread: the processor is the ballots' meanwhile."""

    def __init__(self) -> None:
        self._worked = time.thread_time()

    def __call__(self) -> None:
        """Rests for what was worked since the last rest."""
        time.sleep(REST * (time.thread_time() - self._worked))
        self._worked = time.thread_time()


@contextmanager
def yielding() -> Iterator[None]:
    """The interpreter changes hands quickly while this lasts."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


class ThreadLoader:
    """``services.model_worker.members.Loader`` over ``read``, which gives an artifact verified and warm,
    or raises; what it raises becomes the fault's reason. In the background ``read`` is given a pause, to be
    called between two pieces of its work. To be used from one thread."""

    def __init__(self, read: Callable[[str, Pause | None], Predictor]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._under_way: dict[str, Future[Outcome]] = {}
        self._found: dict[str, Outcome] = {}

    def load(self, artifact: str) -> Outcome:
        """See ``Loader.load``. What waits its turn in the background is loaded at once instead."""
        future = self._under_way.pop(artifact, None)
        if future is not None and not future.cancel():
            self._found[artifact] = future.result()
        if not isinstance(self._found.get(artifact), Loaded):
            self._found[artifact] = self._once(artifact)
        return self._found[artifact]

    def request(self, artifact: str) -> None:
        """See ``Loader.request``."""
        if not isinstance(self.outcome(artifact), Loaded) and artifact not in self._under_way:
            self._under_way[artifact] = self._thread.submit(self._beside, artifact)

    def outcome(self, artifact: str) -> Outcome | None:
        """See ``Loader.outcome``."""
        future = self._under_way.get(artifact)
        if future is None:
            return self._found.get(artifact)
        if not future.done():
            return None
        self._found[artifact] = self._under_way.pop(artifact).result()
        return self._found[artifact]

    def forget(self, artifact: str) -> None:
        """See ``Loader.forget``."""
        future = self._under_way.pop(artifact, None)
        if future is not None:
            future.cancel()
        self._found.pop(artifact, None)

    def _beside(self, artifact: str) -> Outcome:
        with yielding():
            return self._once(artifact, Rests())

    def _once(self, artifact: str, pause: Pause | None = None) -> Outcome:
        begun = time.monotonic()
        try:
            predictor = self._read(artifact, pause)
        except Exception as error:
            return Fault(f"{type(error).__name__}: {error}", now_ms())
        return Loaded(predictor, now_ms(), round(1000 * (time.monotonic() - begun)))
