"""Fold the streams into what the screens show, in bounded memory. Pure.

Alerts are those of the watcher: the same fold of the same events (``services.watcher.core``), so that a page and a
notice never differ. The evidence about models is the fold of the shadow report (``shared.report.fold``), one for each
partition, as verdicts are.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import Struct, field, structs

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from schemas.decisions import BallotLate, DecisionMade
from schemas.gates import VerdictReached
from schemas.market import BarClosed
from schemas.operations import AlarmEvent
from schemas.orders import IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from schemas.readiness import ArtifactReady
from schemas.scores import ScoreEvent
from schemas.venue import BarsAbsent
from services.observatory.jobs import ObservedJob, note_job
from services.observatory.journal import (
    INDEXED,
    DeadLetters,
    ExchangeState,
    PolicyRounds,
    RecordedVerdict,
    VersionDecisions,
    WorkerState,
    artifact_of,
    note_exchange,
    note_letter,
    note_policies,
    note_verdict,
    note_version,
    note_worker,
    put_newest,
)
from services.observatory.series import SeriesState, add_bar, add_decision, add_holes, add_order, name_of
from services.watcher import core as watch
from services.watcher.state import Notice
from services.watcher.state import State as Alerts
from shared.control import State as Control
from shared.gates.policy import DefaultPolicy
from shared.log import GroupView, StreamKey
from shared.log.leases import id_order
from shared.report.fold import Shadows, evolve
from shared.training.fits import Fit

FROM_THE_BEGINNING: Final = ("orders", "gates", "readiness", "training")
"""Streams of few entries, all of which count: positions are a fold of all fills."""
RECENT: Final = ("market", "decisions", "scores", "dead", "alarms", "venue")
"""Streams of which the last days are enough."""
WATCHED: Final = frozenset({"decisions", "orders", "gates", "training", "dead", "alarms", "venue"})
NOTICES: Final = 100
SERIES: Final = 5_000
ARTIFACTS: Final = 100
"""The most artifacts of one partition whose evidence is kept: those with the newest scores."""


class State(Struct):
    """All projections.

    ``verdicts``, ``workers``: by artifact and partition. ``versions``: the decisions under each version. ``index``: the
    entry of a verdict or load by its event id. ``trained``: the last entry of ``training`` about an artifact.
    ``jobs``: the newest training jobs; ``fits``: those of stackers. ``policies``: the rounds of voting policies in
    shadow, by digest and partition. ``read``: how many events of each stream were folded."""

    policy: DefaultPolicy = DefaultPolicy()
    series: dict[str, SeriesState] = field(default_factory=dict)
    evidence: dict[int, Shadows] = field(default_factory=dict)
    verdicts: dict[str, RecordedVerdict] = field(default_factory=dict)
    workers: dict[str, WorkerState] = field(default_factory=dict)
    exchanges: dict[str, ExchangeState] = field(default_factory=dict)
    letters: DeadLetters = field(default_factory=DeadLetters)
    versions: dict[int, VersionDecisions] = field(default_factory=dict)
    alerts: Alerts = field(default_factory=Alerts)
    notices: list[Notice] = field(default_factory=list)
    index: dict[str, str] = field(default_factory=dict)
    trained: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, ObservedJob] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    policies: dict[str, PolicyRounds] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)


_decode: Final = msgspec.msgpack.Decoder(State).decode
_series: Final = msgspec.msgpack.Decoder(SeriesState).decode
LENGTH: Final = 4
"""Bytes before each piece of a snapshot that say how long it is."""


def initial(snapshot: bytes | memoryview = b"", policy: DefaultPolicy | None = None) -> State:
    """Return the state of a snapshot; an empty one without. Raises a decoding error of msgspec."""
    if not snapshot:
        return State(policy=policy or DefaultPolicy())
    first, *others = _split(memoryview(snapshot))
    state = _decode(first)
    for each in map(_series, others):
        state.series[each.name] = each
    return state


def _split(snapshot: memoryview) -> Iterator[memoryview]:
    while len(snapshot):
        end = LENGTH + int.from_bytes(snapshot[:LENGTH])
        if end > len(snapshot):
            raise msgspec.DecodeError(f"a piece of {end} bytes was expected, {len(snapshot)} are left")
        yield snapshot[LENGTH:end]
        snapshot = snapshot[end:]


def snapshot(state: State) -> bytes:
    """Return the state as bytes."""
    return b"".join(pieces(state))


def pieces(state: State) -> Iterator[bytes]:
    """Return the state as bytes, piece by piece. It is the state at this call: events that are applied while pieces
    are taken are in none of them. All of it can be a hundred megabytes, of which a piece is one series."""
    first = msgspec.msgpack.encode(structs.replace(state, series={}))
    copies = [series.copy() for series in state.series.values()]
    return (len(piece).to_bytes(LENGTH) + piece for piece in chain([first], map(msgspec.msgpack.encode, copies)))


def apply(state: State, place: StreamKey, entry: str, envelope: Envelope[Any]) -> str:
    """Apply an event of a stream other than control. Return the name of the series that it changed; '' if none."""
    event, partition, at = envelope.event, place.partition, id_order(entry)[0]
    state.read[place.stream] = state.read.get(place.stream, 0) + 1
    changed = ""
    match place.stream:
        case "market" if isinstance(event, BarClosed):
            series = _series_of(state, event, partition)
            add_bar(series, entry, event)
            changed = series.name
        case "decisions" if isinstance(event, DecisionMade):
            series = _series_of(state, event, partition)
            name = envelope.id.hex()
            add_decision(series, entry, name, event)
            note_version(state.versions, series.name, name, event)
            note_policies(state.policies, partition, series.name, name, event)
            changed = series.name
        case "decisions" if isinstance(event, BallotLate):
            series = _series_of(state, event, partition)
            series.late += 1
        case "orders" if isinstance(event, OrderPlaced | IntentRefused | OrderFilled | OrderEnded):
            series = _series_of(state, event, partition)
            add_order(series, entry, event)
            changed = series.name
        case "scores":
            _score(state, event, partition)
        case "gates" if isinstance(event, VerdictReached):
            name = envelope.id.hex()
            put_newest(state.index, name, f"{partition} {entry}", INDEXED)
            note_verdict(state.verdicts, RecordedVerdict(name, entry, at, partition, event))
        case "readiness":
            if isinstance(event, ArtifactReady):
                put_newest(state.index, envelope.id.hex(), f"{partition} {entry}", INDEXED)
            note_worker(state.workers, partition, event)
        case "training":
            note_job(state.jobs, state.fits, envelope)
            if (artifact := artifact_of(event)) is not None:
                put_newest(state.trained, artifact, entry, INDEXED)
        case "venue":
            note_exchange(state.exchanges, event)
            if isinstance(event, BarsAbsent):
                name = name_of(event.symbol, event.interval_ms, synthetic=False)
                series = state.series.get(name) or _started(state, name, event, partition)
                add_holes(series, event)
                changed = name
        case "dead":
            note_letter(state.letters, envelope.id.hex(), partition, entry, event)
        case _:
            pass
    if place.stream in WATCHED:
        notify(state, watch.observe(state.alerts, event, partition, at))
    return changed


def apply_command(state: State, recorded: CommandRecorded) -> None:
    """Apply an entry of the control stream that counts. All are applied again at each start; old ones do nothing."""
    notify(state, watch.observe_command(state.alerts, recorded))


def check(state: State, now: int, views: Sequence[GroupView], control: Control) -> None:
    """Raise and resolve the alerts about consumer groups and about what is overdue at ``now`` (ms)."""
    notify(state, watch.check(state.alerts, now, views, control))


def check_server(state: State, now: int, error: str, since: int) -> None:
    """Raise or resolve the alert about a server that has failed since ``since`` (ms); an empty ``error``: it
    answers."""
    notify(state, watch.check_server(state.alerts, now, error, since))


def observe_own(state: State, alarm: AlarmEvent, now: int) -> None:
    """Notify of an alarm about this process, which cannot write to ``alarms``."""
    notify(state, watch.observe(state.alerts, alarm, 0, now))


def notify(state: State, notices: Sequence[Notice]) -> None:
    """Keep the newest notices."""
    if notices:
        state.notices += notices
        del state.notices[:-NOTICES]


def _series_of(state: State, event: Any, partition: int) -> SeriesState:
    name = name_of(event.symbol, event.interval_ms, synthetic=event.origin == "synthetic")
    return state.series.get(name) or _started(state, name, event, partition)


def _started(state: State, name: str, event: Any, partition: int) -> SeriesState:
    synthetic = name.endswith(".synthetic")
    series = SeriesState(event.symbol, event.interval_ms, synthetic, partition)
    put_newest(state.series, name, series, SERIES)
    return series


def _score(state: State, event: ScoreEvent, partition: int) -> None:
    shadows = state.evidence.get(partition)
    if shadows is None:
        shadows = state.evidence[partition] = Shadows(state.policy)
    evolve(shadows, event, partition)
    if len(shadows.series) > ARTIFACTS:
        del shadows.series[min(shadows.series, key=lambda name: (shadows.series[name].until, name))]
