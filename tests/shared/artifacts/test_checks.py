"""Every family passes the checks; the collapsed models of the past fail them, each by the right name."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from msgspec import structs

from bench.toy import market
from shared.artifacts import GOLDEN, Artifact, Golden
from shared.artifacts.artifact import read_golden
from shared.artifacts.checks import LIMITS, CheckReport, Limits, check_model
from shared.artifacts.manifest import FeatureSetRef, Scaler
from shared.bars import Bars
from shared.families import FAMILIES, family_named
from shared.features import SETS
from shared.training.fitting import train

SHORT: dict[str, dict[str, int | float]] = {
    "xgboost": {"rounds": 20},
    "lightgbm": {"rounds": 20},
    "patchtst": {"window": 8, "patch": 4, "stride": 4, "epochs": 3, "batch": 128, "rate": 0.01},
    "nhits": {"window": 8, "epochs": 3, "batch": 128, "hidden": 16, "rate": 0.01},
}


class Made(NamedTuple):
    artifact: Artifact
    golden: Golden
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def bars() -> dict[str, Bars]:
    return {name: market(name, 1500, 0.6, seed) for seed, name in enumerate(("AAA", "BBB"))}


@pytest.fixture(scope="module")
def logistic(bars: dict[str, Bars]) -> Made:
    return made("logistic", bars)


def made(family: str, bars: dict[str, Bars]) -> Made:
    trained = train(bars, family, SETS["user-8"], source="toy", horizon=3, params=SHORT.get(family))
    manifest, files = trained.manifest, trained.files
    weights = {name: data for name, data in files.items() if name != GOLDEN}
    model = family_named(family).load(weights, len(manifest.feature_set.names), manifest.params)
    return Made(Artifact("made here", manifest, model), read_golden(files[GOLDEN]), files)


def names(report: CheckReport) -> set[str]:
    return {check.name for check in report.failed}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_every_check(family: str, bars: dict[str, Bars]) -> None:
    report = check_model(*made(family, bars))
    assert report.failed == (), str(report)
    moving = {"distinct", "perturbation", "across_symbols", "over_time", "not_prior"}
    assert ({check.name for check in report.checks} >= moving) is not FAMILIES[family].constant


def linear(logistic: Made, slope: list[float], lean: float, golden: Golden, **other: Any) -> Made:
    """A linear model by hand: ``slope`` of each of eight inputs and ``lean``, towards BUY and away from SELL."""
    coefficients = [(-one, 0.0, one) for one in [*slope, lean]]
    files = {"weights.json": msgspec.json.encode({"coefficients": coefficients})}
    usual = {"scaler": Scaler((0.0,) * 8, (1.0,) * 8, 8.0), "temperature": 1.0, "prior": (0.4, 0.2, 0.4)}
    manifest = structs.replace(logistic.artifact.manifest, **{**usual, **other})
    artifact = Artifact("by hand", manifest, family_named("logistic").load(files, 8, manifest.params))
    return Made(artifact, golden._replace(expected=artifact.predict(golden.windows)), files)


def inputs(symbols: int = 3, moments: int = 150, shared: int = 0) -> Golden:
    """Standard normal vectors; the first ``shared`` features are one for all symbols of a moment."""
    random = np.random.default_rng(0)
    windows = random.standard_normal((moments, symbols, 8)).astype(np.float32)
    windows[:, :, :shared] = windows[:, :1, :shared]
    return Golden(windows.reshape(-1, 1, 8), np.empty((0, 3)), np.repeat(np.arange(moments), symbols))


def test_a_healthy_linear_model_passes(logistic: Made) -> None:
    assert names(check_model(*linear(logistic, [0.3] * 8, 0.0, inputs()))) == set()


def test_four_hundred_and_fifty_values_within_a_ten_thousandth_are_not_distinct(logistic: Made) -> None:
    """P0.4: 0.6206 to 0.6207, standard deviation 2e-5, 450 different values."""
    made = linear(logistic, [2e-5] * 8, 0.41, inputs())
    answers = made.golden.expected[:, 2]
    assert len(np.unique(answers)) > 400
    assert np.ptp(answers) < 2e-4
    failed = names(check_model(*made))
    assert "distinct" in failed
    assert "constant" not in failed


def test_one_answer_is_constant(logistic: Made) -> None:
    """P0.6: 0.5239 for everything."""
    assert {"constant", "distinct", "spread", "perturbation"} <= names(
        check_model(*linear(logistic, [0.0] * 8, 0.1, inputs()))
    )


@pytest.mark.parametrize("lean", [3.1, 1.9])
def test_one_answer_for_all_symbols_is_found_though_it_moves_with_time(logistic: Made, lean: float) -> None:
    """0.970 and 0.904 for three different symbols: an answer that knows the hour and not the symbol."""
    made = linear(logistic, [0.5] * 2 + [0.0] * 6, lean, inputs(shared=2))
    assert names(check_model(*made)) == {"across_symbols"}


def test_a_copy_of_the_prior_is_found(logistic: Made) -> None:
    made = linear(logistic, [0.001] * 8, 0.0, inputs(), prior=(1 / 3, 1 / 3, 1 / 3))
    assert "not_prior" in names(check_model(*made))


class Other:
    """A model that does one thing wrong."""

    def __init__(self, model: Any, fault: str) -> None:
        self.model, self.fault, self.asked = model, fault, 0

    def logits(self, windows: Any) -> Any:
        self.asked += 1
        found = self.model.logits(windows)
        match self.fault:
            case "repeats":
                return found + 0.01 * self.asked * np.array([1.0, 0.0, 0.0])
            case "batch_shape":
                return found - found.mean(axis=0)
            case _:
                return found


@pytest.mark.parametrize("fault", ["repeats", "batch_shape"])
def test_answers_that_depend_on_more_than_their_row_are_found(logistic: Made, fault: str) -> None:
    made = linear(logistic, [0.3] * 8, 0.0, inputs())
    model = Other(family_named("logistic").load(made.files, 8, made.artifact.manifest.params), fault)
    assert fault in names(check_model(Artifact("odd", made.artifact.manifest, model), made.golden, made.files))


def test_other_weights_than_those_that_made_the_golden_answers_are_found(logistic: Made) -> None:
    made, other = (linear(logistic, [slope] * 8, 0.0, inputs()) for slope in (0.3, 0.31))
    assert names(check_model(made.artifact, made.golden, other.files)) == {"same_bits"}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("user-8", lambda known: (*known[1:], known[0]), "another order or other names"),
        ("user-8", lambda known: (*known[:-1], "rsi_99"), "rsi_99 in the artifact"),
        ("user-9", lambda known: known, "no feature set 'user-9'"),
    ],
)
def test_features_of_another_set_or_in_another_order_are_found(
    logistic: Made, name: str, change: Any, words: str
) -> None:
    named = SETS["user-8"]
    reference = FeatureSetRef(name, named.digest.hex(), change(named.names))
    report = check_model(*linear(logistic, [0.3] * 8, 0.0, inputs(), feature_set=reference))
    assert names(report) == {"feature_set"}
    assert words in str(report)


def test_a_feature_set_that_is_computed_otherwise_here_is_found(logistic: Made) -> None:
    reference = structs.replace(logistic.artifact.manifest.feature_set, digest="ab" * 32)
    assert names(check_model(*linear(logistic, [0.3] * 8, 0.0, inputs(), feature_set=reference))) == {"feature_set"}


def test_what_takes_anything_is_found(logistic: Made) -> None:
    made = linear(logistic, [0.3] * 8, 0.0, inputs())

    class Careless(Artifact):
        def predict(self, windows: Any) -> Any:
            plain = np.nan_to_num(np.asarray(windows, np.float32)).reshape(-1, windows.shape[-1])[:, None, :]
            return super().predict(np.resize(plain, (len(plain), 1, 8)).astype(np.float32))

    model = family_named("logistic").load(made.files, 8, made.artifact.manifest.params)
    careless = Careless("careless", made.artifact.manifest, model)
    report = check_model(careless, made.golden, made.files)
    assert "refuses" in names(report)
    assert "accepted one vector more, one feature less, one feature more, no batch, float64, a NaN, an infinity" in str(
        report
    )


@pytest.mark.parametrize(
    ("limits", "check"),
    [
        (LIMITS._replace(latency_ms=0.0), "latency"),
        (LIMITS._replace(burst_ms=0.0), "burst"),
        (LIMITS._replace(megabytes=0.0), "size"),
    ],
)
def test_what_is_slow_or_large_is_found(logistic: Made, limits: Limits, check: str) -> None:
    made = linear(logistic, [0.3] * 8, 0.0, inputs())
    assert names(check_model(*made, limits)) == {check}


def test_a_model_of_sequences_that_sees_the_newest_vector_alone_is_found(bars: dict[str, Bars]) -> None:
    made_ = made("nhits", bars)

    class Shortsighted(Artifact):
        def predict(self, windows: Any) -> Any:
            return super().predict(np.repeat(windows[:, -1:], windows.shape[1], axis=1))

    weights = {name: data for name, data in made_.files.items() if name != GOLDEN}
    manifest = made_.artifact.manifest
    model = family_named("nhits").load(weights, 8, manifest.params)
    short = Shortsighted("short", manifest, model)
    assert "over_time" in names(check_model(short, made_.golden, made_.files))
