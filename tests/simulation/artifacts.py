"""The models of a simulation, their artifacts, and how they are loaded."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.common import ACTIONS
from schemas.control import Command, Found, Promote, RegisterArtifact, SetVotingPolicy, StartShadow
from services.model_worker.core import ModelWorker
from services.model_worker.members import Fault, Loaded
from shared.features.sets import FeatureSet, feature_set
from shared.voting.pool import PoolRule
from tests.simulation.loop import EPOCH_MS, SimulatedLoop

SET: Final[FeatureSet] = feature_set("tiny", "close", "price_change")
MODELS: Final = ("alpha", "beta")
ARTIFACTS: Final = 3
"""Number of artifacts of each model."""
HOUR: Final = 3_600_000
FIRST_BAR_MS: Final = EPOCH_MS - 1_000 * HOUR
"""The open time of bar 0. All bars are of the past."""
HORIZON: Final = 2
"""Bars until an outcome is known."""
LOG_ID: Final = "log-of-a-simulation"


def artifact_of(model: str, number: int = 0) -> str:
    """Return the digest of an artifact."""
    return (model.encode().hex() + f"{number:02x}" * 32)[:64]


def bar_number(open_time: int) -> int:
    """Return the number of a bar in its series."""
    return (open_time - FIRST_BAR_MS) // HOUR


class Opinion:
    """An artifact whose probabilities are a function of the window and of its name."""

    batch_rows = None
    features = 2

    def __init__(self, artifact: str, interval_ms: int = HOUR) -> None:
        self.feature_set = SET.digest.hex()
        self.interval_ms = interval_ms
        number = int(artifact[-2:], 16)
        self.window = 1 + number % 3
        self._turn = 1.0 + number + len(artifact.rstrip("0")) % 7

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Predictor``."""
        x = windows.astype(np.float64).sum(axis=(1, 2)) * self._turn
        logits = np.stack([np.sin(x), np.cos(x) - 0.5, np.sin(1.7 * x + 1.0)], axis=1) * 1.5
        powers = np.exp(logits)
        found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return found


class Loads:
    """A loader whose background loads take ``background_s`` of a loop's time; without a loop, none."""

    def __init__(self, loop: SimulatedLoop | None = None, background_s: float = 0.0) -> None:
        self._loop = loop
        self._background_s = background_s
        self._due: dict[str, float] = {}
        self._loaded: dict[str, Loaded] = {}

    def load(self, artifact: str) -> Loaded | Fault:
        """See ``Loader``."""
        self._due.pop(artifact, None)
        return self._loaded.setdefault(artifact, Loaded(Opinion(artifact), 0, 0))

    def request(self, artifact: str) -> None:
        """See ``Loader``."""
        if self._loop is None:
            self.load(artifact)
        elif artifact not in self._loaded:
            self._due.setdefault(artifact, self._loop.time() + self._background_s)

    def outcome(self, artifact: str) -> Loaded | Fault | None:
        """See ``Loader``."""
        if self._loop is not None and artifact in self._due and self._due[artifact] <= self._loop.time():
            return self.load(artifact)
        return self._loaded.get(artifact)

    def forget(self, artifact: str) -> None:
        """See ``Loader``."""
        self._due.pop(artifact, None)
        self._loaded.pop(artifact, None)


def worker_of(model: str) -> ModelWorker:
    """Return a worker whose artifacts are all loaded, for a replay."""
    return ModelWorker(model, Loads(), "a replay", "00000000")


def registrations() -> list[Command]:
    """Return the commands that found an installation, and register every artifact."""
    commands: list[Command] = [Found(1, LOG_ID)]
    for model in MODELS:
        commands.extend(
            RegisterArtifact(
                model=model,
                artifact=artifact_of(model, each),
                family="prior",
                feature_set=SET.digest.hex(),
                feature_set_name=SET.name,
                interval_ms=HOUR,
                classes=ACTIONS,
                centre=(-1.1, -1.0, -1.2),
                prior=(0.3, 0.4, 0.3),
                features=SET.names,
                horizon=HORIZON,
                kappa=0.5,
            )
            for each in range(ARTIFACTS)
        )
    return commands


def promotions() -> list[Command]:
    """Return the commands that make a champion of each model, and put another artifact of it in shadow."""
    commands: list[Command] = []
    for number, model in enumerate(MODELS, 1):
        commands.append(Promote(model, artifact_of(model), forced=True, weight=1 / number))
        commands.append(StartShadow(model, artifact_of(model, 1)))
    return [*commands, policy(0.02, 1)]


POOLS: tuple[PoolRule, ...] = ("logpool", "mean", "logmean")


def policy(edge: float, quorum: int, rule: PoolRule = "mean") -> SetVotingPolicy:
    """Return a voting policy under which intents of the past are valid, since the bars are of the past."""
    return SetVotingPolicy(rule=rule, edge=edge, quorum_count=quorum, deadline_ms=1000, valid_ms=10**12)
