"""The worker's core: what each active artifact is asked, and what becomes of its answer.

Pure but for the loader, which it is given. Each vector is answered under its stamp, by the artifacts that were active
in that version of the configuration, whatever commands have been read since. The rows of a batch that share a stamp are
asked together, one call an artifact; since a row's bits are its own, where a batch was cut changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from schemas.codec import Encoded, Envelope, encode
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.predictions import PredictionFailed, PredictionMade
from services.model_worker.inference import Failure, answers
from services.model_worker.members import (
    ActiveArtifacts,
    Loader,
    Member,
    Worker,
    announce,
    enter,
    follow,
    load,
    refresh,
)
from services.model_worker.windows import Milestone, Round, Vectors
from shared.runtime.service import Batch, Received


@dataclass(slots=True)
class State:
    """See the package. ``by_set``: which members answer the vectors of a feature set."""

    roster: ActiveArtifacts = field(default_factory=ActiveArtifacts)
    vectors: Vectors = field(default_factory=Vectors)
    by_set: dict[bytes, list[int]] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Member, ...]:
        """The active artifacts in the order in which they answer."""
        return self.roster.members


class Request(NamedTuple):
    """A window for one member, and where in the outputs its answer goes."""

    at: int
    envelope: Envelope[Any]
    window: bytes


class ModelWorker:
    """One model's worker (``shared.runtime.service.Service``); see ``Worker`` for ``owner`` and ``life``.

    ``ticks``: it looks that often (ms) whether something was loaded in the background; the time
    itself is nothing to it."""

    reads = ("features",)
    follows_control = True
    ticks = 250

    def __init__(self, model: str, loader: Loader, owner: str, life: str) -> None:
        self.group = f"model-worker.{model}"
        self.model = model
        self.worker = Worker(model, owner, life)
        self.loader = loader

    def initial(self, memo: bytes) -> State:
        """Nothing but the entry from which the vectors are read again."""
        state = State()
        if memo:
            state.vectors.milestones = [Milestone(0, msgspec.msgpack.decode(memo, type=str))]
        return state

    def apply(self, state: State, batch: Batch) -> None:
        """See ``Service.apply``. Waits until all that is active is loaded."""
        if batch.control:
            follow(state.roster, self.model, batch.control)
            load(state.roster, self.model, self.loader, starting=True)
        for received in batch.events:
            event = received.envelope.event
            if type(event) is not BarsMissing:
                state.roster.stamp = _stamp(state, event)
                state.vectors.enter(received)
                state.vectors.keep(event)
        refresh(state.roster, self.model, self.loader)
        self._arrange(state)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Announces what was loaded, then answers in the order of the vectors, shadows before the
        champion: the voter closes a round with the last champion's ballot."""
        if batch.control:
            follow(state.roster, self.model, batch.control)
            load(state.roster, self.model, self.loader, starting=False)
        outputs: list[Encoded | None] = []
        if not state.roster.settled:
            outputs += self._settle(state)
        questions: list[list[Request]] = [[] for _ in state.members]
        for received in batch.events:
            envelope = received.envelope
            event = envelope.event
            if type(event) is BarsMissing:
                continue
            closed = state.vectors.enter(received)
            if closed is not None:
                outputs += self._unserved(state, closed)
            stamp = _stamp(state, event)
            if stamp != state.roster.stamp or not state.roster.entered:
                self._answer_all(state, questions, outputs)
                enter(state.roster, self.model, self.loader, stamp)
                outputs += self._settle(state)
                self._arrange(state)
                questions = [[] for _ in state.members]
            state.vectors.keep(event)
            for number in state.by_set.get(event.feature_set, ()):
                member = state.members[number]
                window = state.vectors.window(member, event)
                if isinstance(window, Failure):
                    outputs.append(self._failed(member, envelope, window, stamp))
                else:
                    questions[number].append(Request(len(outputs), envelope, window))
                    outputs.append(None)
        self._answer_all(state, questions, outputs)
        return [output for output in outputs if output is not None]

    def snapshot(self, state: State) -> bytes:
        """The entry from which the vectors are read again."""
        return msgspec.msgpack.encode(state.vectors.anchor())

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Before the first event of the bar in hand, and before the oldest vector that is kept."""
        return {"features": state.vectors.anchor()}

    @property
    def recalls(self) -> tuple[str, ...]:
        """Nothing: it has no memo."""
        return ()

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """See ``shared.runtime.service.Recallable``."""
        return memo

    def reapply(self, state: State, batch: Batch) -> None:
        """See ``shared.runtime.service.Recallable``. Its windows are read again."""
        self.apply(state, batch)

    def _settle(self, state: State) -> list[Encoded]:
        announced = announce(state.roster, self.worker, self.loader)
        if announced:
            self._arrange(state)
        return announced

    def _arrange(self, state: State) -> None:
        state.by_set = {}
        for number, member in enumerate(state.members):
            state.by_set.setdefault(member.feature_set, []).append(number)

    def _unserved(self, state: State, closed: Round) -> Iterator[Encoded]:
        """A failure for each member whose feature set never came for a bar that is over."""
        for member in state.members:
            if member.feature_set not in closed.seen:
                came = ", ".join(sorted(digest.hex()[:12] for digest in closed.seen))
                name, digest = member.registered.feature_set_name, member.registered.feature_set[:12]
                detail = (
                    f"only vectors of {came} came for this bar, none of {name} {digest}; "
                    "does the feature-builder compute it?"
                )
                yield self._failed(member, closed.envelope, Failure("wrong_feature_set", detail), state.roster.stamp)

    def _answer_all(self, state: State, questions: list[list[Request]], outputs: list[Encoded | None]) -> None:
        """Asks each member of the stamp what is to be asked of it, and puts each answer in its place."""
        for member, asks in zip(state.members, questions, strict=True):
            if not asks:
                continue
            assert member.predictor is not None
            found = answers(member.predictor, [ask.window for ask in asks])
            for ask, answer in zip(asks, found, strict=True):
                if isinstance(answer, Failure):
                    outputs[ask.at] = self._failed(member, ask.envelope, answer, state.roster.stamp)
                else:
                    outputs[ask.at] = self._made(member, ask.envelope, answer, state.roster.stamp)

    def _made(self, member: Member, envelope: Envelope[Any], answer: tuple[float, float, float], stamp: int) -> Encoded:
        event = envelope.event
        made = PredictionMade(
            event.symbol,
            event.interval_ms,
            event.open_time,
            event.origin,
            self.model,
            member.digest,
            answer,
            envelope.id,
            stamp,
            event.control_head,
        )
        return _caused(envelope, made)

    def _failed(self, member: Member, envelope: Envelope[Any], failure: Failure, stamp: int) -> Encoded:
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
            stamp,
            event.control_head,
        )
        return _caused(envelope, failed)


def _caused(envelope: Envelope[Any], answer: PredictionMade | PredictionFailed) -> Encoded:
    return encode("predictions", answer, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)


def _stamp(state: State, event: FeaturesComputed | FeaturesWithheld) -> int:
    """The version under which a vector is to be answered. An earlier release wrote no stamps; its vectors are answered
    under what is in force when they are read."""
    return state.roster.control.version if event.control_head is None else event.control_version
