"""The ``decisions`` and ``intents`` streams: what the ensemble decided, and what an executor may act on."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

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
    """A member's prediction as it was counted in the vote. ``effect`` is P(action) with it minus P(action) without
    it. ``pivotal``: whether the action would differ without it."""

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
    """A member that did not vote, and why: its prediction failed, or there was none (``event`` is then null)."""

    model: Name
    artifact: DigestHex
    reason: str
    event: EventHex | None


class ShadowBallot(Struct, frozen=True):
    """The prediction of an artifact in shadow. It is recorded and never counted."""

    model: Name
    artifact: DigestHex
    event: EventHex
    action: Action
    probabilities: Probabilities
    shadow: bool = True


class PolicyVote(Struct, frozen=True):
    """The decision of the same round by a voting policy in shadow, from the same counted ballots. It is recorded and
    has no effect. ``policy``: its digest (``shared.control.policies``). ``rule``: the rule that gave the result."""

    policy: DigestHex
    rule: Name
    status: Literal["decided", "no_quorum"]
    action: Action
    confidence: Probability
    probabilities: Probabilities


IntentStatus = Literal["issued", "hold", "no_quorum", "halted", "stale"]


class DecisionMade(Struct, frozen=True, tag="decision.made"):
    """The decision of one round, for one bar of one symbol. It is a pure function of the ballots that it lists and of
    the configuration.

    ``control_version`` and ``control_head`` identify the configuration: they are the stamp of the bar
    (``schemas.features``). ``decided_at`` is the server's time for a live bar, on which the age of an intent depends,
    and None for any other bar. It never falls along a partition. A round that was closed by its deadline also has
    ``opened_at``, the server's time when it was opened, and ``waited_ms``, how long it was open by a clock that is
    never set: the deadline follows from them (``shared.voting.deadline``). Earlier releases left them out.
    ``status`` is ``no_quorum`` if too few members voted; ``action`` is then HOLD with confidence 0, and no intent is
    written. ``intent`` says whether an intent was issued, and why not. ``policy`` is the rule that gave the result: for
    a ``stacker`` that lacks a ballot, that of its pool. ``candidates``: left out while no voting policy is in
    shadow."""

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
    opened_at: Milliseconds | UnsetType = UNSET
    waited_ms: Count | UnsetType = UNSET
    candidates: tuple[PolicyVote, ...] | UnsetType = UNSET


class BallotLate(Struct, frozen=True, tag="ballot.late"):
    """A ballot arrived after its round was decided. It changes nothing."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: DigestHex
    event: EventHex


class FenceClosed(Struct, frozen=True, tag="fence.closed"):
    """Intents to this partition are refused from this entry until a ``FenceOpened``, by the commit function.
    ``command_id`` is the command on ``control`` that asked for it, ``by`` the actor, ``at`` the actor's clock."""

    command_id: Name64
    by: Name64
    reason: Text
    at: Milliseconds


class FenceOpened(Struct, frozen=True, tag="fence.opened"):
    """Intents to this partition are accepted again from this entry on. The fields are those of ``FenceClosed``."""

    command_id: Name64
    by: Name64
    reason: Text
    at: Milliseconds


DecisionEvent = DecisionMade | BallotLate | FenceClosed | FenceOpened


class MemberView(Struct, frozen=True, omit_defaults=True):
    """One ballot in an intent's breakdown, with the field names that executors expect."""

    action: Action
    confidence: Probability
    model: str
    shadow: bool = False


class IntentIssued(Struct, frozen=True, tag="trade.intent"):
    """An action for an executor, valid until ``valid_until`` and only for an executor that trades this ``origin``.

    ``decision`` is the id by which a closed trade is later joined with its decision. ``fallback_used`` is always
    false: there is no fallback, and the field remains for executors that read it."""

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
