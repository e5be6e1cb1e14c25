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
from bench.retrain import exact
from schemas.training import Recipe
from shared.artifacts.scoring import Interval, Scores, score
from shared.families import complete, family_named
from shared.features import SETS
from shared.synthetic import SyntheticMarket
from shared.training.fitting import HOLD, HORIZON, Prepared, fit, prepare, uncalibrated
from shared.training.series import SymbolSeries, computed

PARAMS: Final[dict[str, dict[str, float]]] = {"logistic": {}, "lightgbm": {"rounds": 1000}, "nhits": {"epochs": 3}}
OLD: Final = {"logistic": "core-28", "lightgbm": "core-28", "nhits": "window-7"}
NEW: Final = {"logistic": "flow-38", "lightgbm": "flow-38", "nhits": "window-flow-10"}


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    symbols, bars = (4, 12_000) if quick else (10, 40_000)
    figures: dict[str, Figure] = {}
    for scenario in ("flow", "flow-null"):
        market = SyntheticMarket(tuple(f"SYN{number}" for number in range(symbols)), scenario, 3, bars)
        for family in list(PARAMS)[: 2 if quick else 3]:
            figures |= _found(market, family)
    return figures


def _found(market: SyntheticMarket, family: str) -> dict[str, Figure]:
    """Return what a family gains with the old and with the new set, and its share of what there is."""
    figures: dict[str, Figure] = {}
    for age, name in (("old", OLD[family]), ("new", NEW[family])):
        prepared = prepare(_series(market, name), SETS[name], recipe_of(family, name))
        gained, best = family_scores(prepared), best_scores(prepared, market)
        direction = direction_of(gained)
        words = f"{name}, {gained.rows:,} rows, direction {interval_words(direction)} mnat; the exact posterior has"
        words += f" {best.skill.value:+.1f}, of it direction {direction_of(best).value:+.1f}"
        begins = f"{market.scenario} {family} {age}"
        figures[f"{begins}, skill"] = Figure(gained.skill.value, "mnat", "", f"{interval_words(gained.skill)}; {words}")
        if market.signal.row:
            share = direction.value / direction_of(best).value
            figures[f"{begins}, share"] = Figure(share, "of the direction", ">= 0.9" if age == "new" else "", words)
        else:
            figures[f"{begins}, direction"] = Figure(direction.low, "mnat", "<= 0", "the lower end; " + words)
    return figures


def _series(market: SyntheticMarket, name: str) -> dict[str, SymbolSeries]:
    return computed({symbol: bars for (symbol, _), bars in market.load().items()}, SETS[name], 3)


def recipe_of(family: str, name: str) -> Recipe:
    """Return the recipe of a family on a set, with the parameters of ``PARAMS``."""
    return Recipe(family, name, complete(family_named(family), PARAMS[family]), HORIZON, HOLD, 1)


def family_scores(prepared: Prepared) -> Scores:
    """Return the scores of a fit on the test part."""
    test = prepared.parts.test
    answers = uncalibrated(prepared, fit(prepared), test)
    return score(answers, prepared.y[test], prepared.table.time[test], prepared.prior, horizon=HORIZON)


def best_scores(prepared: Prepared, market: SyntheticMarket) -> Scores:
    """Return the scores of the exact posterior on the same rows."""
    test = prepared.parts.test
    chances = exact(prepared, market)
    return score(chances, prepared.y[test], prepared.table.time[test], prepared.prior, horizon=HORIZON)


def direction_of(scores: Scores) -> Interval:
    """Return the part of the skill that is direction."""
    assert isinstance(scores.direction, Interval)
    return scores.direction


def interval_words(one: Interval) -> str:
    """Return an interval as text."""
    return f"{one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
