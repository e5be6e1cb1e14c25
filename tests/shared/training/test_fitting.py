import dataclasses
import re
import sys
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from bench.toy import MINUTE, market
from schemas.training import Recipe
from shared.artifacts import ArtifactStore
from shared.artifacts.calibration import Calibration, VectorScaling, probabilities
from shared.artifacts.show import render
from shared.bars import Bars
from shared.distribution import install_command
from shared.families import FAMILIES, Epoch, complete
from shared.families.libraries import LibraryMissingError
from shared.features import SETS
from shared.labels.batch import classes
from shared.training.fitting import (
    HOLD,
    NotStoredError,
    Origin,
    Trained,
    effect_of,
    fit,
    measure,
    prepare,
    refuse,
    train,
)
from shared.training.series import assemble, computed, digest_of_bars, window_ends
from shared.training.splits import SplitError

SET = SETS["core-28"]
SMALL: dict[str, dict[str, int | float]] = {
    "xgboost": {"rounds": 60, "patience": 20},
    "lightgbm": {"rounds": 60, "patience": 20},
    "patchtst": {"window": 4, "patch": 2, "stride": 2, "epochs": 2, "batch": 128, "rate": 0.005, "mixed": 1},
    "nhits": {"window": 4, "epochs": 4, "batch": 128, "hidden": 32, "rate": 0.005},
}
LEARNING = [name for name, family in FAMILIES.items() if not family.constant]


PLANTED = {name: market(name, 4000, 0.5, seed) for seed, name in enumerate(("AAA", "BBB"))}
SERIES = computed(PLANTED, SET, 3)
NULL = {name: market(name, 4000, 0.0, seed) for seed, name in enumerate(("AAA", "BBB"))}


def trained(bars: Mapping[str, Bars], family: str) -> Trained:
    return train(bars, family, SET, source="toy", horizon=3, params=SMALL.get(family))


@pytest.fixture(scope="module")
def results() -> dict[str, Trained]:
    return {name: trained(PLANTED, name) for name in FAMILIES}


@pytest.mark.parametrize("family", LEARNING)
def test_a_planted_signal_is_found(results: dict[str, Trained], family: str) -> None:
    metrics = results[family].manifest.metrics
    assert metrics.test.skill.low > 20
    assert metrics.test.distinct > 100


@pytest.mark.parametrize("family", LEARNING)
def test_no_skill_is_claimed_where_there_is_no_signal(family: str) -> None:
    try:
        skill = trained(NULL, family).manifest.metrics.test.skill
    except NotStoredError as error:
        assert "collapsed" in str(error)  # noqa: PT017  # refusal is fine too
    else:
        assert skill.low <= 0
        assert skill.value < 5


def test_the_prior_is_the_share_of_the_training_part_and_has_about_no_skill(results: dict[str, Trained]) -> None:
    manifest = results["prior"].manifest
    assert manifest.temperature == 1.0
    assert manifest.metrics.test.skill.value == pytest.approx(0, abs=1e-9)
    assert manifest.prior[1] == pytest.approx(manifest.label.hold, abs=0.001)
    assert np.exp(manifest.centre) == pytest.approx(manifest.prior)


def test_an_artifact_names_what_it_was_trained_on(results: dict[str, Trained]) -> None:
    data = results["xgboost"].manifest.data
    assert (data.source, data.symbols, data.bars) == ("toy", ("AAA", "BBB"), 8000)
    assert (data.first_open_time, data.last_open_time) == (0, 3999 * MINUTE)
    assert data.digest == digest_of_bars(PLANTED)
    assert digest_of_bars(NULL) != data.digest


def test_parts_do_not_share_rows_and_leave_some_to_purging(results: dict[str, Trained]) -> None:
    manifest = results["xgboost"].manifest
    assert list(manifest.metrics.rows) == ["train", "validation", "calibration", "test"]
    assert sum(manifest.metrics.rows.values()) < manifest.data.rows


def test_training_twice_gives_the_same_artifact(results: dict[str, Trained]) -> None:
    for family in LEARNING:
        assert trained(PLANTED, family) == results[family]


def test_the_served_answer_is_the_scored_answer(
    results: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    for family, result in results.items():
        artifact = store.load(store.save(*result))
        table = assemble(SERIES, artifact.window, interval_ms=MINUTE, horizon=3)
        test = artifact.manifest.metrics.test
        p = artifact.predict(table.windows[-test.rows :])
        y = classes(table.z[-test.rows :], artifact.manifest.label.kappa)
        assert float(-np.log(p[np.arange(test.rows), y]).mean()) == pytest.approx(test.log_loss, rel=1e-12), family
        assert artifact.exact


def test_rows_of_all_symbols_stand_on_one_time_axis() -> None:
    table = assemble(SERIES, 1, interval_ms=MINUTE, horizon=3)
    assert (np.diff(table.time) >= 0).all()
    assert table.windows.shape == (len(table.time), 1, len(SET))
    assert (table.end - table.time == 3 * MINUTE).all()


def test_windows_of_several_vectors_do_not_cross_a_gap() -> None:
    open_time = np.array([0, 1, 2, 5, 6, 7, 8]) * MINUTE
    assert window_ends(open_time, MINUTE, 3).tolist() == [2, 5, 6]
    assert window_ends(open_time, MINUTE, 1).tolist() == list(range(7))


def test_longer_windows_end_with_the_bar_they_are_for() -> None:
    one = assemble(SERIES, 1, interval_ms=MINUTE, horizon=3)
    four = assemble(SERIES, 4, interval_ms=MINUTE, horizon=3)
    rows = len(four.time)
    assert (four.windows[:, -1] == one.windows[-rows:, -1]).all()
    assert (four.windows[2:, -2] == four.windows[:-2, -1]).all()  # two symbols alternate


def test_a_model_that_answers_the_same_to_everything_is_refused(results: dict[str, Trained]) -> None:
    metrics = results["xgboost"].manifest.metrics
    flat = msgspec.structs.replace(metrics, test=msgspec.structs.replace(metrics.test, distinct=19))
    with pytest.raises(NotStoredError, match=r"collapsed: 19 distinct predictions \(to 1e-3\)"):
        refuse(FAMILIES["xgboost"], flat, results["xgboost"])
    refuse(FAMILIES["prior"], flat, results["prior"])


def test_a_model_that_is_worse_than_knowing_nothing_by_half_is_refused(results: dict[str, Trained]) -> None:
    metrics = results["xgboost"].manifest.metrics
    wild = msgspec.structs.replace(metrics, test=msgspec.structs.replace(metrics.test, log_loss=1.7))
    with pytest.raises(NotStoredError, match="diverged"):
        refuse(FAMILIES["xgboost"], wild, results["xgboost"])


def test_a_collapsed_fit_is_refused_in_training() -> None:
    with pytest.raises(NotStoredError, match="these features have no more information about this label"):
        train(NULL, "xgboost", SET, source="toy", horizon=3, params={"rounds": 1, "eta": 0.001})


def test_bars_of_two_intervals_are_refused() -> None:
    series = NULL["BBB"]
    hourly = Bars("BBB", 60 * MINUTE, series.open_time * 60, *(getattr(series, name) for name in COLUMNS))
    with pytest.raises(ValueError, match=r"one interval; these have \[60000, 3600000\] ms"):
        train({"AAA": NULL["AAA"], "BBB": hourly}, "prior", SET, source="toy")


COLUMNS = ("open", "high", "low", "close", "volume")


def shaped(close: np.ndarray) -> Mapping[str, Bars]:
    """Bars with these closes."""
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opened, close) * 1.0005, np.minimum(opened, close) * 0.9995
    times = MINUTE * np.arange(len(close), dtype=np.int64)
    return {"AAA": Bars("AAA", MINUTE, times, opened, high, low, close, 5.0 + np.sin(np.arange(len(close))))}


UP_THEN_DOWN = 100 * np.exp(np.cumsum(np.where(np.arange(1500) < 1100, 1, -1) * (1 + np.arange(1500) % 7) * 1e-4))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("close", "horizon", "words"),
    [
        (UP_THEN_DOWN, 3, "no row of class SELL: SELL 0, HOLD"),
        (1e4 / UP_THEN_DOWN, 3, "no row of class BUY"),
        (np.full(1500, 100.0), 3, "no row of class|no labelled rows"),
        (UP_THEN_DOWN[:1], 3, "no labelled rows"),
        (UP_THEN_DOWN, 2000, "no labelled rows"),
    ],
)
def test_bars_from_which_nothing_can_be_learned_are_refused_alike_for_every_family(
    family: str, close: np.ndarray, horizon: int, words: str
) -> None:
    with pytest.raises(SplitError, match=words):
        train(shaped(close), family, SET, source="toy", horizon=horizon, params=SMALL.get(family))


@pytest.mark.parametrize("volume", [0.0, 5.0])
def test_bars_whose_volume_never_changes_are_refused_with_the_features_that_they_leave_undefined(volume: float) -> None:
    series = shaped(UP_THEN_DOWN)["AAA"]
    still = {"AAA": dataclasses.replace(series, volume=np.full(len(series), volume))}
    with pytest.raises(SplitError, match=r"of 1,500 bars 0 have a vector, since features are undefined: volume_"):
        train(still, "logistic", SET, source="toy", horizon=3)


def test_an_unknown_parameter_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="no parameter depth"):
        train(NULL, "xgboost", SET, source="toy", params={"depth": 4})


def test_the_report_shows_skill_with_its_interval_and_accuracy_with_the_majority(results: dict[str, Trained]) -> None:
    table = render(results["xgboost"].manifest, "ab" * 32)
    names = list(table.columns[0].cells)
    assert names[0] == "skill over the class prior, mnat [95 %]"
    assert "accuracy (majority class)" in names
    assert str(table.title) == "xgboost on core-28 abababababab"
    assert "from toy" in str(table.caption)


def overconfident(rows: int, seed: int, true: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 3))
    p = probabilities(logits, true)
    return logits, (p.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)


def test_the_effect_of_a_calibration_is_stated_on_held_out_rows_and_on_the_test_part() -> None:
    effect = effect_of(Calibration(2.0, 2.0, 0.9, 1.0), *overconfident(2000, 1, 2.0))
    assert effect is not None
    assert (effect.method, effect.tried) == ("temperature", "temperature")
    assert (effect.held_before, effect.held_after) == (1.0, 0.9)
    assert effect.test_after < effect.test_before
    assert effect.error_after < effect.error_before


@pytest.mark.parametrize("vector", [None, VectorScaling((0.5, 0.5, 0.5), (0.0, 0.0, 0.0))])
def test_a_calibration_that_makes_the_test_part_worse_is_kept_and_said_so(vector: VectorScaling | None) -> None:
    chosen = Calibration(1.0 if vector else 2.0, 2.0, 0.9, 1.0, vector)
    effect = effect_of(chosen, *overconfident(2000, 1, 1.0))
    assert effect is not None
    assert effect.method == effect.tried == ("vector" if vector else "temperature")
    assert effect.test_after > effect.test_before


def test_the_test_part_decides_nothing_about_what_is_served() -> None:
    """Its labels are shuffled, so that the calibration does harm there: the same model is served, calibrated alike."""
    recipe = Recipe("logistic", SET.name, complete(FAMILIES["logistic"], {}), 3, HOLD, 1)
    prepared = prepare(SERIES, SET, recipe)
    fitted = fit(prepared)
    y = prepared.y.copy()
    y[prepared.parts.test] = np.random.default_rng(1).permutation(y[prepared.parts.test])
    one, other = (measure(each, fitted, Origin("toy", 3, SERIES)) for each in (prepared, prepared._replace(y=y)))
    effect = other.manifest.metrics.calibration
    assert effect is not None
    assert effect.test_after > effect.test_before
    assert one.manifest.temperature == other.manifest.temperature != 1.0
    for field in ("vector", "centre", "prior", "scaler", "label"):
        assert getattr(one.manifest, field) == getattr(other.manifest, field), field
    assert one.files == other.files


def test_an_artifact_says_what_calibration_did_and_what_it_was_trained_with(results: dict[str, Trained]) -> None:
    manifest = results["patchtst"].manifest
    done = manifest.metrics.calibration
    assert done is not None
    assert done.method == "none" or done.held_after <= done.held_before
    assert "torch" in manifest.trained_with
    assert "torch" not in manifest.libraries
    assert results["prior"].manifest.metrics.calibration is None
    assert "log loss" in str(render(manifest).caption)


@pytest.mark.parametrize("missing", ["scipy.optimize", "sklearn.linear_model"])
def test_a_library_that_is_needed_after_a_fit_is_missed_before_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    steps: list[Epoch] = []
    with pytest.raises(LibraryMissingError, match=re.escape(install_command("train"))):
        train(PLANTED, "xgboost", SET, source="toy", horizon=3, watch=steps.append)
    assert not steps
