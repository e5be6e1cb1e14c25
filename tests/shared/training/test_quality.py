from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.toy import MINUTE, market
from schemas.training import DataReport, Recipe
from shared.artifacts.artifact import Artifact
from shared.bars import Bars
from shared.families import complete, family_named
from shared.features import SETS
from shared.training.fitting import Origin, Prepared, fit, measure, prepare
from shared.training.quality import assess
from shared.training.series import SymbolSeries, computed
from shared.training.worth import gains, sanity

SET = SETS["user-8"]
BARS = {name: market(name, 3000, 0.5, seed) for seed, name in enumerate(("AAA", "BBB"))}
SERIES = computed(BARS, SET, 3)


def recipe(family: str = "logistic", **changed: Any) -> Recipe:
    how: dict[str, Any] = {"horizon": 3, "hold": 0.5, "seed": 1, **changed}
    return Recipe(family, SET.name, complete(family_named(family), {}), **how)


def data(change: Any = None) -> dict[str, SymbolSeries]:
    """The series, with their vectors changed."""
    if change is None:
        return SERIES
    return {name: replace(one, vectors=change(one.vectors.copy())) for name, one in SERIES.items()}


def report(series: dict[str, SymbolSeries], champion: Artifact | None = None, fewest: int = 1000) -> DataReport:
    return assess(prepare(series, SET, recipe()), series, fewest=fewest, champion=champion)


def made(series: dict[str, SymbolSeries] = SERIES, family: str = "logistic") -> tuple[Prepared, Artifact]:
    prepared = prepare(series, SET, recipe(family))
    fitted = fit(prepared)
    trained = measure(prepared, fitted, Origin("toy", 3, series))
    return prepared, Artifact("c0" * 32, trained.manifest, fitted.model)


def test_a_sound_data_set_is_fit_and_counted_by_symbol() -> None:
    found = report(data())
    assert found.unfit == ()
    assert (found.symbols["AAA"].bars, found.symbols["AAA"].gaps) == (3000, 0)
    assert sum(one.rows for one in found.symbols.values()) == found.rows
    assert found.classes[1] == pytest.approx(0.5, abs=0.01)


def test_missing_bars_are_counted_by_run() -> None:
    keep = np.ones(3000, bool)
    keep[[500, 501, 900]] = False
    bars = BARS["AAA"]
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    holed = Bars("AAA", MINUTE, bars.open_time[keep], *(column[keep] for column in columns))
    found = report(computed({"AAA": holed, "BBB": BARS["BBB"]}, SET, 3))
    assert (found.symbols["AAA"].gaps, found.symbols["AAA"].missing) == (2, 3)


def test_too_few_rows_are_unfit_and_the_way_out_is_said() -> None:
    [why] = report(data(), fewest=100_000).unfit
    assert "100,000 are required: train on a longer time span" in why


def test_a_class_that_is_missing_is_unfit() -> None:
    prepared = prepare(SERIES, SET, recipe(hold=0.9999))
    [why] = assess(prepared, SERIES, fewest=100, champion=None).unfit
    assert "a class without rows cannot be learned" in why


def test_features_that_stand_still_or_are_one_are_named() -> None:
    def change(vectors: np.ndarray) -> np.ndarray:
        vectors[:, 1] = 7.0
        vectors[:, 3] = vectors[:, 2]
        return vectors

    found = report(data(change))
    assert found.constant == (SET.names[1],)
    assert (SET.names[2], SET.names[3]) in found.duplicated
    assert found.unfit == ()


def test_features_most_of_which_stand_still_are_unfit() -> None:
    def change(vectors: np.ndarray) -> np.ndarray:
        vectors[:, :5] = 7.0
        return vectors

    [why] = report(data(change)).unfit
    assert "5 of 8 features are constant" in why


def test_drift_is_held_against_the_champions_training_part() -> None:
    _, champion = made()
    same = report(data(), champion)
    assert (same.drift, same.against) == (0.0, champion.digest)

    def change(vectors: np.ndarray) -> np.ndarray:
        vectors[:, 5] += 3 * vectors[:, 5].std()
        return vectors

    moved = report(data(change), champion)
    assert moved.drifted == (SET.names[5],)
    assert moved.drift == 1 / 8


def test_gains_are_over_prior_logistic_and_champion() -> None:
    prepared, champion = made(family="xgboost")
    answers = champion.predict(prepared.table.windows[prepared.parts.test])
    prior, logistic, itself = gains(prepared, answers, SERIES, champion)
    assert prior.over == "prior"
    assert prior.low < prior.value < prior.high
    assert prior.value == pytest.approx(champion.manifest.metrics.test.skill.value)
    assert logistic.over == "logistic"
    assert logistic.value != prior.value
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)
    assert itself.note == "it was trained on bars of this test part"


def test_a_champion_of_another_feature_set_is_not_compared_and_it_is_said() -> None:
    prepared, champion = made()
    other = prepare(computed(BARS, SETS["user-18"], 3), SETS["user-18"], recipe())
    answers = np.tile(other.prior, (len(other.parts.test), 1))
    found = gains(other, answers, SERIES, champion)[-1]
    assert found.note.startswith("not compared: it takes user-8")
    assert prepared.window == 1


def test_sane_answers_pass_and_the_prior_and_a_constant_do_not() -> None:
    random = np.random.default_rng(0)
    lively = random.dirichlet((2, 2, 2), 1000)
    assert all(check.passed for check in sanity(lively))
    constant = np.tile([0.1, 0.6206, 0.2794], (1000, 1))
    assert [check.name for check in sanity(constant) if not check.passed] == [
        "one_class", "second_class", "deviation", "width",
    ]  # fmt: skip
