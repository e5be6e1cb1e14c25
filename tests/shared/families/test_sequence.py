"""What the torch families share: members, weights that are only data, training that is deterministic."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from shared.families import FAMILIES, Epoch, Family, Sample, WeightsError, complete, learning
from shared.families.losses import mean_log_loss
from shared.families.sequence import FILE
from shared.families.tensors import arrays_in, written
from shared.labels.batch import classes

FEATURES = 4
SHORT: dict[str, int | float] = {"window": 8, "epochs": 6, "batch": 64, "rate": 0.01}
SIZES: dict[str, dict[str, int | float]] = {"patchtst": {"patch": 4, "stride": 4}, "nhits": {"hidden": 16}}


def params_of(name: str, **more: int | float) -> dict[str, int | float]:
    return complete(FAMILIES[name], {**SHORT, **SIZES[name], **more})


def windows(seed: int, rows: int) -> learning.Floats:
    return np.random.default_rng(seed).standard_normal((rows, 8, FEATURES)).astype(np.float32)


def sample(seed: int, rows: int = 600) -> Sample:
    """The class follows the mean of the first feature over the whole window: the newest vector holds an
    eighth of it."""
    x = windows(seed, rows)
    z = 4 * x[:, :, 0].mean(axis=1) + 0.3 * np.random.default_rng(seed + 100).standard_normal(rows)
    return Sample(x, classes(z, 0.6), np.ones(rows))


def fitted(name: str, seed: int = 3, **more: int | float) -> Any:
    family = FAMILIES[name]
    return family.fit(sample(1), sample(2, 300), seed, params_of(name, **more)).model


MODELS = {name: fitted(name, seeds=2) for name in SIZES}


@pytest.fixture(params=SIZES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_a_pattern_in_the_window_is_learned(family: Family) -> None:
    held = sample(5)
    logits = MODELS[family.name].logits(held.x)
    assert (logits.argmax(axis=1) == held.y).mean() > 0.7
    assert np.bincount(held.y).max() / len(held.y) < 0.5


def test_members_are_averaged_as_probabilities(family: Family) -> None:
    model, x = MODELS[family.name], windows(6, 40)
    one, two = (torch.softmax(torch.from_numpy(net.logits(x)), -1).numpy() for net in model.nets)
    assert np.abs(one - two).max() > 1e-3
    assert np.exp(model.logits(x)) == pytest.approx((one + two) / 2, rel=1e-9)


def test_a_member_is_the_network_of_its_seed_and_seeds_differ(family: Family) -> None:
    alone = fitted(family.name)
    x = windows(6, 40)
    assert alone.logits(x).tobytes() == MODELS[family.name].nets[0].logits(x).tobytes()
    assert fitted(family.name, seed=4).logits(x).tobytes() != alone.logits(x).tobytes()


def test_a_served_form_that_answers_otherwise_than_the_trained_one_is_refused(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = learning.predict
    monkeypatch.setattr(learning, "predict", lambda net, x: honest(net, x) + np.array([1e-3, 0, 0]))
    with pytest.raises(ValueError, match=r"a probability differs by .* from torch's on the held rows"):
        fitted(family.name, epochs=1)


def test_training_leaves_the_random_numbers_of_others_alone(family: Family) -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    fitted(family.name, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_best_epoch_is_kept_and_not_the_last(family: Family) -> None:
    seen: list[Epoch] = []
    train, held = sample(1, 200), sample(2, 300)
    params = params_of(family.name, epochs=40, patience=4, batch=20)
    found = family.fit(train, held, 1, params, seen.append)
    assert len(seen) == found.steps + 4
    best = min(seen, key=lambda epoch: epoch.held_loss)
    assert best.number == found.steps
    assert found.model.logits(held.x) == pytest.approx(best.held, abs=1e-4)


def test_rows_without_weight_teach_nothing(family: Family) -> None:
    train, held = sample(1, 300), sample(2, 100)
    rng = np.random.default_rng(0)
    weight = np.ones(300)
    weight[::2] = 0
    lying = train.y.copy()
    lying[::2] = rng.integers(0, 3, 150)
    params = params_of(family.name, epochs=2)
    true = rng.standard_normal((300, 2)).astype(np.float32)
    wrong = np.where(weight[:, None] == 0, np.float32(9), true)
    honest, other = (
        family.fit(Sample(train.x, y, weight, ahead=ahead), held, 1, params).model.logits(held.x)
        for y, ahead in ((train.y, true), (lying, wrong))
    )
    assert honest.tobytes() == other.tobytes()


def moving(seed: int, rows: int) -> Sample:
    """Whether the price moves follows the window, but one class shows little of it: half of them are of chance. The
    volatility ahead shows all of it."""
    x, random = windows(seed, rows), np.random.default_rng(seed + 100)
    signal = 2 * x[:, :, 0].mean(axis=1)
    z = np.exp(signal) * random.standard_normal(rows)
    return Sample(x, classes(z, 0.7), np.ones(rows), ahead=np.stack([signal, signal], axis=1).astype(np.float32))


def test_the_volatility_ahead_teaches_what_few_classes_do_not_show(family: Family) -> None:
    train, held = moving(1, 300), moving(2, 2000)
    losses = []
    for weight in (0, 5):
        found = family.fit(train, held, 1, params_of(family.name, epochs=12, auxiliary=weight)).model.logits(held.x)
        losses.append(mean_log_loss(found, held.y, held.weight))
    assert losses[1] < losses[0] - 0.01


def test_without_its_weight_or_its_values_the_fit_is_that_of_classes_alone(family: Family) -> None:
    train, held = moving(1, 300), moving(2, 100)
    alone = params_of(family.name, epochs=2, auxiliary=0)
    before = {name: value for name, value in alone.items() if name != "auxiliary"}
    bits = [
        family.fit(sample, held, 1, params).model.logits(held.x).tobytes()
        for sample, params in ((train, alone), (train, before), (train._replace(ahead=None), alone))
    ]
    assert bits[0] == bits[1] == bits[2]


def test_the_reported_loss_is_that_of_the_classes(family: Family) -> None:
    seen: list[Epoch] = []
    train, held = moving(1, 300), moving(2, 300)
    family.fit(train, held, 1, params_of(family.name, epochs=2, rate=1e-4, auxiliary=9), seen.append)
    assert all(epoch.train_loss == pytest.approx(epoch.held_loss, abs=0.1) for epoch in seen)


def test_only_the_three_classes_are_served(family: Family) -> None:
    train, held = moving(1, 300), moving(2, 100)
    sizes = [
        {name: array.shape for name, array in family.fit(train, held, 1, params).model.nets[0].weights.items()}
        for params in (params_of(family.name, epochs=1, auxiliary=weight) for weight in (0, 1))
    ]
    assert sizes[0] == sizes[1]


def altered(family: Family, change: str) -> bytes:
    arrays = arrays_in(family.save(MODELS[family.name])[FILE], FILE)
    name = min(arrays)
    match change:
        case "missing":
            del arrays[name]
        case "added":
            arrays["0.extra"] = np.zeros(3, np.float32)
        case "renamed":
            arrays[f"{name}x"] = arrays.pop(name)
        case "shape":
            arrays[name] = arrays[name][..., :-1]
        case "type":
            arrays[name] = arrays[name].astype(np.float64)
        case _:
            arrays[name] = arrays[name] * np.float32(np.nan)
    return written(arrays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", r": missing"),
        ("added", r"extra: unknown"),
        ("renamed", r"missing; .*x: unknown"),
        ("shape", r": float32 \[.*\], expected float32 \["),
        ("type", r": float64 \[.*\], expected float32 \["),
        ("nan", r"not finite"),
    ],
)
def test_weights_that_are_not_exactly_this_network_are_refused(family: Family, change: str, words: str) -> None:
    with pytest.raises(WeightsError, match=f"^{FILE}: .*{words}"):
        family.load({FILE: altered(family, change)}, FEATURES, params_of(family.name, seeds=2))


def test_another_number_of_members_or_features_is_refused(family: Family) -> None:
    files = family.save(MODELS[family.name])
    with pytest.raises(WeightsError, match=f"^{FILE}: 1.*: expected a tensor of one of the manifest.s 1 members"):
        family.load(files, FEATURES, params_of(family.name))
    with pytest.raises(WeightsError, match=f"^{FILE}: .*expected float32"):
        family.load(files, FEATURES + 1, params_of(family.name, seeds=2))


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was run",))


OTHERS = {"pickle": pickle.dumps(Bomb()), "empty": b"", "zip": b"PK\x03\x04", "zeros": b"\x00" * 64}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_a_file_that_is_not_safetensors_is_refused_and_never_run(family: Family, data: bytes) -> None:
    with pytest.raises(WeightsError, match=f"^{FILE}: not safetensors"):
        family.load({FILE: data}, FEATURES, params_of(family.name))


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("window", 0),
        ("window", 513),
        ("seeds", 1.5),
        ("epochs", -1),
        ("batch", 10**9),
        ("dropout", 1.5),
        ("rate", 0),
        ("decay", -1),
        ("auxiliary", -1),
        ("auxiliary", float("nan")),
    ],
)
def test_a_size_out_of_range_is_refused_before_any_work(family: Family, size: str, value: float) -> None:
    params = {**params_of(family.name), size: value}
    words = f"{size} is .*, expected (a whole number from 1 to (512|4096)|above 0|at least 0|at least 0 and below 1)"
    with pytest.raises(ValueError, match=words):
        family.fit(sample(1), sample(2), 1, params)
    with pytest.raises(WeightsError, match=words):
        family.load(family.save(MODELS[family.name]), FEATURES, params)


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name in SIZES for preset in FAMILIES[name].presets])
def test_every_preset_is_a_network_that_answers(name: str, preset: str) -> None:
    family = FAMILIES[name]
    params = complete(family, {}, preset)
    torch.manual_seed(0)
    net = family.network(5, params).eval()  # type: ignore[attr-defined]  # of sequence families
    x = np.random.default_rng(0).standard_normal((4, family.window(params), 5)).astype(np.float32)
    served = family.serving(learning.arrays_of(net), 5, params)  # type: ignore[attr-defined]  # of sequence families
    assert served.logits(x) == pytest.approx(learning.predict(net, x), abs=1e-5)


def test_an_unknown_preset_is_refused_by_name(family: Family) -> None:
    with pytest.raises(ValueError, match="no preset 'paper-2'; it has: steps-128"):
        complete(family, {}, "paper-2")
