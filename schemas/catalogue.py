"""The table of streams: their events, encodings, writers, readers and retention.

The runtime subscribes from this table. The documents under ``docs/reference`` are generated from it.
"""

import zlib
from typing import Any, Final, Literal, get_args

from msgspec import Struct

from schemas.access import AccessEvent
from schemas.control import ControlEvent
from schemas.decisions import DecisionEvent, IntentEvent
from schemas.features import FeatureEvent
from schemas.gates import GateEvent
from schemas.market import MarketEvent
from schemas.operations import AlarmEvent, DeadEvent
from schemas.orders import OrdersEvent
from schemas.predictions import PredictionEvent
from schemas.readiness import ReadinessEvent
from schemas.scores import ScoreEvent
from schemas.trades import TradeEvent
from schemas.training import TrainingEvent
from schemas.venue import VenueEvent

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
    "observatory",
    "phone",
]


class StreamSpec(Struct, frozen=True):
    """Describe one stream.

    ``retention_ms`` is how long entries stay readable in Redis before they may be trimmed (None: for ever). The
    archiver trims an entry when it is older than that, is in the archive, and no consumer group still needs it.
    """

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
        """Return the Redis key. All keys of a partition share a hash tag, so they are in one slot of a cluster."""
        return f"conclave:{{p{partition}}}:{self.name}" if self.partitioned else f"conclave:{self.name}"


STREAMS: Final[dict[str, StreamSpec]] = {
    spec.name: spec
    for spec in (
        StreamSpec(
            name="market",
            codec="msgpack",
            events=MarketEvent,
            writers=("feed",),
            readers=(
                "feature-builder",
                "shadow-recorder",
                "trainer",
                "executor",
                "archiver",
                "watcher",
                "observatory",
                "phone",
                "console",
            ),
            partitioned=True,
            retention_ms=90 * DAY_MS,
            version=1,
            summary="Closed bars of all symbols, in the order of their close; copies of references elsewhere; inputs.",
        ),
        StreamSpec(
            name="features",
            codec="msgpack",
            events=FeatureEvent,
            writers=("feature-builder",),
            readers=(
                "model-worker",
                "shadow-recorder",
                "gate-evaluator",
                "trainer",
                "archiver",
                "observatory",
                "console",
            ),
            partitioned=True,
            retention_ms=90 * DAY_MS,
            version=1,
            summary="One vector for each bar and feature set, or why there is none; the order of bars and commands.",
        ),
        StreamSpec(
            name="predictions",
            codec="msgpack",
            events=PredictionEvent,
            writers=("model-worker",),
            readers=("ensemble-voter", "shadow-recorder", "archiver", "observatory", "console"),
            partitioned=True,
            retention_ms=365 * DAY_MS,
            version=1,
            summary="The prediction of each artifact, voting or in shadow, for each bar, or why there is none.",
        ),
        StreamSpec(
            name="decisions",
            codec="json",
            events=DecisionEvent,
            writers=("ensemble-voter", "console", "guard", "observatory", "phone"),
            readers=(
                "shadow-recorder",
                "trainer",
                "executor",
                "archiver",
                "guard",
                "watcher",
                "observatory",
                "phone",
                "console",
            ),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Every decision with its ballots, HOLD and no_quorum included; where intents stop and resume.",
        ),
        StreamSpec(
            name="intents",
            codec="json",
            events=IntentEvent,
            writers=("ensemble-voter",),
            readers=("executor", "archiver", "observatory", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What an executor may act on. During a halt no intents are written.",
        ),
        StreamSpec(
            name="control",
            codec="json",
            events=ControlEvent,
            writers=("console", "gate-evaluator", "trainer", "guard", "observatory", "phone"),
            readers=(
                "feature-builder",
                "model-worker",
                "ensemble-voter",
                "shadow-recorder",
                "gate-evaluator",
                "trainer",
                "executor",
                "archiver",
                "guard",
                "watcher",
                "observatory",
                "phone",
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
            readers=("archiver", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Which artifacts a worker has loaded, verified and warmed up; a promotion may rely on it.",
        ),
        StreamSpec(
            name="orders",
            codec="json",
            events=OrdersEvent,
            writers=("executor",),
            readers=("archiver", "guard", "watcher", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What became of each intent: an order and its fills, or a refusal. Positions are a fold of it.",
        ),
        StreamSpec(
            name="trades",
            codec="json",
            events=TradeEvent,
            writers=("executor",),
            readers=("shadow-recorder", "archiver", "observatory", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Closed trades, each with the decision whose intent it followed.",
        ),
        StreamSpec(
            name="scores",
            codec="msgpack",
            events=ScoreEvent,
            writers=("shadow-recorder",),
            readers=("gate-evaluator", "trainer", "archiver", "watcher", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=365 * DAY_MS,
            version=1,
            summary="Every prediction with its outcome, or why it has none; checks that shadows change no decision.",
        ),
        StreamSpec(
            name="gates",
            codec="json",
            events=GateEvent,
            writers=("gate-evaluator",),
            readers=("gate-evaluator", "trainer", "archiver", "watcher", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Verdicts on candidates, alarms over champions, learned weights, and commands that are due.",
        ),
        StreamSpec(
            name="training",
            codec="json",
            events=TrainingEvent,
            writers=("console", "trainer", "observatory"),
            readers=("trainer", "archiver", "watcher", "observatory", "phone", "console"),
            partitioned=False,
            retention_ms=None,
            version=1,
            summary="Requests for artifacts and stackers, the progress of each job, and its result.",
        ),
        StreamSpec(
            name="dead",
            codec="json",
            events=DeadEvent,
            writers=(
                "feed",
                "feature-builder",
                "model-worker",
                "ensemble-voter",
                "shadow-recorder",
                "gate-evaluator",
                "trainer",
                "executor",
                "console",
                "observatory",
            ),
            readers=("archiver", "watcher", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="Input that was refused, with the reason and where the input was found; what was retried.",
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
                "executor",
                "archiver",
                "phone",
            ),
            readers=("archiver", "watcher", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What a person should know: lost or refused entries, replaced owners, clocks and disks that fail.",
        ),
        StreamSpec(
            name="venue",
            codec="json",
            events=VenueEvent,
            writers=("feed",),
            readers=("trainer", "archiver", "watcher", "observatory", "phone", "console"),
            partitioned=True,
            retention_ms=None,
            version=1,
            summary="What happened at the exchanges: revised bars, holes, interruptions, symbols that stopped, clocks.",
        ),
        StreamSpec(
            name="access",
            codec="json",
            events=AccessEvent,
            writers=("observatory",),
            readers=("archiver", "console"),
            partitioned=False,
            retention_ms=None,
            version=1,
            summary="Who signed in to the observatory and out of it, who was refused, and who retried input.",
        ),
    )
}


def events_of(spec: StreamSpec) -> tuple[Any, ...]:
    """Return the event structs of a stream, in the order of its union."""
    return get_args(spec.events) or (spec.events,)


def partition_of(symbol: str, partitions: int) -> int:
    """Return the partition that carries ``symbol``: CRC-32 of its UTF-8 bytes modulo the number of partitions."""
    return zlib.crc32(symbol.encode()) % partitions
