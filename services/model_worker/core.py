"""The worker's core: what each active artifact is asked, and what becomes of its answer.

Pure but for the loader, which it is given. The rows of a batch are asked together, one call an
artifact; since a row's bits are its own, where a batch was cut changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.codec import Envelope, Sealed, seal
from schemas.control import CommandRecorded
from schemas.features import BarsMissing
from schemas.predictions import PredictionFailed, PredictionMade
from services.model_worker.asking import Failure, answers
from services.model_worker.members import Loader, Member, Roster, Worker, follow, settle, summon
from services.model_worker.windows import Round, Vectors
from shared.log import preceding
from shared.log.rules import order
from shared.service import Batch, Received


@dataclass(slots=True)
class State:
    """See the package. ``by_set``: which members answer the vectors of a feature set."""

    roster: Roster = field(default_factory=Roster)
    vectors: Vectors = field(default_factory=Vectors)
    by_set: dict[bytes, list[int]] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Member, ...]:
        """The active artifacts in the order in which they answer."""
        return self.roster.members


class Question(NamedTuple):
    """A window for one member, and where in the outputs its answer goes."""

    at: int
    envelope: Envelope[Any]
    window: bytes


class ModelWorker:
    """One model's worker (``shared.service.Service``); see ``Worker`` for ``owner`` and ``life``.

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

    def begin(self, memo: bytes) -> State:
        """Empty: everything is read again."""
        return State()

    def absorb(self, state: State, batch: Batch) -> None:
        """See ``Service.absorb``. Waits until all that is active is loaded."""
        self._configure(state, batch.control, starting=True)
        for received in batch.events:
            if type(received.envelope.event) is not BarsMissing:
                state.vectors.enter(received)
                state.vectors.keep(received)

    def handle(self, state: State, batch: Batch) -> Sequence[Sealed]:
        """Announces what was loaded, then answers in the order of the vectors, shadows before the
        champion: the voter closes a round with the last champion's ballot."""
        self._configure(state, batch.control, starting=False)
        outputs: list[Sealed | None] = []
        if not state.roster.settled:
            outputs += self._settle(state)
        questions: list[list[Question]] = [[] for _ in state.members]
        for received in batch.events:
            envelope = received.envelope
            event = envelope.event
            if type(event) is BarsMissing:
                continue
            closed = state.vectors.enter(received)
            if closed is not None:
                outputs += self._unserved(state, closed)
            asked = state.by_set.get(event.feature_set)
            if asked is None:
                continue
            state.vectors.keep(received)
            for number in asked:
                member = state.members[number]
                window = state.vectors.window(member, event)
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
        entries = list(state.vectors.oldest())
        return {"features": preceding(min(entries, key=order))} if entries else {}

    @property
    def recalls(self) -> tuple[str, ...]:
        """Nothing: it has no memo."""
        return ()

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """See ``shared.service.Recallable``."""
        return memo

    def again(self, state: State, batch: Batch) -> None:
        """See ``shared.service.Recallable``. Its windows are read again."""
        self.absorb(state, batch)

    def _configure(self, state: State, control: Sequence[Envelope[CommandRecorded]], *, starting: bool) -> None:
        if not control:
            return
        follow(state.roster, self.model, control)
        summon(state.roster, self.model, self.loader, starting=starting)
        self._arrange(state)

    def _settle(self, state: State) -> list[Sealed]:
        announced = settle(state.roster, self.worker, self.loader)
        if announced:
            self._arrange(state)
        return announced

    def _arrange(self, state: State) -> None:
        state.by_set = {}
        for number, member in enumerate(state.members):
            state.by_set.setdefault(member.feature_set, []).append(number)
        state.vectors.dig(state.members)

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
        version = state.roster.control.version
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
            state.roster.control.version,
        )
        return seal(
            "predictions", failed, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags
        )
