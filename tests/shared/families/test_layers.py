"""Layers in NumPy answer as torch's do, and a row's bits are its own."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from shared.families import WeightsError
from shared.families.layers import Array, BatchNorm, LayerNorm, Linear, attended, checked, erf, gelu
from shared.families.nhits import body as nhits_body
from shared.families.nhits import forward as nhits
from shared.families.patchtst import body as patchtst_body
from shared.families.patchtst import forward as patchtst

CLOSE = 2e-6


def normal(*shape: int, seed: int = 1, scale: float = 1.0) -> Array:
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), dtype=np.float32)


def arrays_of(module: nn.Module, name: str) -> dict[str, Array]:
    return {f"{name}.{key}": value.detach().numpy() for key, value in module.state_dict().items() if value.ndim}


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
    drawn = {name: normal(*shape, seed=seed + at, scale=0.3) for at, (name, shape) in enumerate(sorted(shapes.items()))}
    for name in [name for name in drawn if name.endswith("_var")]:
        drawn[name] = np.abs(drawn[name])
    return drawn


@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_answer_as_torchs_do(batch_norm: bool) -> None:
    torch.manual_seed(1)
    x = normal(5, 7, 16)
    linear, layer_norm, batch = nn.Linear(16, 9), nn.LayerNorm(16), nn.BatchNorm1d(16)
    batch(torch.from_numpy(normal(200, 16, seed=2, scale=3.0)))
    batch.eval()
    with torch.no_grad():
        given_x = torch.from_numpy(x)
        expected: Any = batch(given_x.flatten(0, 1)).view(5, 7, 16) if batch_norm else layer_norm(given_x)
        assert np.abs(Linear(arrays_of(linear, "a"), "a")(x) - linear(given_x).numpy()).max() < CLOSE
    layer = BatchNorm(arrays_of(batch, "n"), "n") if batch_norm else LayerNorm(arrays_of(layer_norm, "n"), "n")
    assert np.abs(layer(x) - expected.numpy()).max() < CLOSE


def test_gelu_and_erf_are_exact_to_single_precision() -> None:
    x = np.linspace(-12, 12, 200_001, dtype=np.float32)
    exact = torch.from_numpy(x.astype(np.float64))
    assert np.abs(erf(x) - torch.erf(exact).numpy()).max() < 5e-7
    assert np.abs(gelu(x) - functional.gelu(exact).numpy()).max() < 2e-6


@pytest.mark.parametrize("scale", [0.1, 10.0, 300.0])
def test_attention_is_a_softmax_also_for_scores_that_would_overflow(scale: float) -> None:
    scores, values = normal(3, 5, 2, 8, 8, scale=scale), normal(3, 5, 2, 8, 4, seed=2)
    expected = (torch.from_numpy(scores).softmax(-1) @ torch.from_numpy(values)).numpy()
    assert np.abs(attended(scores, values) - expected).max() < CLOSE


BODIES = st.builds(
    patchtst_body.PatchTSTBody,
    channels=st.integers(1, 5),
    window=st.sampled_from([16, 19]),
    patch=st.just(8),
    stride=st.sampled_from([4, 8]),
    width=st.sampled_from([8, 16]),
    heads=st.sampled_from([1, 4]),
    layers=st.integers(1, 2),
    feedforward=st.sampled_from([8, 24]),
    dropout=st.just(0.1),
    pad=st.booleans(),
    classic=st.booleans(),
    mixed=st.booleans(),
)


@given(BODIES, st.booleans(), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_a_row_of_patchtst_keeps_its_bits_in_any_batch(
    body: patchtst_body.PatchTSTBody, instance: bool, rows: int
) -> None:
    weights = random_weights(patchtst.shapes(body, instance=instance), 3)
    model = patchtst.PatchTSTForward(weights, body, instance=instance, file="w")
    keeps_its_bits(model.logits, normal(rows, body.window, body.channels))


@given(st.integers(1, 5), st.sampled_from([16, 19]), st.integers(1, 2), st.booleans(), st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_a_row_of_nhits_keeps_its_bits_in_any_batch(
    channels: int, window: int, layers: int, dropout: bool, rows: int
) -> None:
    stacks = (nhits_body.Stack(8, 8), nhits_body.Stack(3, 4), nhits_body.Stack(1, 1))
    body = nhits_body.NHitsBody(channels, 3, window, 12, 16, layers, 0.2 * dropout, stacks)
    model = nhits.NHitsForward(random_weights(nhits.shapes(body), 3), body, file="w")
    keeps_its_bits(model.logits, normal(rows, window, channels))


def keeps_its_bits(logits: Any, windows: Array) -> None:
    together = logits(windows)
    assert together.dtype == np.float64
    assert together.shape == (len(windows), 3)
    assert np.isfinite(together).all()
    alone = np.concatenate([logits(windows[row : row + 1]) for row in range(len(windows))])
    assert together.tobytes() == alone.tobytes()
    assert logits(windows.astype(np.float64)).tobytes() == together.tobytes()


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    expected = {"a": (2, 2), "b": (3,), "c": (1,), "d": (1,)}
    found: dict[str, Any] = {
        "a": np.zeros((2, 3), np.float32),
        "b": np.zeros(3),
        "c": np.array([np.nan], np.float32),
        "e": np.zeros(1),
    }
    with pytest.raises(WeightsError) as error:
        checked(found, expected, "weights.safetensors")
    said = str(error.value)
    assert said.startswith("weights.safetensors: ")
    for part in ("d: missing", "e: unknown", "a: float32 [2, 3]", "b: float64", "c: not finite"):
        assert part in said
