from pathlib import Path

import numpy as np

from schemas.codec import encode
from schemas.control import Command, CommandRecorded, Found, Promote, RegisterArtifact
from schemas.features import FeaturesComputed
from services.model_worker.main import service
from shared.artifacts import ArtifactStore
from shared.bars import Bars
from shared.control import EMPTY, fold, propose
from shared.features import SETS
from shared.runtime.process import owner
from shared.runtime.service import Batch, Received
from shared.training.fitting import train

MINUTE = 60_000


def test_a_worker_answers_with_the_artifact_of_its_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, 2001)))
    opened, close = path[:-1].copy(), path[1:].copy()
    high, low = np.maximum(opened, close) * 1.0001, np.minimum(opened, close) / 1.0001
    times = np.arange(2000, dtype=np.int64) * MINUTE
    bars = Bars("AAA", MINUTE, times, opened, high, low, close, rng.lognormal(3, 1, 2000))
    store = ArtifactStore(tmp_path)
    digest = store.save(*train({"AAA": bars}, "logistic", SETS["core-28"], source="toy", horizon=3))
    manifest = store.manifest(digest)

    registered = RegisterArtifact(
        model="logistic",
        artifact=digest,
        family=manifest.family,
        feature_set=manifest.feature_set.digest,
        feature_set_name=manifest.feature_set.name,
        interval_ms=manifest.interval_ms,
        classes=manifest.classes,
        centre=manifest.centre,
        prior=manifest.prior,
    )
    commands: tuple[Command, ...] = (
        Found(1, "the-log-of-tests"),
        registered,
        Promote("logistic", digest, forced=True, weight=1.0),
    )
    state, recorded = EMPTY, []
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=f"c{number}", actor="test", reason="test", at=0)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        recorded.append(encode("control", entry).envelope)

    values = rng.standard_normal(28).astype("<f4")
    event = FeaturesComputed(
        symbol="AAA",
        interval_ms=MINUTE,
        open_time=0,
        origin="synthetic",
        feature_set=SETS["core-28"].digest,
        values=values.tobytes(),
    )
    worker = service("logistic", store)
    asked = Received("features", "1-0", encode("features", event).envelope)
    ready, made = worker.handle(worker.initial(b""), Batch(recorded, [asked]))
    assert ready.envelope.event.artifact == digest
    assert ready.envelope.event.owner == str(owner("model-worker.logistic"))
    expected = store.load(digest).predict(values.reshape(1, 1, 28))[0]
    assert made.envelope.event.probabilities == tuple(expected.tolist())
