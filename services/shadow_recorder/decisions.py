"""Keep the parts of decisions that predictions and trades are joined with."""

from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct, structs

from schemas.codec import Envelope
from schemas.common import Action, Origin, Probabilities
from schemas.decisions import DecisionMade
from shared.log.leases import id_order

RECALLED: Final = 8192
"""Decisions with an intent that are kept for trades."""
MARGIN_MS: Final = 60_000
"""An event is written after the events that it names. Entry ids of two streams may contradict this by up to so many ms:
each stream keeps its own order when the server's clock is set back."""

ArtifactKey = tuple[str, str]
"""A model and an artifact (hex)."""


class ListedBallot(Struct, frozen=True, array_like=True):
    """A ballot that a decision lists. ``probabilities``: None for that of a shadow, where the join does not need
    them."""

    model: str
    artifact: bytes
    event: bytes
    probabilities: Probabilities | None


class JoinedDecision(Struct, frozen=True, array_like=True):
    """The part of a decision that scores are computed from. ``at``: the time (ms) of its entry. ``candidates``: the
    actions by voting policies in shadow, by digest; ``probabilities`` is None where there are none."""

    event: bytes
    at: int
    control_version: int
    action: Action
    ballots: tuple[ListedBallot, ...]
    probabilities: Probabilities | None = None
    candidates: dict[str, Action] = {}

    def lists(self, event: bytes) -> bool:
        """Return whether a prediction was in the round when it closed."""
        return any(ballot.event == event for ballot in self.ballots)

    def counted(self) -> dict[str, Probabilities]:
        """Return the probabilities that entered the vote, by model."""
        return {b.model: b.probabilities for b in self.ballots if b.probabilities is not None}

    def champion(self, model: str) -> tuple[bytes, Probabilities] | None:
        """Return the artifact and the probabilities that were counted for a model."""
        for ballot in self.ballots:
            if ballot.model == model and ballot.probabilities is not None:
                return ballot.artifact, ballot.probabilities
        return None


class KeptDecision(NamedTuple):
    """A decision that predictions may still be joined with: its entry and an encoded ``JoinedDecision``, about 400
    bytes with four voting models."""

    entry: str
    packed: bytes

    def unpacked(self) -> JoinedDecision:
        """Return the part that scores are computed from."""
        return msgspec.msgpack.decode(self.packed, type=JoinedDecision)


def kept(envelope: Envelope[DecisionMade], entry: str) -> KeptDecision:
    """Return the part of a decision that is kept until its bar is complete."""
    decision = envelope.event
    ballots = (
        *(
            ListedBallot(b.model, bytes.fromhex(b.artifact), bytes.fromhex(b.event), b.probabilities)
            for b in decision.counted
        ),
        *(ListedBallot(b.model, bytes.fromhex(b.artifact), bytes.fromhex(b.event), None) for b in decision.shadow),
    )
    joined = JoinedDecision(envelope.id, id_order(entry)[0], decision.control_version, decision.action, ballots)
    if decision.candidates is not UNSET:
        candidates = {vote.policy: vote.action for vote in decision.candidates}
        joined = structs.replace(joined, probabilities=decision.probabilities, candidates=candidates)
    return KeptDecision(entry, msgspec.msgpack.encode(joined))


class Issued(NamedTuple):
    """A decision that an executor may have acted on."""

    entry: str
    symbol: str
    interval_ms: int
    open_time: int
    origin: Origin
    action: Action
    confidence: float
    control_version: int


class IssuedDecisions:
    """The last ``RECALLED`` decisions with an intent, by event id (hex)."""

    def __init__(self) -> None:
        self._issued: OrderedDict[str, Issued] = OrderedDict()

    def add(self, envelope: Envelope[DecisionMade], entry: str) -> None:
        """Keep a decision if an intent followed from it."""
        made = envelope.event
        if made.intent != "issued":
            return
        self._issued.setdefault(
            envelope.id.hex(),
            Issued(
                entry=entry,
                symbol=made.symbol,
                interval_ms=made.interval_ms,
                open_time=made.open_time,
                origin=made.origin,
                action=made.action,
                confidence=made.confidence,
                control_version=made.control_version,
            ),
        )
        while len(self._issued) > RECALLED:
            self._issued.popitem(last=False)

    def find(self, decision: str) -> Issued | None:
        """Return a decision by its event id."""
        return self._issued.get(decision)

    @property
    def oldest(self) -> str | None:
        """The entry of the oldest decision that is kept."""
        return next(iter(self._issued.values())).entry if self._issued else None
