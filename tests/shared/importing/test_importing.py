"""Weights from elsewhere: recognised, answered as torch would, and nothing in them is run."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from bench import old_models
from bench.toy import market
from shared.artifacts import ArtifactStore
from shared.artifacts.checks import check_stored
from shared.families import WeightsError, complete
from shared.families.imported import IMPORTED
from shared.features import SETS
from shared.importing import comparing, layouts, reading
from shared.importing.importer import import_weights
from shared.importing.layouts import DetectedLayout, LayoutError
from shared.importing.order import OrderError, Widths, ordered
from shared.importing.reading import SourceFileError
from shared.training.fitting import NotStoredError, Trained

THREE = ("SELL", "HOLD", "BUY")
OLD: dict[str, tuple[Callable[[], dict[str, Any]], int, dict[str, int | float], tuple[str, ...]]] = {
    "v5-nhits": (old_models.v5_nhits, 18, {}, THREE),
    "v5-patchtst": (old_models.v5_patchtst, 18, {"window": 16}, THREE),
    "v3-transformer": (old_models.v3_transformer, 23, {"window": 1}, THREE),
    "v2-patches": (old_models.v2_patches, 8, {}, ("SELL", "BUY")),
}


def arrays(state: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in state.items()}


def recognised(name: str) -> DetectedLayout:
    torch.manual_seed(1)
    make, features, said, classes = OLD[name]
    return layouts.recognise(arrays(make()), features, said, classes)


@pytest.mark.parametrize(("name", "tensors"), [("v5-nhits", 20), ("v5-patchtst", 54)])
def test_the_old_files_have_as_many_tensors_as_were_found(name: str, tensors: int) -> None:
    assert len(OLD[name][0]()) == tensors


@pytest.mark.parametrize("name", OLD)
def test_an_old_network_is_recognised_and_answers_as_torch_does(name: str) -> None:
    found, features = recognised(name), OLD[name][1]
    assert found.layout == name
    family = IMPORTED[found.family]
    settings = complete(family, {**found.params, "hold": 0.5})
    model = family.network(found.weights, features, settings)
    windows = np.random.default_rng(2).standard_normal((33, family.window(settings), features))
    served = model.logits(windows)
    assert comparing.compare(found.family, found.weights, settings, served, windows) < 1e-5
    again = family.load(family.save(model), features, settings)
    assert again.logits(windows).tobytes() == served.tobytes()
    assert np.concatenate([again.logits(windows[row : row + 1]) for row in range(33)]).tobytes() == served.tobytes()


def test_what_the_tensors_show_is_not_asked() -> None:
    assert recognised("v2-patches").params | {"heads": 4} == {
        "window": 128, "patch": 16, "sigmoid": 1, "heads": 4, "gelu": 0, "last": 0,
    }  # fmt: skip
    assert recognised("v5-nhits").params == {"window": 1, "sigmoid": 0}


def test_what_they_do_not_show_is_asked_for() -> None:
    with pytest.raises(LayoutError, match="do not determine window: state --param window="):
        layouts.recognise(arrays(old_models.v5_patchtst()), 18, {}, THREE)
    unknown = {name: tensor for name, tensor in old_models.v3_transformer().items() if not name.startswith("norm")}
    with pytest.raises(LayoutError, match="do not determine window, heads, gelu, last"):
        layouts.recognise(arrays(unknown), 23, {}, THREE)
    found = layouts.recognise(arrays(unknown), 23, {"window": 4, "heads": 2, "gelu": 1, "last": 1}, THREE)
    assert found.layout == ""


def served(name: str, state: dict[str, np.ndarray]) -> None:
    _, features, said, classes = OLD[name]
    found = layouts.recognise(state, features, said, classes)
    settings = complete(IMPORTED[found.family], {**found.params, "hold": 0.5})
    IMPORTED[found.family].network(found.weights, features, settings)


@pytest.mark.parametrize("name", OLD)
def test_a_tensor_too_many_or_too_few_is_refused(name: str) -> None:
    state = arrays(OLD[name][0]())
    served(name, state)
    with pytest.raises((LayoutError, WeightsError)):
        served(name, {**state, "extra.gamma": np.ones(3, np.float32)})
    for missing in state:
        # Without its table of positions it is another network, whose window is not known.
        with pytest.raises((LayoutError, WeightsError)):
            served(name, {name: array for name, array in state.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "features", "said", "classes", "words"),
    [
        ("v5-nhits", 23, {}, THREE, "not a whole number of vectors of 23 features"),
        ("v5-nhits", 18, {"window": 4}, THREE, "the tensors show 1"),
        ("v5-nhits", 18, {}, ("SELL", "BUY"), "state their classes in order"),
        ("v2-patches", 8, {}, THREE, "state --classes SELL,BUY"),
        ("v5-patchtst", 23, {"window": 4}, THREE, "not a whole number of vectors"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    name: str, features: int, said: Any, classes: tuple[str, ...], words: str
) -> None:
    with pytest.raises(LayoutError, match=words):
        layouts.recognise(arrays(OLD[name][0]()), features, said, classes)


class Deep(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Stacks and a head of three layers, two of which have the same shape."""

    def __init__(self, features: int = 18, window: int = 4, width: int = 32) -> None:
        super().__init__()
        nn = torch.nn
        wide = [features * window, width, width, width]
        self.stacks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(inputs, width),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Dropout(0.1),
            )
            for inputs in wide
        )
        self.fc = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(width, 3),
        )  # fmt: skip

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        x = windows.flatten(1)
        for stack in self.stacks:
            x = stack(x) + x if x.shape[1] == stack[3].out_features else stack(x)
        return self.fc(x)


@pytest.mark.parametrize("seed", range(20))
def test_a_network_is_the_same_in_whatever_order_a_file_returns_its_tensors(seed: int) -> None:
    torch.manual_seed(5)
    model = Deep().double().eval()
    state = arrays(dict(model.state_dict()))
    names = [str(name) for name in np.random.default_rng(seed).permutation(list(state))]
    found = layouts.recognise({name: state[name] for name in names}, 18, {}, THREE)
    windows = np.random.default_rng(2).standard_normal((7, 4, 18)).astype(np.float32)
    served = IMPORTED[found.family].network(found.weights, 18, complete(IMPORTED[found.family], found.params))
    with torch.no_grad():
        expected = model(torch.from_numpy(windows).double()).numpy()
    np.testing.assert_allclose(served.logits(windows), expected, atol=1e-4)


@pytest.mark.parametrize("name", OLD)
def test_every_old_network_is_the_same_in_another_order(name: str) -> None:
    torch.manual_seed(1)
    make, features, said, classes = OLD[name]
    state = arrays(make())
    other = layouts.recognise(dict(reversed(state.items())), features, said, classes)
    found = layouts.recognise(state, features, said, classes)
    assert other.params == found.params
    assert {key: array.tobytes() for key, array in other.weights.items()} == {
        key: array.tobytes() for key, array in found.weights.items()
    }


def test_the_order_of_layers_comes_from_numbers_and_shapes_or_is_asked_for() -> None:
    square, last = Widths(8, 8), Widths(8, 3)
    assert ordered({"fc.10": last, "fc.9": square, "fc.0": square}, 8) == ["fc.0", "fc.9", "fc.10"]
    assert ordered({"out": last, "hidden": Widths(4, 8)}) == ["hidden", "out"]
    with pytest.raises(OrderError, match=r"more than one order.*hidden.*out"):
        ordered({"out": square, "hidden": square})
    with pytest.raises(OrderError, match="do not follow one another in any order after 5 values"):
        ordered({"fc.0": square, "fc.1": last}, 5)
    with pytest.raises(OrderError, match="in any order"):  # their numbers contradict their shapes
        ordered({"fc.0": last, "fc.1": square}, 8)


def test_outputs_are_put_in_our_order() -> None:
    state = arrays(old_models.v5_nhits())
    ours = layouts.recognise(state, 18, {}, THREE)
    theirs = layouts.recognise(state, 18, {}, ("BUY", "HOLD", "SELL"))
    assert (ours.weights["head.1.bias"] == theirs.weights["head.1.bias"][::-1]).all()
    one = arrays(old_models.v2_patches())
    buy, sell = (layouts.recognise(one, 8, {}, order) for order in (("SELL", "BUY"), ("BUY", "SELL")))
    assert (buy.weights["head.0.weight"] == -sell.weights["head.0.weight"]).all()


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_pickle_in_place_of_weights_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    file = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(2), "evil": Evil(str(mark))}, file)
    with pytest.raises(SourceFileError, match="without running code"):
        reading.state_dict(file)
    file.write_bytes(pickle.dumps(Evil(str(mark))))
    with pytest.raises(SourceFileError):
        reading.state_dict(file)
    assert not mark.exists()


def fitted_scaler(features: int = 8) -> StandardScaler:
    return StandardScaler().fit(np.random.default_rng(0).normal(3, 2, (200, features)))


def test_a_pickled_scaler_is_opened_on_request_alone_and_gives_its_numbers(tmp_path: Path) -> None:
    scaler = fitted_scaler()
    file = tmp_path / "scaler.pkl"
    file.write_bytes(pickle.dumps(scaler))
    with pytest.raises(SourceFileError, match="--unpickle-scaler"):
        reading.scaler(file, unpickle=False)
    found = reading.scaler(file, unpickle=True)
    assert found.mean == pytest.approx(scaler.mean_)
    assert found.scale == pytest.approx(scaler.scale_)
    (tmp_path / "scaler.json").write_text(json.dumps({"mean": list(found.mean), "scale": list(found.scale)}))
    assert reading.scaler(tmp_path / "scaler.json", unpickle=False) == found


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        StandardScaler(with_mean=False, with_std=False),
        RobustScaler(),
        RobustScaler(with_centering=False, unit_variance=True),
        RobustScaler(with_scaling=False),
        MinMaxScaler((-1, 2)),
        MaxAbsScaler(),
        Pipeline([("scale", RobustScaler())]),
    ],
    ids=repr,
)
def test_a_scaler_does_what_scikit_learn_does_with_it(tmp_path: Path, scaler: Any) -> None:
    rows = np.random.default_rng(0).normal(3, 2, (200, 5))
    (tmp_path / "scaler.pkl").write_bytes(pickle.dumps(scaler.fit(rows)))
    found = reading.scaler(tmp_path / "scaler.pkl", unpickle=True)
    np.testing.assert_allclose((rows - found.mean) / found.scale, scaler.transform(rows), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("scaler", "words"),
    [
        (MinMaxScaler(clip=True), "clip=True"),
        (Normalizer(), "Normalizer; only StandardScaler"),
        (QuantileTransformer(n_quantiles=10), "QuantileTransformer; only"),
        (Pipeline([("scale", RobustScaler()), ("again", StandardScaler())]), "a pipeline of 2 steps"),
    ],
    ids=repr,
)
def test_a_scaler_that_two_numbers_a_feature_do_not_describe_is_refused_by_name(
    tmp_path: Path, scaler: Any, words: str
) -> None:
    scaler.fit(np.random.default_rng(0).normal(3, 2, (200, 5)))
    (tmp_path / "scaler.pkl").write_bytes(pickle.dumps(scaler))
    with pytest.raises(SourceFileError, match=words):
        reading.scaler(tmp_path / "scaler.pkl", unpickle=True)


def test_a_scaler_that_was_never_fitted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scaler.pkl").write_bytes(pickle.dumps(StandardScaler()))
    with pytest.raises(SourceFileError, match="the StandardScaler was not fitted"):
        reading.scaler(tmp_path / "scaler.pkl", unpickle=True)


def test_a_scaler_of_features_in_another_order_is_refused(tmp_path: Path) -> None:
    names = list(SETS["user-18"].names)
    scaler = fitted_scaler(18)
    weights = saved(tmp_path, old_models.v5_nhits())

    def imported(order: list[str]) -> Trained:
        scaler.feature_names_in_ = np.array(order, dtype=object)
        (tmp_path / "scaler.pkl").write_bytes(pickle.dumps(scaler))
        return import_weights(weights, BARS, SETS["user-18"], scaler=tmp_path / "scaler.pkl", unpickle=True, **HOW)

    assert imported(names).manifest.scaler is not None
    with pytest.raises(SourceFileError, match=f"number 1 is '{names[1]}', in the feature set it is '{names[0]}'"):
        imported([names[1], names[0], *names[2:]])


def test_a_pickle_that_is_no_scaler_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    file = tmp_path / "scaler.pkl"
    file.write_bytes(pickle.dumps(Evil(str(mark))))
    with pytest.raises(SourceFileError, match=r"it names (posix|os)\.mkdir"):
        reading.scaler(file, unpickle=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"mean": [1.0], "scale": [1.0, 2.0]}, "one mean and one scale"),
        ({"mean": [1.0], "scale": [0.0]}, "above 0"),
        ({"mean": [1.0]}, "scale"),
    ],
)
def test_a_scaler_that_is_none_is_refused(tmp_path: Path, numbers: Any, words: str) -> None:
    (tmp_path / "scaler.json").write_text(json.dumps(numbers))
    with pytest.raises(SourceFileError, match=words):
        reading.scaler(tmp_path / "scaler.json", unpickle=False)


def saved(tmp_path: Path, state: dict[str, Any]) -> Path:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "weights.pth").write_bytes(buffer.getvalue())
    return tmp_path / "weights.pth"


BARS = {name: market(name, 1500, 0.6, seed) for seed, name in enumerate(("AAA", "BBB"))}
HOW: dict[str, Any] = {"classes": THREE, "params": {"window": 1}, "source": "toy", "horizon": 3, "hold": 0.55}


def test_an_imported_network_is_an_artifact_like_any_other(tmp_path: Path) -> None:
    torch.manual_seed(3)
    features = SETS["user-18"]
    vectors = np.array([0.0] * 18), np.array([1.0] * 18)
    (tmp_path / "scaler.json").write_text(json.dumps({"mean": list(vectors[0]), "scale": list(vectors[1])}))
    weights = saved(tmp_path, old_models.v5_nhits())
    imported = import_weights(weights, BARS, features, scaler=tmp_path / "scaler.json", **HOW)
    known = imported.manifest.imported
    assert known is not None
    assert (known.file, known.layout, known.scaler) == ("weights.pth", "v5-nhits", "scaler.json")
    store = ArtifactStore(tmp_path / "store")
    digest = store.save(imported.manifest, imported.files)
    assert check_stored(store, digest).failed == ()


def test_a_network_that_answers_the_same_to_everything_is_refused(tmp_path: Path) -> None:
    """0.970 for three different symbols."""
    torch.manual_seed(3)
    state = old_models.v5_nhits()
    state["fc.3.weight"] *= 0.0
    with pytest.raises(NotStoredError, match="collapsed"):
        import_weights(saved(tmp_path, state), BARS, SETS["user-18"], **HOW)


def test_a_scaler_of_another_width_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scaler.json").write_text(json.dumps({"mean": [0.0], "scale": [1.0]}))
    with pytest.raises(SourceFileError, match="a scaler of 1 features, the feature set has 18"):
        import_weights(
            saved(tmp_path, old_models.v5_nhits()), BARS, SETS["user-18"], scaler=tmp_path / "scaler.json", **HOW
        )
