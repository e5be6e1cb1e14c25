"""The inputs of the gates: one scored prediction, and the facts about a candidate that are fixed before its first
score.
"""

from typing import Final, NamedTuple

from msgspec import Struct

from schemas.scores import PredictionScored

Triple = tuple[float, float, float]

UNKNOWN: Final = -1
"""An action or an outcome that is none of SELL, HOLD, BUY."""
UNIFORM: Final[Triple] = (1 / 3, 1 / 3, 1 / 3)


class Row(NamedTuple):
    """One prediction of one candidate, joined with its outcome. Classes are 0 SELL, 1 HOLD, 2 BUY.

    - ``probabilities``: the candidate's. ``prior``: the class frequencies of its training part.
    - ``champion``: the prediction of its model's champion for the same bar, None where there is none.
    - ``pool`` and ``rest``: the counterfactual ensemble with the candidate, and the one without it.
    - ``outcome``: the label. ``move``: the return of the close over the policy's outcome window (a fraction;
      ``classic`` uses one hour).
    - ``net`` and ``champion_net``: what each earned after costs, per horizon, had it voted alone; of scores without
      prices, the signed return after costs of the own action of each.
    - ``ensemble``: the action of the decision. ``latency_ms``: None where it is unknown."""

    symbol: str
    open_time: int
    probabilities: Triple
    outcome: int
    prior: Triple
    action: int
    champion: Triple | None = None
    pool: Triple | None = None
    rest: Triple | None = None
    ensemble: int = UNKNOWN
    move: float | None = None
    net: float | None = None
    champion_net: float | None = None
    latency_ms: float | None = None


_CLASSES: Final = {"SELL": 0, "HOLD": 1, "BUY": 2}


def row_of(scored: PredictionScored) -> Row:
    """Return a scored prediction as a row.

    Its ``incumbent`` is the champion. Latency is set only for live bars: a backlog has none."""
    decided = scored.decided
    return Row(
        scored.symbol,
        scored.open_time,
        scored.probabilities,
        _CLASSES.get(scored.outcome, UNKNOWN),
        scored.prior,
        _CLASSES.get(scored.action, UNKNOWN),
        scored.incumbent,
        scored.pool_with,
        scored.pool_without,
        UNKNOWN if decided is None else _CLASSES.get(decided, UNKNOWN),
        scored.hour_return,
        scored.signed_return,
        scored.incumbent_return,
        scored.latency_ms if scored.origin == "live" else None,
    )


class Key(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The subject of the evidence. If any field changes, the evidence restarts: a verdict never mixes two subjects."""

    model: str
    artifact: str
    champion: str
    feature_set: str
    label: str
    policy: str


VOTES: Final = "votes"
"""The feature set in the key of a voting policy: it has none."""


class Scales(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The scale of each comparison: three standard deviations of its block means in the purged backtest, never of
    shadow data. The defaults are for a candidate without a backtest."""

    prior: float = 0.05
    champion: float = 0.05
    pool: float = 0.05
    money: float = 0.002


class References(NamedTuple):
    """What was recorded about a candidate before its first score. ``response``: the largest change of a probability
    when the inputs were perturbed, None where it was not measured."""

    scales: Scales = Scales()
    response: float | None = None


UNKNOWN_REFERENCES: Final = References()


class Plan(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The facts about a candidate that are fixed when its shadow run starts. None: not known.

    - ``horizon``: in bars.
    - ``actions``: shares of SELL, HOLD and BUY of the decision layer in the backtest.
    - ``response``: the largest change of a probability when the inputs were perturbed, measured in training.
    - ``outputs``: [class][100] counts of the backtest's probabilities, by hundredth."""

    key: Key
    horizon: int
    interval_ms: int
    scales: Scales = Scales()
    actions: Triple | None = None
    response: float | None = None
    outputs: tuple[tuple[float, ...], ...] | None = None
