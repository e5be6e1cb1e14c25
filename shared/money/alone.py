"""The money of one artifact that had voted alone, one prediction after the other.

The same fold as ``comparison`` makes over a log (``account``, ``positions``, ``equity``), for a caller that has the
prices with each prediction and keeps the state between two of them.
"""

from typing import NamedTuple

from msgspec import Struct, field, structs

from schemas.codec import ROOT
from schemas.control import SetExecutionPolicy
from schemas.orders import OrderFilled, OrderPlaced
from shared.money.account import Account, Key, executed
from shared.money.equity import SeriesMoney
from shared.money.orders import TradeSignal
from shared.money.positions import Holding, Working, apply
from shared.money.venue import TradedBar


class Opportunity(NamedTuple):
    """What a prediction can trade at: the close of its bar, and the next bar of its series."""

    key: Key
    close: float
    next_bar: TradedBar


class LoneAccount(Struct, array_like=True, forbid_unknown_fields=True):
    """What an artifact holds on paper, and what its fills paid and received, by series.

    Between two predictions no order is open: the next bar ends each."""

    holdings: dict[Key, Holding] = field(default_factory=dict)
    money: dict[Key, SeriesMoney] = field(default_factory=dict)

    def trade(self, signal: TradeSignal | None, at: Opportunity, policy: SetExecutionPolicy, partitions: int) -> float:
        """Trade a prediction on paper (None: HOLD), and return the change of what the series gained, up to the close of
        the next bar."""
        account, money = Account(self.holdings), self.money.setdefault(at.key, SeriesMoney())
        before = money.gain
        if signal is not None:
            on_paper = structs.replace(policy, venue="paper")
            holding = account.of(at.key)
            placed = account.decide(at.key, signal, on_paper, at.close, partitions)
            working = Working(placed, ROOT, ROOT, 0) if isinstance(placed, OrderPlaced) else None
            list(apply(holding, placed, working))
            for event in list(executed(holding, at.next_bar, on_paper)):
                list(apply(holding, event))
                if isinstance(event, OrderFilled):
                    money.fill(event)
        if money.price:
            money.price = at.next_bar.close
        return money.gain - before
