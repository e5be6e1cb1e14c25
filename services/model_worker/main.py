"""Make the model-worker that the console runs."""

import secrets

from services.model_worker.core import ModelWorker
from services.model_worker.loading import ThreadLoader
from shared.artifacts import ArtifactStore
from shared.runtime.process import owner


def service(model: str, store: ArtifactStore) -> ModelWorker:
    """Return the worker of ``model``, which loads its artifacts from ``store``."""
    return ModelWorker(model, ThreadLoader(store.load), str(owner(f"model-worker.{model}")), secrets.token_hex(8))
