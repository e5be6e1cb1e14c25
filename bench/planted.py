"""What a family finds of a signal that is planted in a synthetic market, compared with the exact posterior."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.harness import Figure
from bench.retrain import exact
from schemas.training import Recipe
from shared.artifacts.scoring import Interval, Scores, score
from shared.families import complete, family_named
from shared.features import FeatureSet
from shared.labels.batch import volatility
from shared.synthetic import SyntheticMarket
from shared.training.fitting import HOLD, HORIZON, Prepared, fit, prepare, uncalibrated
from shared.training.series import SymbolSeries, computed

PARAMS: Final[Mapping[str, Mapping[str, float]]] = {
    "logistic": {},
    "lightgbm": {"rounds": 1000},
    "nhits": {"epochs": 3, "seeds": 3},
}


def found(
    market: SyntheticMarket, families: Sequence[str], old: FeatureSet, new: FeatureSet, led_by: str = ""
) -> dict[str, Figure]:
    """Return what each family gains with a set that does not show the signal and with one that does, and its share of
    what there is; also the mean of their probabilities, which is what an ensemble of them gains. All of them have the
    same rows: their windows are of one length. Rows of ``led_by`` are left out: nothing leads it."""
    figures: dict[str, Figure] = {}
    for age, chosen in (("old", old), ("new", new)):
        series = computed({symbol: bars for (symbol, _), bars in market.load().items()}, chosen, 3)
        series.pop(led_by, None)
        every = {family: prepare(series, chosen, _recipe(family, chosen)) for family in families}
        answers = {family: uncalibrated(one, fit(one), one.parts.test) for family, one in every.items()}
        rows = every[families[0]]
        best = _scored(rows, exact(rows, replace(market, symbols=tuple(series))))
        if len(answers) > 1:
            answers["mean"] = np.mean(list(answers.values()), axis=0)
        for name, p in answers.items():
            begins = f"{market.scenario} {name} {age}"
            gained = _scored(rows, p)
            direction, most = _direction(gained), _direction(best).value
            words = f"{chosen.name}, {gained.rows:,} rows, direction {_words(direction)} mnat; the exact posterior has"
            words += f" {best.skill.value:+.1f}, of it direction {most:+.1f}"
            figures[f"{begins}, skill"] = Figure(gained.skill.value, "mnat", "", f"{_words(gained.skill)}; {words}")
            if market.signal.row:
                goal = ">= 0.9" if age == "new" else ""
                figures[f"{begins}, share"] = Figure(direction.value / most, "of the direction", goal, words)
            else:
                figures[f"{begins}, direction"] = Figure(direction.low, "mnat", "<= 0", "the lower end; " + words)
    return figures


def attributed(market: SyntheticMarket, family: str, old: FeatureSet, led_by: str = "") -> dict[str, Figure]:
    """Return what a family gains of the direction when it is given the hidden variables: what it lacks there is lost by
    its form and the number of rows, not by a set.

    Alone: u, the log of estimated over true volatility, its square, and its product with u. Then u beside ``old``."""
    figures: dict[str, Figure] = {}
    every = {symbol: bars for (symbol, _), bars in market.load().items()}
    for label, width in (("alone", 4), (f"beside {old.name}", len(old) + 1)):
        series = {}
        for symbol, one in computed(every, old, 3).items():
            if symbol != led_by:
                hidden = _hidden(market, symbol, one)
                vectors = hidden if label == "alone" else np.column_stack([hidden[:, 0], one.vectors])
                series[symbol] = replace(one, vectors=np.ascontiguousarray(vectors, dtype=np.float32))
        names = FeatureSet("hidden", tuple([old.features[0]] * width))
        prepared = prepare(series, names, _recipe(family, names))
        gained = _scored(prepared, uncalibrated(prepared, fit(prepared), prepared.parts.test))
        best = _scored(prepared, exact(prepared, replace(market, symbols=tuple(series))))
        direction = _direction(gained)
        share = direction.value / _direction(best).value
        words = f"{gained.rows:,} rows, direction {_words(direction)} mnat"
        figures[f"{market.scenario} {family}, given the hidden variables {label}, share"] = Figure(
            share, "of the direction", "", words
        )
    return figures


def _recipe(family: str, chosen: FeatureSet) -> Recipe:
    return Recipe(family, chosen.name, complete(family_named(family), dict(PARAMS[family])), HORIZON, HOLD, 1)


def _hidden(market: SyntheticMarket, symbol: str, one: SymbolSeries) -> NDArray[np.float64]:
    """Return the hidden variables of the bars that have a vector, [N, 4]."""
    truth = market.truth(symbol, len(one.bars))
    known = volatility(one.bars.open_time, one.bars.close, market.interval_ms)
    ratio = np.log(known / truth.sigma)
    every = np.column_stack([truth.u, ratio, ratio**2, truth.u * ratio])
    return every[np.searchsorted(one.bars.open_time, one.open_time)]


def _scored(prepared: Prepared, chances: NDArray[np.float64]) -> Scores:
    """Return the scores of probabilities [N, 3] for the rows of the test part."""
    test = prepared.parts.test
    return score(chances, prepared.y[test], prepared.table.time[test], prepared.prior, horizon=HORIZON)


def _direction(scores: Scores) -> Interval:
    """Return the part of the skill that is direction."""
    assert isinstance(scores.direction, Interval)
    return scores.direction


def _words(one: Interval) -> str:
    return f"{one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
