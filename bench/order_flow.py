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
from bench.planted import found
from shared.features import SETS
from shared.synthetic import SyntheticMarket

SETS_OF: Final = {("logistic", "lightgbm"): ("core-28", "flow-38"), ("nhits",): ("window-7", "window-flow-10")}
"""The families that have the same rows, and their sets without order flow and with it."""


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    symbols, bars = (4, 12_000) if quick else (10, 40_000)
    figures: dict[str, Figure] = {}
    for scenario in ("flow", "flow-null"):
        market = SyntheticMarket(tuple(f"SYN{number}" for number in range(symbols)), scenario, 3, bars)
        for families in list(SETS_OF)[: 1 if quick else 2]:
            old, new = SETS_OF[families]
            figures |= found(market, families, SETS[old], SETS[new])
    return figures
