"""The worker's core: which artifacts are active, what each is asked, and what becomes of its answer.

Pure but for ``load``, which it is given. The rows of a batch are asked together, one call an
artifact; since a row's bits are its own, where a batch was cut changes nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from schemas.codec import Envelope, Sealed, seal
from schemas.control import CommandRecorded, RegisterArtifact
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.predictions import PredictionFailed, PredictionMade
from services.model_worker.asking import Failure, Predictor, answers
from shared.control import EMPTY, Model, fold
from shared.control import State as Control
from shared.service import Batch, Received

STALE_BARS: Final = 16
"""A symbol's window is dropped when the stream is this many bars past it: it is broken anyway."""
_LAST_SEQUENCE: Final = 2**64 - 1


class Member(NamedTuple):
    """An active artifact: by digest (hexadecimal and bytes), what it was registered for, and itself,
    or why it is not loaded."""

    artifact: str
    digest: bytes
    feature_set: bytes
    registered: RegisterArtifact
    predictor: Predictor | None
    fault: str


class Kept(NamedTuple):
    """A vector that a later window needs."""

    entry: str
    open_time: int
    values: bytes


class Round:
    """The bar in hand: its first event, and the feature sets it has shown."""

    __slots__ = ("entry", "envelope", "interval_ms", "open_time", "seen", "symbol")

    def __init__(self, received: Received) -> None:
        event = received.envelope.event
        self.entry = received.entry
        self.envelope = received.envelope
        self.symbol: str = event.symbol
        self.interval_ms: int = event.interval_ms
        self.open_time: int = event.open_time
        self.seen: set[bytes] = set()


Series = tuple[bytes, int, str]
"""Feature set, interval, symbol."""


@dataclass(slots=True)
class State:
    """See the package. ``loaded`` also keeps artifacts that were active before, warm for a rollback.
    ``depth`` is the longest window asked of a (feature set, interval), where longer than one."""

    control: Control = EMPTY
    members: tuple[Member, ...] = ()
    by_set: dict[bytes, list[int]] = field(default_factory=dict)
    depth: dict[tuple[bytes, int], int] = field(default_factory=dict)
    loaded: dict[str, Predictor] = field(default_factory=dict)
    round: Round | None = None
    kept: dict[Series, deque[Kept]] = field(default_factory=dict)


class Question(NamedTuple):
    """A window for one member, and where in the outputs its answer goes."""

    at: int
    envelope: Envelope[Any]
    window: bytes


class ModelWorker:
    """One model's worker (``shared.service.Service``). ``load`` turns an artifact's digest into the
    artifact, verified and warm, or raises; what it raises becomes the reason of ``not_loaded``."""

    reads = ("features",)
    follows_control = True
    ticks = 0

    def __init__(self, model: str, load: Callable[[str], Predictor]) -> None:
        self.group = f"model-worker.{model}"
        self.model = model
        self._load = load

    def begin(self, memo: bytes) -> State:
        """Empty: everything is read again."""
        return State()

    def absorb(self, state: State, batch: Batch) -> None:
        """See ``Service.absorb``."""
        self._configure(state, batch.control)
        for received in batch.events:
            if type(received.envelope.event) is not BarsMissing:
                _enter(state, received)
                _keep(state, received)

    def handle(self, state: State, batch: Batch) -> Sequence[Sealed]:
        """Answers in the order of the vectors, champion first, then shadows."""
        self._configure(state, batch.control)
        outputs: list[Sealed | None] = []
        questions: list[list[Question]] = [[] for _ in state.members]
        for received in batch.events:
            envelope = received.envelope
            event = envelope.event
            if type(event) is BarsMissing:
                continue
            closed = _enter(state, received)
            if closed is not None:
                outputs += self._unserved(state, closed)
            asked = state.by_set.get(event.feature_set)
            if asked is None:
                continue
            _keep(state, received)
            for number in asked:
                member = state.members[number]
                window = _window(state, member, event)
                if isinstance(window, Failure):
                    outputs.append(self._failed(state, member, envelope, window))
                else:
                    questions[number].append(Question(len(outputs), envelope, window))
                    outputs.append(None)
        for member, asks in zip(state.members, questions, strict=True):
            if asks:
                self._answer(state, member, asks, outputs)
        return [output for output in outputs if output is not None]

    def memo(self, state: State) -> bytes:
        """Nothing."""
        return b""

    def since(self, state: State) -> Mapping[str, str]:
        """Before the first event of the bar in hand, or of the oldest window that is being kept."""
        if state.round is None:
            return {}
        entries = [state.round.entry, *(vectors[0].entry for vectors in state.kept.values())]
        return {"features": _before(min(map(_parsed, entries)))}

    def _configure(self, state: State, control: Sequence[Envelope[CommandRecorded]]) -> None:
        """Folds commands and makes the members what the last of them says. Failed loads are tried again."""
        if not control:
            return
        for envelope in control:
            state.control = fold(state.control, envelope.event)
        model = state.control.models.get(self.model, Model())
        active = (*((model.champion,) if model.champion else ()), *model.shadows)
        state.members = tuple(self._member(state, artifact) for artifact in active)
        state.by_set, state.depth = {}, {}
        for number, member in enumerate(state.members):
            state.by_set.setdefault(member.feature_set, []).append(number)
            if member.predictor is not None and member.predictor.window > 1:
                key = (member.feature_set, member.predictor.interval_ms)
                state.depth[key] = max(state.depth.get(key, 1), member.predictor.window)
        state.kept = {series: kept for series, kept in state.kept.items() if series[:2] in state.depth}

    def _member(self, state: State, artifact: str) -> Member:
        registered = state.control.artifacts[artifact]
        predictor, fault = state.loaded.get(artifact), ""
        if predictor is None:
            try:
                predictor = self._load(artifact)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
            else:
                found, said = (
                    (predictor.feature_set, predictor.interval_ms),
                    (registered.feature_set, registered.interval_ms),
                )
                if found == said:
                    state.loaded[artifact] = predictor
                else:
                    predictor, fault = (
                        None,
                        f"registered for feature set and interval {said}, its manifest says {found}",
                    )
        return Member(
            artifact, bytes.fromhex(artifact), bytes.fromhex(registered.feature_set), registered, predictor, fault
        )

    def _unserved(self, state: State, closed: Round) -> Iterator[Sealed]:
        """A failure for each member whose feature set never came for a bar that is over."""
        for member in state.members:
            if member.feature_set not in closed.seen:
                came = ", ".join(sorted(digest.hex()[:12] for digest in closed.seen))
                name, digest = member.registered.feature_set_name, member.registered.feature_set[:12]
                detail = (
                    f"only vectors of {came} came for this bar, none of {name} {digest}; "
                    "does the feature-builder compute it?"
                )
                yield self._failed(state, member, closed.envelope, Failure("wrong_feature_set", detail))

    def _answer(self, state: State, member: Member, asks: list[Question], outputs: list[Sealed | None]) -> None:
        assert member.predictor is not None
        version = state.control.version
        found = answers(member.predictor, [ask.window for ask in asks])
        for ask, answer in zip(asks, found, strict=True):
            if isinstance(answer, Failure):
                outputs[ask.at] = self._failed(state, member, ask.envelope, answer)
                continue
            envelope = ask.envelope
            event = envelope.event
            outputs[ask.at] = seal(
                "predictions",
                PredictionMade(
                    event.symbol,
                    event.interval_ms,
                    event.open_time,
                    event.origin,
                    self.model,
                    member.digest,
                    answer,
                    envelope.id,
                    version,
                ),
                causation=envelope.id,
                correlation=envelope.correlation,
                flags=envelope.flags,
            )

    def _failed(self, state: State, member: Member, envelope: Envelope[Any], failure: Failure) -> Sealed:
        event = envelope.event
        failed = PredictionFailed(
            event.symbol,
            event.interval_ms,
            event.open_time,
            event.origin,
            self.model,
            member.digest,
            failure.reason,
            failure.detail,
            envelope.id,
            state.control.version,
        )
        return seal(
            "predictions", failed, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags
        )


def _enter(state: State, received: Received) -> Round | None:
    """Notes the event's feature set under its bar; the bar before, where this one begins another."""
    event = received.envelope.event
    current, closed = state.round, None
    if (
        current is None
        or current.open_time != event.open_time
        or current.symbol != event.symbol
        or current.interval_ms != event.interval_ms
    ):
        closed = current
        current = state.round = Round(received)
    current.seen.add(event.feature_set)
    return closed


def _keep(state: State, received: Received) -> None:
    """Appends a vector to its symbol's window, where a window of more than one vector is asked for."""
    event = received.envelope.event
    depth = state.depth.get((event.feature_set, event.interval_ms))
    if depth is None or type(event) is not FeaturesComputed:
        return
    series = (event.feature_set, event.interval_ms, event.symbol)
    kept = state.kept.pop(series, None)
    if kept is None or kept.maxlen != depth:
        kept = deque(kept or (), maxlen=depth)
    if kept and kept[-1].open_time + event.interval_ms != event.open_time:
        kept.clear()
    kept.append(Kept(received.entry, event.open_time, event.values))
    state.kept[series] = kept
    oldest = next(iter(state.kept))
    if state.kept[oldest][-1].open_time + STALE_BARS * oldest[1] < event.open_time:
        del state.kept[oldest]


def _window(state: State, member: Member, event: FeaturesComputed | FeaturesWithheld) -> bytes | Failure:
    """The bytes of what ``member`` is to be asked about this bar, or why it cannot be asked."""
    registered, predictor = member.registered, member.predictor
    if predictor is None:
        return Failure("not_loaded", member.fault)
    if event.interval_ms != registered.interval_ms:
        return Failure(
            "wrong_interval", f"trained on bars of {registered.interval_ms} ms, this one has {event.interval_ms} ms"
        )
    if isinstance(event, FeaturesWithheld):
        return Failure(
            "features_withheld", f"{event.reason}: have {event.have} of {event.need} bars {event.detail}".rstrip()
        )
    window = event.values
    if predictor.window > 1:
        kept = state.kept[event.feature_set, event.interval_ms, event.symbol]
        if len(kept) < predictor.window:
            return Failure("features_withheld", f"window: have {len(kept)} of {predictor.window} successive vectors")
        window = b"".join(vector.values for vector in list(kept)[-predictor.window :])
    if len(window) != 4 * predictor.features * predictor.window:
        return Failure(
            "bad_vector",
            f"{len(window)} bytes, expected {predictor.window} x {predictor.features} values of 4 bytes",
        )
    return window


def _parsed(entry: str) -> tuple[int, int]:
    moment, _, sequence = entry.partition("-")
    return int(moment), int(sequence)


def _before(entry: tuple[int, int]) -> str:
    """The greatest id below ``entry``."""
    moment, sequence = entry
    return f"{moment}-{sequence - 1}" if sequence else f"{moment - 1}-{_LAST_SEQUENCE}"
