"""N-HiTS against its formulas written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.families.nhits.body import NHitsBody, Stack, knots
from shared.families.nhits.net import Classifier, Forecaster, NHitsBlock, Residuals, interpolation

STACKS = (Stack(8, 6), Stack(4, 3), Stack(1, 1))
SMALL = NHitsBody(3, 3, 20, 12, 16, 2, 0.0, STACKS)


@given(count=st.integers(1, 30), horizon=st.integers(1, 60))
@settings(deadline=None)
def test_interpolation_is_linear_between_knots_at_the_centres_of_equal_parts(count: int, horizon: int) -> None:
    values = np.random.default_rng(count).standard_normal(count)
    centres = (np.arange(count) + 0.5) * horizon / count - 0.5
    expected = np.interp(np.arange(horizon), centres, values)
    got = torch.from_numpy(values.astype(np.float32)) @ interpolation(count, horizon)
    assert got.numpy() == pytest.approx(expected, abs=1e-5)


@given(count=st.integers(1, 30), horizon=st.integers(1, 60))
@settings(deadline=None)
def test_equal_knots_make_a_level_line(count: int, horizon: int) -> None:
    assert torch.allclose(interpolation(count, horizon).sum(0), torch.ones(horizon), atol=1e-5)


def test_as_many_knots_as_steps_change_nothing() -> None:
    assert torch.equal(interpolation(12, 12), torch.eye(12))
    assert [knots(12, every) for every in (24, 12, 8, 6, 1)] == [1, 1, 1, 2, 12]


@given(window=st.integers(1, 40), pool=st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_pools_are_full_from_the_newest_step_backwards(window: int, pool: int) -> None:
    body = SMALL._replace(window=window, channels=1)
    block = NHitsBlock(body, Stack(pool, 1))
    x = torch.randn(2, 1, window)
    got = block.pool(x.flip(-1))[0, 0].tolist()
    newest_first = x[0, 0].flip(-1).tolist()
    assert got == [max(newest_first[at : at + pool]) for at in range(0, window, pool)]


def test_each_stack_reads_what_those_before_it_left_and_the_answers_add_up() -> None:
    torch.manual_seed(0)
    stacks, x = Residuals(SMALL).eval(), torch.randn(4, 3, 20)
    left, total = x, torch.zeros(4, 3, 12)
    for block in stacks.blocks:
        explained, answer = block(left)
        assert explained.shape == left.shape
        left, total = left - explained, total + answer
    assert torch.allclose(stacks(x), total, atol=1e-6)


def test_a_forecast_starts_at_the_last_value() -> None:
    torch.manual_seed(1)
    body = NHitsBody(1, 1, 20, 12, 16, 2, 0.0, STACKS)
    model, x = Forecaster(body).eval(), torch.randn(5, 20)
    assert model(x).shape == (5, 12)
    assert torch.allclose(model(x) - model.stacks(x[:, None])[:, 0], x[:, -1:].expand(5, 12), atol=1e-6)


def test_a_logit_is_the_mean_of_its_trajectory() -> None:
    torch.manual_seed(2)
    model, x = Classifier(SMALL).eval(), torch.randn(5, 20, 3)
    model.begin(torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(model(x) - model.prior, model.stacks(x.transpose(1, 2)).mean(-1), atol=1e-6)


def test_a_new_classifier_is_the_prior() -> None:
    prior = torch.tensor([0.2, 0.5, 0.3]).log()
    model = Classifier(SMALL).eval()
    model.begin(prior)
    assert torch.allclose(torch.log_softmax(model(torch.randn(50, 20, 3)), -1), prior, atol=0.05)


def test_every_stack_learns_and_every_step_is_seen() -> None:
    torch.manual_seed(3)
    model = Classifier(SMALL._replace(dropout=0.1))
    for block in model.stacks.blocks:
        torch.nn.init.normal_(block.knots.weight)
    x = torch.randn(64, 20, 3, requires_grad=True)
    torch.nn.functional.cross_entropy(model(x), torch.randint(3, (64,))).backward()
    for name, value in model.stacks.blocks.named_parameters():
        # The last block's backcast explains what nothing reads.
        reads = not name.startswith("2.backcast")
        assert (value.grad is not None and bool(value.grad.abs().sum() > 0)) == reads, name
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 2)) > 0).all()
