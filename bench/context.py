"""Look for a lead that is planted in the returns of one symbol: what families find with context, and without.

    python -m bench context [--quick]

In the synthetic market ``lead`` the returns of ``LEADER`` predict the next ones of all others, in ``lead-null`` they
predict nothing. The gain over the class prior is compared with that of the exact posterior on the same rows, and split
into moves and direction: all that is planted is direction. Both markets have three states of volatility, which labels
in units of past volatility leave visible, so *moves* is above zero in both.

The set with context is ``context-36`` with ``LEADER`` in place of BTCUSDT. Rows of the leader are left out: nothing
leads it. The prices of the others show a little of the signal, since they are made by it. ``core-28`` finds that.

The families are also given the hidden variables, alone and beside ``core-28``: what they lack there is lost by their
form and the number of rows, and by the features that show nothing, not by the set.

Quick: four symbols of 12,000 bars. Otherwise ten of 40,000.
"""

from typing import Final

from bench.harness import Figure
from bench.planted import attributed, found
from shared.features import SETS, feature_set
from shared.synthetic import LEADER, SyntheticMarket

FAMILIES: Final = ("logistic", "lightgbm")
OLD: Final = SETS["core-28"]
NEW: Final = feature_set("context-36", *(name.replace("BTCUSDT", LEADER) for name in SETS["context-36"].names))


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    symbols, bars = (4, 12_000) if quick else (10, 40_000)
    names = (LEADER, *(f"SYN{number}" for number in range(2, symbols + 2)))
    figures: dict[str, Figure] = {}
    for scenario in ("lead", "lead-null"):
        market = SyntheticMarket(names, scenario, 3, bars)
        figures |= found(market, FAMILIES, OLD, NEW, LEADER)
        if market.signal.row:
            for family in FAMILIES:
                figures |= attributed(market, family, OLD, LEADER)
    return figures
