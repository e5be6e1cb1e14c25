"""The screen Decision: why, and does it follow? ``chain`` reads the files of artifacts; the rest is pure."""

import array
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import UNSET, Struct

from schemas.codec import UnreadableError, opened
from schemas.common import ENSEMBLE, Action, Probabilities
from schemas.control import RegisterArtifact
from schemas.decisions import DecisionMade
from schemas.features import FeaturesComputed
from schemas.market import BarClosed
from services.observatory.gathering import Gathered
from services.observatory.screens.now import AbsentBallot, Member
from services.observatory.series import OrderPoint, SeriesState, decisions_of, orders_of
from shared.artifacts import ArtifactStore
from shared.audit.blame import links
from shared.audit.configurations import Configurations
from shared.log import StreamKey
from shared.log.leases import id_order

SHORT: Final = 12


class BallotShown(Struct, frozen=True):
    """A counted ballot as recorded: its weight, what the decision would gain or lose without it, and whether the action
    would differ. ``family`` and ``feature_set`` are those of the registration."""

    model: str
    artifact: str
    family: str
    feature_set: str
    action: Action
    confidence: float
    sell: float
    hold: float
    buy: float
    weight: float
    effect: float
    pivotal: bool


class LinkShown(Struct, frozen=True):
    """One link of the chain: what it concerns, whether it was ``checked``, ``failed`` or is ``absent``, a description,
    and where it is recorded."""

    what: str
    outcome: str
    description: str
    where: str


class FeatureShown(Struct, frozen=True):
    """One feature of the vector, and where it lies in the training part: in which of ``parts`` parts of equal mass
    (ten, or fewer if its values repeat), between which edges. ``outer``: in the first or the last, whose outer edge is
    not recorded. ``part`` is 0 if no edges were recorded."""

    name: str
    value: float
    low: float | None
    high: float | None
    part: int
    parts: int
    outer: bool


class VectorShown(Struct, frozen=True):
    """The vector of a member's last bar."""

    model: str
    feature_set: str
    outer: int
    features: tuple[FeatureShown, ...]


class BarShown(Struct, frozen=True):
    """The bar that was decided."""

    open: float
    high: float
    low: float
    close: float
    volume: float


class OrderShown(Struct, frozen=True):
    """What became of the intent."""

    kind: str
    at: int
    side: str
    quantity: float
    price: float
    position: float
    fee: float
    detail: str


class DecisionScreen(Struct, frozen=True):
    """The whole screen. ``outcome``: ``checked`` if every link is, else the worst. ``checked_at``: when the links were
    checked (ms), which took ``took_ms``. ``limited``: streams of which only the part near the decision was read, and
    that lacked something. ``policies``: what the voting policies in shadow would have decided."""

    id: str
    series: str
    symbol: str
    interval_ms: int
    open_time: int
    written_at: int
    origin: str
    version: int
    head: str
    rule: str
    status: str
    action: Action
    confidence: float
    sell: float
    hold: float
    buy: float
    consensus: int
    total: int
    closed_by: str
    intent: str
    bar: BarShown | None
    ballots: tuple[BallotShown, ...]
    shadows: tuple[Member, ...]
    absent: tuple[AbsentBallot, ...]
    vectors: tuple[VectorShown, ...]
    orders: tuple[OrderShown, ...]
    links: tuple[LinkShown, ...]
    outcome: str
    checked_at: int
    took_ms: int
    limited: tuple[str, ...]
    earlier: str | None
    later: str | None
    policies: tuple[Member, ...]


def chain(gathered: Gathered, configurations: Configurations, store: ArtifactStore) -> tuple[LinkShown, ...]:
    """Check every link of a decision, from the decision back to its causes. Reads the files of artifacts."""
    found = links(gathered, configurations, gathered.recorded, store)
    return tuple(LinkShown(link.what, link.outcome, link.description, link.where) for link in found)


def _beside(model: str, artifact: str, action: Action, probabilities: Probabilities) -> Member:
    """Return what was decided beside the vote and not counted."""
    sell, hold, buy = probabilities
    short = artifact[:SHORT]
    return Member(
        model=model, artifact=short, shadow=True, action=action, sell=sell, hold=hold, buy=buy, weight=0.0, effect=0.0
    )


def outcome_of(shown: Sequence[LinkShown]) -> str:
    """Return the worst outcome of the links."""
    outcomes = {link.outcome for link in shown}
    return next((each for each in ("failed", "absent") if each in outcomes), "checked")


def screen(
    gathered: Gathered,
    configurations: Configurations,
    series: SeriesState,
    shown: tuple[LinkShown, ...],
    *,
    checked_at: int,
    took_ms: int,
) -> DecisionScreen:
    """Return the screen of a decision whose links were checked."""
    recorded = gathered.recorded
    made: DecisionMade = recorded.event
    name = recorded.opened.envelope.id.hex()
    configuration = configurations.at(made.control_version)
    registered = dict(configuration.state.artifacts) if configuration is not None else {}
    names = [each.id for each in decisions_of(series)]
    place = names.index(name) if name in names else -1
    return DecisionScreen(
        id=name,
        series=series.name,
        symbol=made.symbol,
        interval_ms=made.interval_ms,
        open_time=made.open_time,
        written_at=id_order(recorded.entry)[0],
        origin=made.origin,
        version=made.control_version,
        head=made.control_head,
        rule=made.policy,
        status=made.status,
        action=made.action,
        confidence=made.confidence,
        sell=made.probabilities[0],
        hold=made.probabilities[1],
        buy=made.probabilities[2],
        consensus=made.consensus_count,
        total=made.total_models,
        closed_by=made.closed_by,
        intent=made.intent,
        bar=_bar(gathered, series),
        ballots=tuple(_ballots(made, registered)),
        shadows=tuple(_beside(each.model, each.artifact, each.action, each.probabilities) for each in made.shadow),
        absent=tuple(AbsentBallot(each.model, each.reason) for each in made.absent),
        vectors=tuple(_vectors(gathered, series, made, registered)),
        orders=tuple(_order(each) for each in orders_of(series) if each.decision == name),
        links=shown,
        outcome=outcome_of(shown),
        checked_at=checked_at,
        took_ms=took_ms,
        limited=tuple(gathered.limited),
        earlier=names[place - 1] if place > 0 else None,
        later=names[place + 1] if 0 <= place < len(names) - 1 else None,
        policies=tuple(
            _beside(ENSEMBLE, each.policy, each.action, each.probabilities)
            for each in (() if made.candidates is UNSET else made.candidates)
        ),
    )


def _ballots(made: DecisionMade, registered: dict[str, RegisterArtifact]) -> Iterator[BallotShown]:
    for ballot in sorted(made.counted, key=lambda each: -each.weight):
        artifact = registered.get(ballot.artifact)
        yield BallotShown(
            model=ballot.model,
            artifact=ballot.artifact,
            family=artifact.family if artifact else "",
            feature_set=artifact.feature_set_name if artifact else "",
            action=ballot.action,
            confidence=ballot.confidence,
            sell=ballot.probabilities[0],
            hold=ballot.probabilities[1],
            buy=ballot.probabilities[2],
            weight=ballot.weight,
            effect=ballot.effect,
            pivotal=ballot.pivotal,
        )


def _bar(gathered: Gathered, series: SeriesState) -> BarShown | None:
    for entry in gathered.entries(StreamKey("market", series.partition)):
        try:
            event = opened("market", entry.data).envelope.event
        except UnreadableError:
            continue
        if isinstance(event, BarClosed):
            return BarShown(event.open, event.high, event.low, event.close, event.volume)
    return None


def _vectors(
    gathered: Gathered, series: SeriesState, made: DecisionMade, registered: dict[str, RegisterArtifact]
) -> Iterator[VectorShown]:
    """Yield the vector of each member whose registration names the features."""
    vectors: dict[str, FeaturesComputed] = {}
    for entry in gathered.entries(StreamKey("features", series.partition)):
        try:
            event = opened("features", entry.data).envelope.event
        except UnreadableError:
            continue
        if isinstance(event, FeaturesComputed):
            vectors[event.feature_set.hex()] = event
    for ballot in made.counted:
        artifact = registered.get(ballot.artifact)
        vector = vectors.get(artifact.feature_set) if artifact is not None else None
        if artifact is not None and vector is not None:
            features = tuple(_features(artifact, values_of(vector.values)))
            outer = sum(each.outer for each in features)
            yield VectorShown(ballot.model, artifact.feature_set_name, outer, features)


def values_of(data: bytes) -> list[float]:
    """Return the values of a vector: little-endian float32."""
    values = array.array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _features(artifact: RegisterArtifact, values: Sequence[float]) -> Iterator[FeatureShown]:
    backtest = artifact.backtest
    for number, (name, value) in enumerate(zip(artifact.features, values, strict=False)):
        edges = backtest.edges[number] if backtest is not None and number < len(backtest.edges) else ()
        if not edges:
            yield FeatureShown(name, value, None, None, 0, 0, False)
            continue
        part = bisect_right(edges, value)
        yield FeatureShown(
            name=name,
            value=value,
            low=edges[part - 1] if part else None,
            high=edges[part] if part < len(edges) else None,
            part=part + 1,
            parts=len(edges) + 1,
            outer=part in {0, len(edges)},
        )


def _order(point: OrderPoint) -> OrderShown:
    return OrderShown(
        kind=point.kind,
        at=id_order(point.entry)[0],
        side=point.side,
        quantity=point.quantity,
        price=point.price,
        position=point.position,
        fee=point.fee,
        detail=point.detail,
    )
