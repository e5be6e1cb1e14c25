"""The ``scores`` stream: every prediction joined with the decision of its round and with the outcome."""

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
    Price,
    Probabilities,
    Probability,
    Real,
    Symbol,
    Text,
    Volume,
)

Role = Literal["voting", "shadow"]
Bars = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Unscored = Literal["failed", "withheld", "bad_probabilities", "unlabelled", "warming", "gap", "unheard"]


class TradedPrices(Struct, frozen=True, array_like=True):
    """The prices at which an order that follows from a prediction trades on paper: ``close`` of its bar, and the open,
    close and volume of the next bar of the symbol."""

    close: Price
    next_open: Price
    next_close: Price
    next_volume: Volume


class PredictionScored(Struct, frozen=True, array_like=True, tag="prediction.scored"):
    """One prediction, the decision of its round, and the outcome.

    ``control_version`` is the version of the decision, or that of the prediction if no model voted and there is no
    ``decision``. ``role``: the role of the artifact under that version. ``late``: whether the prediction arrived after
    the round had closed. ``action``: the action of this prediction alone under the voting policy of that version;
    ``hit``: whether it equals the ``outcome``.

    The outcome is label ``vfh1`` (``shared.labels.batch``): ``forward_return`` is the log return over the
    ``horizon`` bars that end with the bar at ``ends``, ``scale`` the volatility known at the bar times
    the root of the horizon, and ``kappa`` the threshold on their ratio. ``hour_return`` is the simple
    return over one hour of bars (at least one bar), None if bars are missing in it.

    ``log_loss`` is minus the log of the probability of the outcome (at least 1e-9), ``brier`` the squared distance,
    0 to 2. ``signed_return`` is the return of the action over the horizon (a fraction), less ``cost`` for entry and
    exit; 0 for HOLD.

    ``incumbent`` is the prediction of the champion of the same model for the same bar, ``incumbent_return`` its signed
    return. They are None if the model has no champion, if this artifact is the champion, or if the champion did not
    predict. ``pool_with`` and ``pool_without`` are the log-linear pools with and without this artifact. Without: a
    voting artifact is left out. With: a shadow replaces its champion at the champion's weight, or joins at an equal
    share if its model has none. ``prior`` are the class frequencies of the training part; ``decided`` is the action of
    the ensemble. ``latency_ms``: from the bar's entry on the log to the prediction's. A score without ``prices`` was
    written by a release that did not record them."""

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
    prices: TradedPrices | None = None


class PredictionUnscored(Struct, frozen=True, array_like=True, tag="prediction.unscored"):
    """A prediction that will never have a score, and why.

    ``failed``: the artifact did not predict; ``detail`` is the worker's reason. ``withheld``: it did not predict,
    since there were no features. ``bad_probabilities``: they do not sum to one. ``warming``, ``gap``: there is no
    label, since bars before or after are missing. ``unlabelled``: the artifact's registration does not define its
    classes. ``unheard``: the prediction does not count. Either the artifact had predicted this bar or a later one
    before; or it was not active under the bar's stamp; or others had predicted 2,048 bars further on and the decision
    does not list it."""

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
    """An active artifact had no ballot in the round when the round closed. A failed or late prediction has an event of
    its own."""

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
    """A decision with shadow ballots was computed again from its counted ballots alone. ``equal``: whether the result
    is the same. ``checked`` counts the decisions compared in this partition so far, ``equal_so_far`` those that were
    equal, this one included."""

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
    """A closed trade and the decision that it names. ``joined`` is false if there is no such decision, if it has
    another direction, or if it is older than the decisions that are kept; ``detail`` says which. ``gross`` is the
    signed return between entry and exit price, ``net`` the same less fees, as fractions."""

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
