"""PatchTST against its formulas written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.families import FAMILIES, complete
from shared.families.patchtst import net as patchtst
from shared.families.patchtst.body import PatchTSTBody
from shared.families.patchtst.net import Attention, Classifier, Forecaster, OverTokens, PatchTSTEncoder

SMALL = PatchTSTBody(3, 20, 4, 2, 8, 2, 2, 12, 0.0, pad=False, classic=False, mixed=False)
VARIANTS = {
    "default": SMALL,
    "padded": SMALL._replace(pad=True),
    "classic": SMALL._replace(classic=True),
    "mixed": SMALL._replace(mixed=True),
}


@given(
    window=st.integers(1, 80),
    patch=st.integers(1, 40),
    stride=st.integers(1, 40),
    pad=st.booleans(),
    rows=st.integers(1, 3),
)
@settings(deadline=None)
def test_patches_are_slices_of_the_window_and_as_many_as_the_formula_says(
    window: int, patch: int, stride: int, pad: bool, rows: int
) -> None:
    body = SMALL._replace(window=window, patch=min(patch, window), stride=stride, pad=pad)
    x = torch.arange(rows * 2 * window, dtype=torch.float32).view(rows, 2, window)
    cut = patchtst.patches(x, body.patch, stride, pad=pad)
    assert cut.shape == (rows, 2, body.tokens, body.patch)
    for token in range(body.tokens):
        for step in range(body.patch):
            at = min(token * stride + step, window - 1)
            assert torch.equal(cut[:, :, token, step], x[:, :, at])


def test_the_papers_window_gives_42_patches_and_64_of_the_longer_one() -> None:
    paper = SMALL._replace(window=336, patch=16, stride=8, pad=True)
    assert paper.tokens == 42
    assert paper._replace(window=512).tokens == 64


@given(st.integers(0, 1000), st.floats(0.01, 1e3), st.floats(-10, 10))
@settings(deadline=None)
def test_instance_normalisation_can_be_undone(seed: int, scale: float, level: float) -> None:
    x = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(seed)) * scale + scale * level
    inner, removed = patchtst.normalised(x)
    assert inner.mean(-1).abs().max() < 1e-4
    assert torch.allclose(patchtst.restored(inner, removed), x, rtol=1e-4, atol=1e-4 * scale)


def test_instance_normalisation_makes_nothing_of_a_repeated_row() -> None:
    repeated = torch.randn(5, 3, 1).expand(5, 3, 20)
    inner, _ = patchtst.normalised(repeated)
    assert inner.abs().max() < 1e-3


def test_a_forecast_moves_and_stretches_with_its_window() -> None:
    torch.manual_seed(0)
    model = Forecaster(SMALL._replace(classic=True, pad=True), 6).eval()
    x = torch.randn(2, 3, 20)
    assert model(x).shape == (2, 3, 6)
    assert torch.allclose(model(7 * x + 3), 7 * model(x) + 3, atol=1e-3)


def by_hand(attention: Attention, x: torch.Tensor, before: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K' / sqrt(d) + scores before) V, head by head and row by row."""
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    rows, sums = [], []
    for at in range(len(x)):
        heads = []
        for head in range(attention.heads):
            part = slice(head * attention.size, (head + 1) * attention.size)
            scores = q[at, :, part] @ k[at, :, part].T / math.sqrt(attention.size)
            if before is not None:
                scores = scores + before[at * attention.heads + head]
            sums.append(scores)
            heads.append(torch.softmax(scores, -1) @ v[at, :, part])
        rows.append(attention.out(torch.cat(heads, dim=-1)))
    return torch.stack(rows), torch.stack(sums)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("given_scores", [False, True])
def test_attention_is_its_formula(residual: bool, given_scores: bool) -> None:
    torch.manual_seed(1)
    attention, x = Attention(8, 2), torch.randn(3, 5, 8)
    before = torch.randn(6, 5, 5) if residual and given_scores else None
    expected, sums = by_hand(attention, x, before)
    got, scores = attention(x, before, residual=residual)
    assert torch.allclose(got, expected, atol=1e-6)
    if residual:
        assert torch.allclose(scores, sums, atol=1e-6)


def test_the_papers_layer_hands_its_scores_to_the_next() -> None:
    torch.manual_seed(2)
    encoder = PatchTSTEncoder(SMALL._replace(classic=True)).eval()
    tokens = torch.randn(4, SMALL.tokens, 8)
    first, scores = encoder.layers[0](tokens, None)
    with_scores, _ = encoder.layers[1](first, scores)
    without, _ = encoder.layers[1](first, None)
    assert not torch.allclose(with_scores, without)


def test_batch_normalisation_is_over_all_tokens_of_all_rows() -> None:
    x = torch.randn(6, 5, 8) * 3 + 1
    got = OverTokens(8)(x)
    flat = x.reshape(-1, 8)
    expected = (flat - flat.mean(0)) / torch.sqrt(flat.var(0, unbiased=False) + 1e-5)
    assert torch.allclose(got.reshape(-1, 8), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["default", "padded", "classic"])
def test_a_channel_is_read_without_the_others(name: str) -> None:
    torch.manual_seed(3)
    encoder, x = PatchTSTEncoder(VARIANTS[name]).eval(), torch.randn(2, 3, 20)
    other = x.clone()
    other[:, 1] += 1
    before, after = encoder(x), encoder(other)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_mixed_tokens_hold_all_channels() -> None:
    torch.manual_seed(3)
    encoder, x = PatchTSTEncoder(VARIANTS["mixed"]).eval(), torch.randn(2, 3, 20)
    assert encoder(x).shape == (2, 1, SMALL.tokens, 8)
    other = x.clone()
    other[:, 1] += 1
    assert not torch.allclose(encoder(x), encoder(other))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("instance", [False, True])
def test_every_weight_is_learned_and_every_step_is_seen(name: str, instance: bool) -> None:
    torch.manual_seed(4)
    model = Classifier(VARIANTS[name], instance=instance, head_dropout=0.0)
    torch.nn.init.normal_(model.head.weight)
    x = torch.randn(5, 20, 3, requires_grad=True)
    torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0, 1])).backward()
    for weight, value in model.named_parameters():
        assert value.grad is not None, weight
        assert value.grad.abs().sum() > 0, weight
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 2)) > 0).all()


def test_what_instance_normalisation_removed_reaches_the_head() -> None:
    torch.manual_seed(5)
    model = Classifier(SMALL, instance=True, head_dropout=0.0).eval()
    torch.nn.init.normal_(model.head.weight)
    x = torch.randn(4, 20, 3)
    assert not torch.allclose(model(x), model(x + 5), atol=1e-2)


def test_a_new_classifier_is_the_prior() -> None:
    prior = torch.tensor([0.2, 0.5, 0.3]).log()
    model = Classifier(SMALL, instance=False, head_dropout=0.0).eval()
    model.begin(prior)
    assert torch.allclose(torch.log_softmax(model(torch.randn(50, 20, 3)), -1), prior, atol=0.05)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"heads": 3}, "a width of 16 does not divide into 3 heads"),
        ({"patch": 65}, "a patch of 65 steps does not fit into a window of 64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(params: dict[str, int | float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        complete(FAMILIES["patchtst"], params)
