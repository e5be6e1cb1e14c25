"""The shell of the model-worker."""

import secrets
import sys
from pathlib import Path
from typing import Final

import anyio

from services.model_worker.core import ModelWorker
from services.model_worker.loading import ThreadLoader
from shared.artifacts import Store
from shared.process import owner, serve
from shared.settings import Settings

SWITCH_S: Final = 0.00005
"""How long the thread that loads may keep the interpreter from the one that answers. Python's own 5 ms
would be waited out at each of a batch's reads and writes."""


def service(model: str, store: Store) -> ModelWorker:
    """The worker of ``model``, loading its artifacts from ``store``."""
    return ModelWorker(model, ThreadLoader(store.load), str(owner(f"model-worker.{model}")), secrets.token_hex(8))


async def run(settings: Settings, model: str, partition: int, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Answers the vectors of one partition with the artifacts of ``model`` until ``stop``."""
    sys.setswitchinterval(SWITCH_S)
    store = Store(Path(settings.installation.state) / "artifacts")
    await serve(service(model, store), settings, partition, stop, take_over=take_over)
