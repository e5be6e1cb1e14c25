"""The ``scores`` stream: every prediction joined with the decision of its round and with what came."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import (
    Action,
    Digest,
    EventId,
    IntervalMs,
    Milliseconds,
    Name,
    Origin,
    Probabilities,
    Probability,
    Real,
    Symbol,
    Text,
)

Role = Literal["voting", "shadow"]
Bars = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Unscored = Literal["failed", "withheld", "bad_probabilities", "unlabelled", "warming", "gap", "unheard"]


class PredictionScored(Struct, frozen=True, array_like=True, tag="prediction.scored"):
    """One prediction, the decision of its round, and the outcome.

    ``role``: what the artifact was under ``control_version``, the version of the decision, or of the
    prediction where no model voted and so no ``decision`` was made. ``late``: it came after the round
    had closed. ``action``: its own, under the voting policy of that version; ``hit``: whether that is
    the ``outcome``.

    The outcome is label ``vfh1`` (``shared.labels.batch``): ``forward_return`` is the log return over the
    ``horizon`` bars that end with the bar at ``ends``, ``scale`` the volatility known at the bar times
    the root of the horizon, and ``kappa`` the threshold on their ratio. ``hour_return`` is the plain
    return over one hour of bars (at least one bar), None where bars are missing in it.

    ``log_loss`` is minus the log of the probability given to the outcome (at least 1e-9), ``brier``
    the squared distance, 0 to 2. ``signed_return`` is what its action would have earned over the
    horizon (a fraction), less ``cost`` for a way in and a way out; 0 for HOLD.

    ``incumbent`` is what the champion of the same model said about the same bar (None: there is none,
    it is this artifact, or it did not answer), ``incumbent_return`` its signed return. ``pool_with``
    and ``pool_without`` are the log-linear pools with and without this artifact: a voter is left out,
    a shadow takes its champion's place with its champion's weight, or joins at an equal share where
    its model has none. ``prior`` are the class frequencies of its training part; ``decided`` the
    action of the ensemble. ``latency_ms``: from the bar's arrival on the log to the prediction's."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: Digest
    role: Role
    late: bool
    probabilities: Probabilities
    prior: Probabilities
    action: Action
    outcome: Action
    hit: bool
    forward_return: Real
    scale: Real
    kappa: Real
    horizon: Bars
    ends: Milliseconds
    hour_return: Real | None
    log_loss: Real
    brier: Real
    signed_return: Real
    cost: Real
    incumbent: Probabilities | None
    incumbent_artifact: Digest | None
    incumbent_return: Real | None
    pool_with: Probabilities
    pool_without: Probabilities
    decided: Action | None
    control_version: Count
    prediction: EventId
    decision: EventId | None
    latency_ms: Count | None


class PredictionUnscored(Struct, frozen=True, array_like=True, tag="prediction.unscored"):
    """A prediction that has no score, for good, and why. ``failed``: there was no answer at all, with
    the worker's reason in ``detail``; ``withheld``: none, since there were no features. ``warming``,
    ``gap``: the bars before or after it give no label. ``unlabelled``: the artifact's registration does
    not say what its classes mean. ``unheard``: it does not count, for it was not its artifact's first answer at the bar
    or a later one, the artifact was not active under the bar's stamp, or others had answered 2,048 bars further on
    and the decision does not list it."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: Digest
    role: Role
    reason: Unscored
    detail: Text
    control_version: Count
    prediction: EventId


class BallotMissing(Struct, frozen=True, array_like=True, tag="ballot.missing"):
    """An active artifact of which no ballot was in the round when it closed. If it had failed, or came
    late, that is an event of its own."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: Digest
    role: Role
    detail: Text
    control_version: Count
    decision: EventId


class InterferenceChecked(Struct, frozen=True, array_like=True, tag="interference.checked"):
    """The vote of a decision with shadow ballots, taken again from its own counted ballots without
    them. ``checked`` and ``equal_so_far`` count this and all before it in the partition: N of N."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    decision: EventId
    control_version: Count
    shadows: Annotated[int, Meta(ge=1)]
    equal: bool
    detail: Text
    checked: Count
    equal_so_far: Count


class TradeJoined(Struct, frozen=True, array_like=True, tag="trade.joined"):
    """A closed trade and the decision that it names. ``joined`` is false where that decision is not
    one that was made, has another direction, or was made more decisions ago than are kept; ``detail``
    says which. ``gross`` is the signed return between the prices, ``net`` less fees, as fractions."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    decision: EventId
    trade: EventId
    joined: bool
    detail: Text
    action: Action
    confidence: Probability
    control_version: Count
    gross: Real
    net: Real


ScoreEvent = PredictionScored | PredictionUnscored | BallotMissing | InterferenceChecked | TradeJoined
