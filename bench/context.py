"""Look for a lead that is planted in the returns of one symbol: what families find with context, and without.

    python -m bench context [--quick]

In the synthetic market ``lead`` the returns of ``LEADER`` predict the next ones of all others, in ``lead-null`` they
predict nothing. The gain over the class prior is compared with that of the exact posterior on the same rows, and split
into moves and direction: all that is planted is direction. Both markets have three states of volatility, which labels
in units of past volatility leave visible, so *moves* is above zero in both.

The set with context is ``context-38`` with ``LEADER`` in place of BTCUSDT. Rows of the leader are left out: nothing
leads it. The prices of the others show a little of the signal, since they are made by it. ``core-28`` finds that.

Quick: four symbols of 12,000 bars. Otherwise ten of 40,000.
"""

from dataclasses import replace
from typing import Final

from bench.harness import Figure
from bench.order_flow import best_scores, direction_of, family_scores, interval_words, recipe_of
from shared.features import SETS, FeatureSet, feature_set
from shared.synthetic import LEADER, SyntheticMarket
from shared.training.fitting import prepare
from shared.training.series import SymbolSeries, computed

FAMILIES: Final = ("logistic", "lightgbm")
OLD: Final = SETS["core-28"]
NEW: Final = feature_set("context-38", *(name.replace("BTCUSDT", LEADER) for name in SETS["context-38"].names))


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    symbols, bars = (4, 12_000) if quick else (10, 40_000)
    names = (LEADER, *(f"SYN{number}" for number in range(2, symbols + 2)))
    figures: dict[str, Figure] = {}
    for scenario in ("lead", "lead-null"):
        market = SyntheticMarket(names, scenario, 3, bars)
        for family in FAMILIES:
            figures |= _found(market, family)
    return figures


def _found(market: SyntheticMarket, family: str) -> dict[str, Figure]:
    """Return what a family gains with the old and with the new set, and its share of what there is."""
    figures: dict[str, Figure] = {}
    for age, chosen in (("old", OLD), ("new", NEW)):
        prepared = prepare(_series(market, chosen), chosen, recipe_of(family, chosen.name))
        gained, best = family_scores(prepared), best_scores(prepared, replace(market, symbols=market.symbols[1:]))
        direction = direction_of(gained)
        words = f"{chosen.name}, {gained.rows:,} rows, direction {interval_words(direction)} mnat; the exact posterior"
        words += f" has {best.skill.value:+.1f}, of it direction {direction_of(best).value:+.1f}"
        begins = f"{market.scenario} {family} {age}"
        figures[f"{begins}, skill"] = Figure(gained.skill.value, "mnat", "", f"{interval_words(gained.skill)}; {words}")
        if market.signal.row:
            share = direction.value / direction_of(best).value
            figures[f"{begins}, share"] = Figure(share, "of the direction", ">= 0.9" if age == "new" else "", words)
        else:
            figures[f"{begins}, direction"] = Figure(direction.low, "mnat", "<= 0", "the lower end; " + words)
    return figures


def _series(market: SyntheticMarket, chosen: FeatureSet) -> dict[str, SymbolSeries]:
    series = computed({symbol: bars for (symbol, _), bars in market.load().items()}, chosen, 3)
    return {symbol: one for symbol, one in series.items() if symbol != LEADER}
