"""What is kept of alerts, exchanges, refused input, workers and verdicts, and of the decisions of each version. Pure.

Everything is bounded: the newest are kept.
"""

from typing import Any, Final, TypeVar

from msgspec import UNSET, Struct, field

from schemas.common import Origin
from schemas.decisions import DecisionMade, PolicyVote
from schemas.gates import VerdictReached
from schemas.operations import DeadEvent, DeadLetter, DeadLetterRetried
from schemas.readiness import ArtifactFailed, ArtifactFreed, ArtifactReady, ReadinessEvent
from schemas.venue import (
    BarRevised,
    BarsAbsent,
    ClockMeasured,
    FeedInterrupted,
    FeedWaiting,
    SymbolResumed,
    SymbolStopped,
    VenueEvent,
)
from shared.log.leases import id_order

VERSIONS: Final = 500
"""The newest versions whose decisions are counted."""
OF_VERSION: Final = 10
"""The last decisions of a version that are kept."""
INDEXED: Final = 20_000
"""The newest verdicts and loads whose entries are known by event id."""
VERDICTS: Final = 200
POLICIES: Final = 50
"""The newest voting policies, by partition, whose rounds are counted."""
DIFFERENT: Final = 50
"""The last rounds that are kept of those in which a voting policy in shadow differs."""
LETTERS: Final = 20
STOPPED: Final = 100

K = TypeVar("K")
T = TypeVar("T")


class VersionDecision(Struct, array_like=True, frozen=True):
    """One decision under a version."""

    series: str
    id: str
    open_time: int
    origin: Origin
    action: str
    confidence: float
    intent: str


class VersionDecisions(Struct):
    """The decisions that were made under one version: how many by action and by the fate of their intent, and the last
    ones."""

    actions: dict[str, int] = field(default_factory=dict)
    intents: dict[str, int] = field(default_factory=dict)
    recent: list[VersionDecision] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of decisions."""
        return sum(self.actions.values())


class PolicyRound(Struct, frozen=True):
    """A round whose action a voting policy in shadow would change: the decision (its event id) and its version, and
    what each says, with the confidence of each in its action. ``series`` as in addresses."""

    version: int
    series: str
    decision: str
    open_time: int
    in_force: str
    in_force_confidence: float
    other: str
    other_confidence: float


class PolicyCounts(Struct, array_like=True):
    """Rounds of a voting policy in shadow under one version: all, those in which the action differs, and those in which
    it or the policy in force says BUY or SELL."""

    rounds: int = 0
    differ: int = 0
    acts: int = 0
    in_force_acts: int = 0


class PolicyRounds(Struct):
    """The rounds that a voting policy in shadow decided too, counted by version, and the last that differ."""

    counts: dict[int, PolicyCounts] = field(default_factory=dict)
    last: list[PolicyRound] = field(default_factory=list)


class RecordedVerdict(Struct):
    """The newest verdict on an artifact in one partition: its event id, its entry, and when it was written (ms)."""

    id: str
    entry: str
    at: int
    partition: int
    event: VerdictReached


class WorkerState(Struct):
    """The last report of a worker about an artifact: ``ready``, ``failed`` or ``freed``."""

    model: str
    artifact: str
    partition: int
    state: str
    owner: str
    detail: str = ""
    took_ms: int = 0
    memory_mb: float | None = None


class ExchangeState(Struct):
    """An exchange: whether its clock can be used, its last interruption, the symbols that stopped, and how many bars
    were revised or are missing."""

    usable: bool = True
    offset_ms: int = 0
    cause: str = ""
    began: int = 0
    length_ms: int = 0
    revised: int = 0
    missing: int = 0
    stopped: dict[str, str] = field(default_factory=dict)


class Letter(Struct, array_like=True):
    """A dead letter: when it was written (ms), and its event id, partition and entry. ``retried``: by whom and why its
    input was appended again; empty if it was not."""

    at: int
    service: str
    source: str
    reason: str
    detail: str
    id: str = ""
    partition: int = 0
    entry: str = ""
    retried: str = ""


class DeadLetters(Struct):
    """How many dead letters were read, and the last ones."""

    count: int = 0
    recent: list[Letter] = field(default_factory=list)


def note_version(versions: dict[int, VersionDecisions], series: str, name: str, made: DecisionMade) -> None:
    """Count a decision for its version."""
    version = versions.setdefault(made.control_version, VersionDecisions())
    action = made.action if made.status == "decided" else "no_quorum"
    version.actions[action] = version.actions.get(action, 0) + 1
    version.intents[made.intent] = version.intents.get(made.intent, 0) + 1
    version.recent.append(
        VersionDecision(
            series=series,
            id=name,
            open_time=made.open_time,
            origin=made.origin,
            action=action,
            confidence=made.confidence,
            intent=made.intent,
        )
    )
    del version.recent[:-OF_VERSION]
    if len(versions) > VERSIONS:
        del versions[min(versions)]


def note_policies(
    policies: dict[str, PolicyRounds], partition: int, series: str, name: str, made: DecisionMade
) -> None:
    """Note what each voting policy in shadow would have decided in the round of a decision."""
    for vote in () if made.candidates is UNSET else made.candidates:
        key = f"{vote.policy} {partition}"
        rounds = policies.get(key)
        if rounds is None:
            put_newest(policies, key, rounds := PolicyRounds(), POLICIES)
        _count(rounds, made, vote)
        if vote.action == made.action:
            continue
        rounds.last.append(
            PolicyRound(
                version=made.control_version,
                series=series,
                decision=name,
                open_time=made.open_time,
                in_force=made.action,
                in_force_confidence=made.confidence,
                other=vote.action,
                other_confidence=vote.confidence,
            )
        )
        del rounds.last[:-DIFFERENT]


def _count(rounds: PolicyRounds, made: DecisionMade, vote: PolicyVote) -> None:
    counts = rounds.counts.setdefault(made.control_version, PolicyCounts())
    counts.rounds += 1
    counts.differ += vote.action != made.action
    counts.acts += vote.action != "HOLD"
    counts.in_force_acts += made.action != "HOLD"
    if len(rounds.counts) > VERSIONS:
        del rounds.counts[min(rounds.counts)]


def note_verdict(verdicts: dict[str, RecordedVerdict], verdict: RecordedVerdict) -> None:
    """Keep a verdict in place of an earlier one on the same artifact in the same partition."""
    put_newest(verdicts, f"{verdict.event.artifact} {verdict.partition}", verdict, VERDICTS)


def note_worker(workers: dict[str, WorkerState], partition: int, event: ReadinessEvent) -> None:
    """Keep the last report about an artifact."""
    state, detail = _report_of(event)
    ready = event if isinstance(event, ArtifactReady) else None
    report = WorkerState(
        model=event.model,
        artifact=event.artifact,
        partition=partition,
        state=state,
        owner=event.owner,
        detail=detail,
        took_ms=ready.took_ms if ready is not None else 0,
        memory_mb=ready.memory_mb if ready is not None else None,
    )
    put_newest(workers, f"{event.artifact} {partition}", report, VERDICTS)


def _report_of(event: ReadinessEvent) -> tuple[str, str]:
    match event:
        case ArtifactReady():
            return "ready", ""
        case ArtifactFailed():
            return "failed", event.reason
        case ArtifactFreed():
            return "freed", ""


def note_exchange(exchanges: dict[str, ExchangeState], event: VenueEvent) -> None:
    """Apply what happened at an exchange."""
    exchange = exchanges.setdefault(event.exchange, ExchangeState())
    match event:
        case ClockMeasured():
            exchange.usable, exchange.offset_ms = event.usable, event.offset_ms
        case FeedInterrupted():
            exchange.cause, exchange.began, exchange.length_ms = event.cause, event.began, event.length_ms
        case FeedWaiting():
            exchange.cause, exchange.began, exchange.length_ms = event.cause, event.began, event.at - event.began
        case SymbolStopped():
            put_newest(exchange.stopped, event.symbol, f"{event.reason}: {event.detail}", STOPPED)
        case SymbolResumed():
            exchange.stopped.pop(event.symbol, None)
        case BarRevised():
            exchange.revised += 1
        case BarsAbsent():
            exchange.missing += event.count if event.reason != "no_trades" else 0


def note_letter(letters: DeadLetters, name: str, partition: int, entry: str, event: DeadEvent) -> None:
    """Count a dead letter with the event id ``name``, or note that the input of one was appended again."""
    match event:
        case DeadLetter():
            letters.count += 1
            letters.recent.append(
                Letter(
                    at=id_order(entry)[0],
                    service=event.service,
                    source=event.source[:200],
                    reason=event.reason,
                    detail=event.detail[:200],
                    id=name,
                    partition=partition,
                    entry=entry,
                )
            )
            del letters.recent[:-LETTERS]
        case DeadLetterRetried():
            for letter in letters.recent:
                if letter.id == event.letter:
                    letter.retried = f"by {event.actor}: {event.reason[:200]}"


def put_newest(kept: dict[K, T], key: K, value: T, most: int) -> None:
    """Put a value as the newest under its key, and drop the oldest above ``most``."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


def artifact_of(event: Any) -> str | None:
    """Return the artifact that a training event names; None if it names none."""
    artifact = getattr(event, "artifact", None)
    return artifact if isinstance(artifact, str) and artifact else None
