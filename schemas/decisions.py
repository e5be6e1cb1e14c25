"""The ``decisions`` and ``intents`` streams: what the ensemble concluded, and what may be acted on."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import (
    Action,
    DigestHex,
    EventHex,
    IntervalMs,
    Milliseconds,
    Name,
    Origin,
    Probabilities,
    Probability,
    Symbol,
    Text,
)

Count = Annotated[int, Meta(ge=0)]
Name64 = Annotated[str, Meta(min_length=1, max_length=64)]


class CountedBallot(Struct, frozen=True):
    """A member's opinion as it entered the vote. ``effect`` is P(action) with it minus without it;
    ``pivotal`` says that the action would have been another without it."""

    model: Name
    artifact: DigestHex
    event: EventHex
    action: Action
    confidence: Probability
    probabilities: Probabilities
    weight: float
    effect: float
    pivotal: bool


class AbsentMember(Struct, frozen=True):
    """A member that did not vote, and why: its own failure, or silence (``event`` is then null)."""

    model: Name
    artifact: DigestHex
    reason: str
    event: EventHex | None


class ShadowBallot(Struct, frozen=True):
    """What an artifact in shadow said. Recorded; never part of the vote."""

    model: Name
    artifact: DigestHex
    event: EventHex
    action: Action
    probabilities: Probabilities
    shadow: bool = True


IntentStatus = Literal["issued", "hold", "no_quorum", "halted", "stale"]


class DecisionMade(Struct, frozen=True, tag="decision.made"):
    """The decision of one round: one symbol, one bar. A pure function of the ballots it names and
    of the configuration ``control_version``, whose hash is ``control_head``.

    ``control_version`` and ``control_head`` are the stamp of the bar (``schemas.features``).
    ``decided_at`` is the voter's clock for a live bar, since a deadline and the age of an intent depend on it; None
    for any other.

    ``status`` is ``no_quorum`` where too few members voted: ``action`` is then HOLD with
    confidence 0 and no intent is written. ``intent`` says what became of the decision."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    control_version: Count
    control_head: DigestHex
    policy: Name
    status: Literal["decided", "no_quorum"]
    action: Action
    confidence: Probability
    probabilities: Probabilities
    consensus_count: Count
    total_models: Count
    counted: tuple[CountedBallot, ...]
    absent: tuple[AbsentMember, ...]
    shadow: tuple[ShadowBallot, ...]
    closed_by: Literal["complete", "superseded", "deadline"]
    intent: IntentStatus
    decided_at: Milliseconds | None = None


class BallotLate(Struct, frozen=True, tag="ballot.late"):
    """A ballot for a round that had been decided. It changes nothing."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: DigestHex
    event: EventHex


class FenceClosed(Struct, frozen=True, tag="fence.closed"):
    """No intent is written to this partition after this entry, until a ``FenceOpened``: the commit function refuses
    it. ``command_id`` names the command on ``control`` that asked for it, ``by`` who closed it, ``at`` their clock."""

    command_id: Name64
    by: Name64
    reason: Text
    at: Milliseconds


class FenceOpened(Struct, frozen=True, tag="fence.opened"):
    """Intents may be written to this partition again from this entry on. The fields are those of ``FenceClosed``."""

    command_id: Name64
    by: Name64
    reason: Text
    at: Milliseconds


DecisionEvent = DecisionMade | BallotLate | FenceClosed | FenceOpened


class MemberView(Struct, frozen=True, omit_defaults=True):
    """One line of an intent's breakdown, in the words of the executors that read it."""

    action: Action
    confidence: Probability
    model: str
    shadow: bool = False


class IntentIssued(Struct, frozen=True, tag="trade.intent"):
    """What an executor may act on, until ``valid_until`` and only if ``origin`` is what it trades.

    ``decision`` joins a closed trade with its decision later. ``fallback_used`` is false always:
    there is no fallback; the field is kept for executors that read it."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    decision: EventHex
    control_version: Count
    action: Literal["SELL", "BUY"]
    confidence: Probability
    consensus_count: Count
    total_models: Count
    model_breakdown: dict[str, MemberView]
    valid_until: Milliseconds
    fallback_used: bool = False


IntentEvent = IntentIssued
