"""The shell of the model-worker."""

import secrets
from pathlib import Path

import anyio

from services.model_worker.core import ModelWorker
from services.model_worker.loading import ThreadLoader
from shared.artifacts import Store
from shared.process import owner, serve
from shared.settings import Settings


def service(model: str, store: Store) -> ModelWorker:
    """The worker of ``model``, loading its artifacts from ``store``."""
    return ModelWorker(model, ThreadLoader(store.load), str(owner(f"model-worker.{model}")), secrets.token_hex(8))


async def run(settings: Settings, model: str, partition: int, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Answers the vectors of one partition with the artifacts of ``model`` until ``stop``."""
    store = Store(Path(settings.installation.state) / "artifacts")
    await serve(service(model, store), settings, partition, stop, take_over=take_over)
