"""Look for a signal that is planted in the order flow: what families find with sets that show it, and without.

    python -m bench order_flow [--quick]

Two synthetic markets have trades, quote volume and taker volume. In ``flow`` the share that takers bought predicts the
next returns, in ``flow-null`` it predicts nothing. The gain over the class prior is compared with that of the exact
posterior on the same rows, and split into moves and direction: all that is planted is direction. Both markets have
three states of volatility, which labels in units of past volatility leave visible, so *moves* is above zero in both.

The prices of ``flow`` show a little of the signal, since they are made by it. The sets without order flow find that.

Quick: four symbols of 12,000 bars, trees and linear models. Otherwise ten of 40,000, and N-HiTS with three epochs.
"""

from typing import Final

from bench.harness import Figure
from bench.planted import PARAMS, found
from shared.features import SETS
from shared.synthetic import SyntheticMarket

OLD: Final = {"logistic": "core-28", "lightgbm": "core-28", "nhits": "window-7"}
NEW: Final = {"logistic": "flow-38", "lightgbm": "flow-38", "nhits": "window-flow-10"}


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    symbols, bars = (4, 12_000) if quick else (10, 40_000)
    figures: dict[str, Figure] = {}
    for scenario in ("flow", "flow-null"):
        market = SyntheticMarket(tuple(f"SYN{number}" for number in range(symbols)), scenario, 3, bars)
        for family in list(PARAMS)[: 2 if quick else 3]:
            figures |= found(market, family, SETS[OLD[family]], SETS[NEW[family]])
    return figures
