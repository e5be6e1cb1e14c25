"""The one table of streams: who says what to whom, in which bytes, and for how long it is kept.

The runtime subscribes by it, the documents under ``docs/reference`` are generated from it.
"""

import zlib
from typing import Any, Final, Literal, get_args

from msgspec import Struct

from schemas.control import ControlEvent
from schemas.decisions import DecisionEvent, IntentEvent
from schemas.features import FeatureEvent
from schemas.gates import GateEvent
from schemas.market import MarketEvent
from schemas.operations import AlarmEvent, DeadEvent
from schemas.predictions import PredictionEvent
from schemas.readiness import ReadinessEvent
from schemas.scores import ScoreEvent
from schemas.trades import TradeEvent
from schemas.training import TrainingEvent

DAY_MS: Final = 86_400_000

Service = Literal[
    "feed",
    "feature-builder",
    "model-worker",
    "ensemble-voter",
    "shadow-recorder",
    "gate-evaluator",
    "trainer",
    "archiver",
    "guard",
    "watcher",
    "console",
    "executor",
]


class StreamSpec(Struct, frozen=True):
    """One stream. ``retention_ms`` is how long entries must stay readable in Redis before they may
    be trimmed (None: for ever). The archiver trims what is sealed and older, and no group needs."""

    name: str
    codec: Literal["msgpack", "json"]
    events: Any
    writers: tuple[Service, ...]
    readers: tuple[Service, ...]
    partitioned: bool
    retention_ms: int | None
    version: int
    summary: str

    def key(self, partition: int = 0) -> str:
        """The Redis key. All keys of a partition share a hash tag, so one slot of a cluster."""
        return f"conclave:{{p{partition}}}:{self.name}" if self.partitioned else f"conclave:{self.name}"


STREAMS: Final[dict[str, StreamSpec]] = {
    spec.name: spec
    for spec in (
        StreamSpec(
            name="market",
            codec="msgpack",
            events=MarketEvent,
            writers=("feed",),
            readers=("feature-builder", "shadow-recorder", "trainer", "archiver", "console"),
            partitioned=True,
            retention_ms=90 * DAY_MS,
            version=1,
            summary="Closed bars of all symbols, in the order of their close.",
        ),
        StreamSpec(
            name="features",
            codec="msgpack",
            events=FeatureEvent,
            writers=("feature-builder",),
            readers=("model-worker", "shadow-recorder", "gate-evaluator", "trainer", "archiver", "console"),
            partitioned=True,
            retention_ms=90 * DAY_MS,
            version=1,
            summary="One vector for each bar and set, or why there is none; the order of bars and commands.",
        ),
        StreamSpec(
            name="predictions",
            codec="msgpack",
            events=PredictionEvent,
            writers=("model-worker",),
            readers=("ensemble-voter", "shadow-recorder", "archiver", "console"),
            partitioned=True,
            retention_ms=365 * DAY_MS,
            version=1,
            summary="What each artifact, voting or in shadow, said about each bar, or why it did not.",
        ),
        StreamSpec(
            name="decisions",
            codec="json",
            events=DecisionEvent,
            writers=("ensemble-voter", "console"),
            readers=("shadow-recorder", "archiver", "guard", "watcher", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Every decision, HOLD and no_quorum included, with its ballots; where intents were stopped.",
        ),
        StreamSpec(
            name="intents",
            codec="json",
            events=IntentEvent,
            writers=("ensemble-voter",),
            readers=("executor", "archiver", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What an executor may act on. A halt stops it at its source.",
        ),
        StreamSpec(
            name="control",
            codec="json",
            events=ControlEvent,
            writers=("console", "gate-evaluator", "trainer", "guard"),
            readers=(
                "feature-builder",
                "model-worker",
                "ensemble-voter",
                "shadow-recorder",
                "gate-evaluator",
                "trainer",
                "archiver",
                "guard",
                "watcher",
                "console",
            ),
            partitioned=False,
            retention_ms=None,
            version=1,
            summary="Every command that changed the configuration, hash-chained.",
        ),
        StreamSpec(
            name="readiness",
            codec="json",
            events=ReadinessEvent,
            writers=("model-worker",),
            readers=("archiver", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Which artifacts a worker has loaded, verified and warm: what a promotion may rely on.",
        ),
        StreamSpec(
            name="trades",
            codec="json",
            events=TradeEvent,
            writers=("executor",),
            readers=("shadow-recorder", "archiver", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What became of each intent: closed trades, with the decision that they came from.",
        ),
        StreamSpec(
            name="scores",
            codec="msgpack",
            events=ScoreEvent,
            writers=("shadow-recorder",),
            readers=("gate-evaluator", "archiver", "console"),
            partitioned=True,
            retention_ms=365 * DAY_MS,
            version=1,
            summary="Every prediction with its outcome, or why it has none; proof that shadows change nothing.",
        ),
        StreamSpec(
            name="gates",
            codec="json",
            events=GateEvent,
            writers=("gate-evaluator",),
            readers=("gate-evaluator", "trainer", "archiver", "watcher", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Verdicts on candidates, guards over champions, weights by results, and what is due.",
        ),
        StreamSpec(
            name="training",
            codec="json",
            events=TrainingEvent,
            writers=("console", "trainer"),
            readers=("trainer", "archiver", "watcher", "console"),
            partitioned=False,
            retention_ms=None,
            version=1,
            summary="Who asked for a model to be trained, how that went, and what became of it.",
        ),
        StreamSpec(
            name="dead",
            codec="json",
            events=DeadEvent,
            writers=("feed", "feature-builder", "model-worker", "ensemble-voter", "shadow-recorder", "gate-evaluator"),
            readers=("archiver", "watcher", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Input that was refused, with its reason and where it stood.",
        ),
        StreamSpec(
            name="alarms",
            codec="json",
            events=AlarmEvent,
            writers=(
                "feed",
                "feature-builder",
                "model-worker",
                "ensemble-voter",
                "shadow-recorder",
                "gate-evaluator",
                "trainer",
                "archiver",
            ),
            readers=("archiver", "watcher", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What a person should know: gaps, lost groups, a replaced owner.",
        ),
    )
}


def events_of(spec: StreamSpec) -> tuple[Any, ...]:
    """Return the event structs of a stream, in the order of its union."""
    return get_args(spec.events) or (spec.events,)


def partition_of(symbol: str, partitions: int) -> int:
    """The partition that carries ``symbol``: CRC-32 of its UTF-8 bytes modulo the count."""
    return zlib.crc32(symbol.encode()) % partitions
