"""Features of the inputs of a derivative: its funding rate, its open interest, its basis, and the top of its book.

They read inputs (``shared.inputs``), which only some symbols have. A bar at whose close one is missing has no vector of
a set with these features: nothing is filled in. A basis point is a ten-thousandth. The basis is the mark price over the
index price, less one. Funding is often the same for days, so no feature divides by its deviation.
"""

from typing import Final

from shared.features.expressions import (
    Expression,
    ask,
    ask_size,
    bid,
    bid_size,
    change,
    deviation,
    funding,
    index,
    log,
    mark,
    mean,
    open_interest,
)
from shared.features.feature import Feature

_funding = funding * 10_000.0
_interest = log(open_interest)
_basis = (mark / index - 1.0) * 10_000.0
_middle = (bid + ask) * 0.5
_spread = (ask - bid) / _middle * 10_000.0
_imbalance = (bid_size - ask_size) / (bid_size + ask_size)
_skew = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)


def _z(x: Expression, bars: int) -> Expression:
    return (x - mean(x, bars)) / deviation(x, bars)


_FUNDING = "the last settled funding rate in basis points"
_INTEREST = "log change of the open interest over the last bars"
_BASIS = "mark price over index price, less one, in basis points"
_IMBALANCE = "size of the best bid less that of the best ask over their sum, -1 to 1 (Cont, Kukanov and Stoikov 2014)"

DERIVATIVES: Final = (
    Feature("funding_bp", _funding, _FUNDING),
    Feature("funding_mean_96_bp", mean(_funding, 96), f"{_FUNDING}, mean of 96 bars"),
    Feature("funding_change_32_bp", change(_funding, 32), f"{_FUNDING} less that of 32 bars before"),
    Feature("open_interest_change_1", change(_interest, 1), _INTEREST),
    Feature("open_interest_change_4", change(_interest, 4), _INTEREST),
    Feature("open_interest_change_16", change(_interest, 16), _INTEREST),
    Feature("open_interest_z_64", _z(_interest, 64), "log open interest less its mean of 64 bars over their deviation"),
    Feature("basis_bp", _basis, _BASIS),
    Feature("basis_mean_16_bp", mean(_basis, 16), f"{_BASIS}, mean of 16 bars"),
    Feature("basis_change_4_bp", change(_basis, 4), f"{_BASIS}, less that of 4 bars before"),
    Feature("basis_z_64", _z(_basis, 64), "basis less its mean of 64 bars over their deviation"),
)

BOOK: Final = (
    Feature("spread_bp", _spread, "best ask less best bid over their mean, in basis points"),
    Feature("book_imbalance_1", _imbalance, _IMBALANCE),
    Feature("book_imbalance_16", mean(_imbalance, 16), f"{_IMBALANCE}, mean of 16 bars"),
    Feature(
        "book_skew_bp",
        (_skew / _middle - 1.0) * 10_000.0,
        "mean of bid and ask, each weighted by the size of the other, over their middle, less one, in basis points",
    ),
)
