"""What every family must pass. A new one is added to ``FAMILIES`` and judged by this list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from bench.graphs import perceptron
from shared.families import (
    FAMILIES,
    Epoch,
    Family,
    Fitted,
    Sample,
    UnknownFamilyError,
    Watch,
    WeightsError,
    complete,
    family_named,
)
from shared.families.imported.onnx import ONNX
from shared.families.logistic import RIDGES
from shared.families.losses import mean_log_loss
from shared.labels.batch import classes

FEATURES = 6
SHORT: dict[str, dict[str, int | float]] = {
    "xgboost": {"rounds": 30},
    "lightgbm": {"rounds": 30},
    "patchtst": {"window": 8, "patch": 4, "stride": 4, "epochs": 6, "batch": 64, "rate": 0.01},
    "nhits": {"window": 8, "epochs": 6, "batch": 64, "hidden": 16, "rate": 0.01},
    "onnx": {"window": 4},
}


def sample(name: str, seed: int, rows: int = 1500) -> Sample:
    """Standard normal features; of the newest vector the first two carry the class, the rest nothing."""
    rng = np.random.default_rng(seed)
    window = family_named(name).window(params_of(name))
    x = rng.standard_normal((rows, window, FEATURES)).astype(np.float32)
    z = x[:, -1, 0] + 0.5 * x[:, -1, 1] + rng.standard_normal(rows)
    return Sample(x, classes(z, 0.8), np.ones(rows))


def params_of(name: str) -> dict[str, int | float]:
    return complete(family_named(name), SHORT.get(name, {}))


def fitted(name: str, watch: Watch | None = None) -> Fitted:
    return FAMILIES[name].fit(sample(name, 1), sample(name, 2, 600), 7, params_of(name), watch)


MODELS = {name: fitted(name).model for name in FAMILIES}
MODELS["onnx"] = ONNX.load({"model.onnx": perceptron(FEATURES, 4).SerializeToString()}, FEATURES, params_of("onnx"))
SERVED = (*FAMILIES, "onnx")
"""Families that are trained here, and one whose models come from elsewhere."""


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(params=SERVED)
def served(request: pytest.FixtureRequest) -> Family:
    return family_named(request.param)


def test_a_saved_model_answers_with_the_same_bits(served: Family) -> None:
    model, asked = MODELS[served.name], ASKED[served.name]
    again = served.load(served.save(model), FEATURES, params_of(served.name))
    assert again.logits(asked).tobytes() == model.logits(asked).tobytes()
    assert served.save(again) == served.save(model)


def test_the_same_seed_gives_the_same_files(family: Family) -> None:
    assert family.save(fitted(family.name).model) == family.save(MODELS[family.name])


ASKED = {name: sample(name, 3, 160).x for name in SERVED}
WHOLE = {name: model.logits(ASKED[name]) for name, model in MODELS.items()}


@given(rows=st.integers(1, 40), start=st.integers(0, 120))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", SERVED)
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(name: str, rows: int, start: int) -> None:
    part = MODELS[name].logits(ASKED[name][start : start + rows])
    assert part.tobytes() == WHOLE[name][start : start + rows].tobytes()


def test_watching_tells_how_the_fit_stands_and_changes_nothing(family: Family) -> None:
    seen: list[Epoch] = []
    model = fitted(family.name, seen.append).model
    assert family.save(model) == family.save(MODELS[family.name])
    assert bool(seen) != family.constant
    held = sample(family.name, 2, 600)
    assert [epoch.number for epoch in seen] == sorted({epoch.number for epoch in seen})
    for epoch in seen:
        assert 0 < epoch.number <= epoch.of
        assert epoch.held.shape == (600, 3)
        assert mean_log_loss(epoch.held, held.y) == pytest.approx(epoch.held_loss, rel=1e-5)
        assert 0 < epoch.train_loss < 2


def test_a_watch_that_raises_ends_the_fit(family: Family) -> None:
    def stop(epoch: Epoch) -> None:
        raise LookupError(f"enough after {epoch.number}")

    if not family.constant:
        with pytest.raises(LookupError, match="enough after"):
            fitted(family.name, stop)


def test_answers_are_finite_and_three_wide(served: Family) -> None:
    answers = MODELS[served.name].logits(sample(served.name, 4).x * 1e6)
    assert answers.shape == (1500, 3)
    assert answers.dtype == np.float64
    assert np.isfinite(answers).all()


def test_a_family_learns_what_is_there_to_learn(family: Family) -> None:
    held = sample(family.name, 5)
    hits = float((MODELS[family.name].logits(held.x).argmax(axis=1) == held.y).mean())
    majority = float(np.bincount(held.y).max() / len(held.y))
    assert hits == pytest.approx(majority) if family.constant else hits > majority + 0.08


def test_weights_of_another_family_are_refused(served: Family) -> None:
    for other in FAMILIES.values():
        if other.name != served.name:
            with pytest.raises(WeightsError, match=r"expects the weight file|not a|Object|missing|JSON|type"):
                served.load(other.save(MODELS[other.name]), FEATURES, params_of(served.name))


def test_a_second_weight_file_is_refused(served: Family) -> None:
    files = served.save(MODELS[served.name])
    with pytest.raises(WeightsError, match="expects the weight file"):
        served.load({**files, "more.json": b"{}"}, FEATURES, params_of(served.name))


def test_unreadable_weights_are_refused_with_the_name_of_the_file(served: Family) -> None:
    (name,) = served.save(MODELS[served.name])
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        served.load({name: b"not a model"}, FEATURES, params_of(served.name))


@pytest.mark.parametrize("name", ["logistic", "xgboost", "lightgbm"])
def test_weights_over_another_number_of_features_are_refused(name: str) -> None:
    family = FAMILIES[name]
    with pytest.raises(WeightsError, match=f"{FEATURES} features, manifest names 8"):
        family.load(family.save(MODELS[name]), 8, params_of(name))


@pytest.mark.parametrize("name", ["logistic", "xgboost", "lightgbm"])
def test_a_window_of_two_vectors_is_not_cut_to_one(name: str) -> None:
    with pytest.raises(ValueError, match="windows of one vector; these have 2"):
        MODELS[name].logits(np.zeros((3, 2, FEATURES), np.float32))


def test_libraries_are_named_with_versions(served: Family) -> None:
    assert all(version[0].isdigit() for version in served.libraries().values())
    assert "numpy" in served.libraries()


def test_the_prior_answers_with_the_class_frequencies() -> None:
    p = np.exp(MODELS["prior"].logits(sample("prior", 3).x[:1]))[0]
    assert p == pytest.approx(np.bincount(sample("prior", 1).y) / 1500)


def test_a_prior_without_one_class_is_refused() -> None:
    train = sample("prior", 1)
    only = Sample(train.x, np.ones(len(train.y), np.int64), train.weight)
    with pytest.raises(ValueError, match="no row in the training part"):
        FAMILIES["prior"].fit(only, only, 1, {})


def test_the_logistic_baseline_is_where_its_gradient_vanishes() -> None:
    train = sample("logistic", 1)
    model = MODELS["logistic"]
    z = model.logits(train.x)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    # The intercepts are not penalised: mean probabilities equal class frequencies.
    assert p.mean(axis=0) == pytest.approx(np.bincount(train.y) / len(train.y), abs=1e-5)


def test_the_logistic_baseline_is_that_of_another_solver_with_the_penalty_of_least_held_out_loss() -> None:
    train, held = sample("logistic", 1), sample("logistic", 2, 600)
    x, z = train.x[:, 0].astype(np.float64), held.x[:, 0].astype(np.float64)
    fits = [LogisticRegression(C=1 / (ridge * len(x)), tol=1e-10, max_iter=1000).fit(x, train.y) for ridge in RIDGES]
    best = min(fits, key=lambda fit: float(log_loss(held.y, fit.predict_proba(z))))
    ours = softmax(MODELS["logistic"].logits(held.x), axis=1)
    assert np.abs(ours - best.predict_proba(z)).max() < 1e-5


def test_an_offset_of_the_training_rows_is_taken_out_of_the_logistic_intercepts() -> None:
    train, held, offset = sample("logistic", 1), sample("logistic", 2, 600), np.array([-0.5, 0.75, 0.25])
    shifted = FAMILIES["logistic"].fit(
        train._replace(offset=offset), held._replace(offset=offset), 7, params_of("logistic")
    )
    plain = MODELS["logistic"].logits(held.x)
    assert shifted.model.logits(held.x) + offset == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("name", ["logistic", "patchtst", "nhits"])
def test_a_fit_without_rows_of_a_class_is_refused(name: str) -> None:
    train = sample(name, 1)
    only = train._replace(y=np.ones(len(train.y), np.int64))
    with pytest.raises(ValueError, match="no row in the training part"):
        FAMILIES[name].fit(only, only, 1, params_of(name))


def test_trees_predict_as_their_own_python_layers_do() -> None:
    rows = ASKED["xgboost"][:, 0]
    margins = MODELS["xgboost"]._booster.inplace_predict(rows, predict_type="margin")
    scores = MODELS["lightgbm"]._booster.predict(rows, raw_score=True, num_threads=1)
    assert MODELS["xgboost"].logits(ASKED["xgboost"]) == pytest.approx(margins)
    assert MODELS["lightgbm"].logits(ASKED["xgboost"]) == pytest.approx(scores)


def test_an_unknown_parameter_is_refused_by_name(served: Family) -> None:
    with pytest.raises(ValueError, match="no parameter max_dept;"):
        complete(served, {"max_dept": 3})


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(UnknownFamilyError, match="no model family 'patch'; there are: prior, logistic"):
        family_named("patch")
