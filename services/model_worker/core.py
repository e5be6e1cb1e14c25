"""The worker's core: predict from each vector with each active artifact. Pure but for the loader, an argument.

The stamp of a vector selects the artifacts: those that were active in that version of the configuration, whatever
commands were read since. The vectors of a batch that share a stamp are predicted together, in one call for each
artifact. A prediction does not depend on the other rows of its call, so how events are cut into batches changes
nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from schemas.codec import Encoded, Envelope, encode
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.predictions import PredictionFailed, PredictionMade
from services.model_worker.inference import Failure, predict_batch
from services.model_worker.members import (
    ActiveArtifacts,
    Loader,
    Member,
    Worker,
    announce,
    follow,
    load,
    refresh,
    switch,
)
from services.model_worker.windows import Milestone, Round, Vectors
from shared.runtime.service import Batch, Received


@dataclass(slots=True)
class State:
    """See the package. ``by_set``: the members that predict from a feature set, by its digest."""

    active: ActiveArtifacts = field(default_factory=ActiveArtifacts)
    vectors: Vectors = field(default_factory=Vectors)
    by_set: dict[bytes, list[int]] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Member, ...]:
        """The active artifacts in the order of their predictions."""
        return self.active.members


class Request(NamedTuple):
    """A window for one member, and the index of its prediction in the outputs."""

    at: int
    envelope: Envelope[Any]
    window: bytes


class ModelWorker:
    """One model's worker (``shared.runtime.service.Service``). See ``Worker`` for ``owner`` and ``life``.

    It does not use the time. ``ticks`` (ms) is how often it checks whether an artifact was loaded in the background."""

    reads = ("features",)
    follows_control = True
    ticks = 250

    def __init__(self, model: str, loader: Loader, owner: str, life: str) -> None:
        self.group = f"model-worker.{model}"
        self.model = model
        self.worker = Worker(model, owner, life)
        self.loader = loader

    def initial(self, snapshot: bytes) -> State:
        """Return an empty state. ``snapshot`` has the entry from which the vectors are read again."""
        state = State()
        if snapshot:
            state.vectors.milestones = [Milestone(0, msgspec.msgpack.decode(snapshot, type=str))]
        return state

    def apply(self, state: State, batch: Batch) -> None:
        """See ``Service.apply``. Waits until all active artifacts are loaded."""
        if batch.control:
            follow(state.active, self.model, batch.control)
            load(state.active, self.model, self.loader, starting=True)
        for received in batch.events:
            event = received.envelope.event
            if type(event) is not BarsMissing:
                state.active.stamp = _stamp(state, event)
                state.vectors.observe(received)
                state.vectors.append(event)
        refresh(state.active, self.model, self.loader)
        self._index(state)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Return announcements of what was loaded, then predictions in the order of the vectors, shadows before the
        champion: the voter closes a round with the last champion's prediction."""
        if batch.control:
            follow(state.active, self.model, batch.control)
            load(state.active, self.model, self.loader, starting=False)
        outputs: list[Encoded | None] = []
        if not state.active.settled:
            outputs += self._announce(state)
        requests: list[list[Request]] = [[] for _ in state.members]
        for received in batch.events:
            envelope = received.envelope
            event = envelope.event
            if type(event) is BarsMissing:
                continue
            closed = state.vectors.observe(received)
            if closed is not None:
                outputs += self._without_vector(state, closed)
            stamp = _stamp(state, event)
            if stamp != state.active.stamp or not state.active.switched:
                self._predict(state, requests, outputs)
                switch(state.active, self.model, self.loader, stamp)
                outputs += self._announce(state)
                self._index(state)
                requests = [[] for _ in state.members]
            state.vectors.append(event)
            for number in state.by_set.get(event.feature_set, ()):
                member = state.members[number]
                window = state.vectors.window(member, event)
                if isinstance(window, Failure):
                    outputs.append(self._failed(member, envelope, window, stamp))
                else:
                    requests[number].append(Request(len(outputs), envelope, window))
                    outputs.append(None)
        self._predict(state, requests, outputs)
        return [output for output in outputs if output is not None]

    def snapshot(self, state: State) -> bytes:
        """Return the entry from which the vectors are read again."""
        return msgspec.msgpack.encode(state.vectors.anchor())

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return the entry before the first event of the current bar and before the oldest vector that is kept."""
        return {"features": state.vectors.anchor()}

    @property
    def recalls(self) -> tuple[str, ...]:
        """None: the snapshot only saves reading."""
        return ()

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """See ``shared.runtime.service.Recallable``."""
        return memo

    def reapply(self, state: State, batch: Batch) -> None:
        """See ``shared.runtime.service.Recallable``. The windows are read again."""
        self.apply(state, batch)

    def _announce(self, state: State) -> list[Encoded]:
        announcements = announce(state.active, self.worker, self.loader)
        if announcements:
            self._index(state)
        return announcements

    def _index(self, state: State) -> None:
        state.by_set = {}
        for number, member in enumerate(state.members):
            state.by_set.setdefault(member.feature_set, []).append(number)

    def _without_vector(self, state: State, closed: Round) -> Iterator[Encoded]:
        """Return a failure for each member whose feature set did not come for a bar that is over."""
        for member in state.members:
            if member.feature_set not in closed.seen:
                came = ", ".join(sorted(digest.hex()[:12] for digest in closed.seen))
                name, digest = member.registered.feature_set_name, member.registered.feature_set[:12]
                detail = (
                    f"only vectors of {came} came for this bar, none of {name} {digest}; "
                    "does the feature-builder compute it?"
                )
                yield self._failed(member, closed.envelope, Failure("wrong_feature_set", detail), state.active.stamp)

    def _predict(self, state: State, requests: list[list[Request]], outputs: list[Encoded | None]) -> None:
        """Predict the windows of each member, and put each prediction into ``outputs``."""
        for member, of_member in zip(state.members, requests, strict=True):
            if not of_member:
                continue
            assert member.predictor is not None
            predictions = predict_batch(member.predictor, [request.window for request in of_member])
            for request, prediction in zip(of_member, predictions, strict=True):
                if isinstance(prediction, Failure):
                    outputs[request.at] = self._failed(member, request.envelope, prediction, state.active.stamp)
                else:
                    outputs[request.at] = self._made(member, request.envelope, prediction, state.active.stamp)

    def _made(
        self, member: Member, envelope: Envelope[Any], probabilities: tuple[float, float, float], stamp: int
    ) -> Encoded:
        event = envelope.event
        made = PredictionMade(
            symbol=event.symbol,
            interval_ms=event.interval_ms,
            open_time=event.open_time,
            origin=event.origin,
            model=self.model,
            artifact=member.digest,
            probabilities=probabilities,
            vector=envelope.id,
            control_version=stamp,
            control_head=event.control_head,
        )
        return _caused(envelope, made)

    def _failed(self, member: Member, envelope: Envelope[Any], failure: Failure, stamp: int) -> Encoded:
        event = envelope.event
        failed = PredictionFailed(
            symbol=event.symbol,
            interval_ms=event.interval_ms,
            open_time=event.open_time,
            origin=event.origin,
            model=self.model,
            artifact=member.digest,
            reason=failure.reason,
            detail=failure.detail,
            vector=envelope.id,
            control_version=stamp,
            control_head=event.control_head,
        )
        return _caused(envelope, failed)


def _caused(envelope: Envelope[Any], event: PredictionMade | PredictionFailed) -> Encoded:
    return encode("predictions", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)


def _stamp(state: State, event: FeaturesComputed | FeaturesWithheld) -> int:
    """Return the version under which to predict from a vector. The vectors of an early release have no stamp: for these
    it is the version in force when they are read."""
    return state.active.control.version if event.control_head is None else event.control_version
