"""Trade a candidate and its champion on paper, each as if it had voted alone: the evidence of the gate ``money``.

The accounts, rules and costs are those of ``conclave money`` (``shared.money``), under the execution policy of each
score's version. Both accounts begin with the candidate's first score, empty, and trade at the bars of its scores. The
prices are recorded in the scores, so the result is a function of ``scores`` and control.
"""

from typing import NamedTuple

from msgspec import Struct, field

from schemas.common import ENSEMBLE, Action
from schemas.scores import PredictionScored
from shared.control.state import Past
from shared.money.account import key_of
from shared.money.alone import LoneAccount, Opportunity
from shared.money.orders import lone_signal
from shared.money.venue import TradedBar
from shared.voting.pool import own_action


class Earned(NamedTuple):
    """What candidate and champion earned by the bar after a score, after costs, for each unit of an order's amount and
    per horizon: times the number of bars of the label."""

    candidate: float
    champion: float


class PairedMoney(Struct, array_like=True, forbid_unknown_fields=True):
    """The accounts of a candidate and of its champion."""

    candidate: LoneAccount = field(default_factory=LoneAccount)
    champion: LoneAccount = field(default_factory=LoneAccount)


def trade(money: PairedMoney, score: PredictionScored, past: Past) -> Earned | None:
    """Trade the next score of a candidate under the configuration of its version. None if it records no prices."""
    prices = score.prices
    if prices is None:
        return None
    key, policy = key_of(score), past.execution
    opened = score.open_time + score.interval_ms
    after = TradedBar(opened, score.origin, prices.next_open, prices.next_close, prices.next_volume)
    at = Opportunity(key, prices.close, after)
    champion: Action = "HOLD" if score.incumbent is None else own_action(past.policy, score.incumbent)
    if score.model == ENSEMBLE and score.decided is not None:
        champion = score.decided  # a voting policy is compared with the decision
    unit = score.horizon / policy.notional
    event = score.prediction.hex()
    mine, theirs = (lone_signal(score, event, action, past.policy) for action in (score.action, champion))
    return Earned(
        money.candidate.trade(mine, at, policy, past.partitions) * unit,
        money.champion.trade(theirs, at, policy, past.partitions) * unit,
    )
