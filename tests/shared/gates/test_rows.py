"""Scored predictions as the gates see them, the histogram of latencies, and the page that tells of it all."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schemas.scores import PredictionScored
from shared.gates import classic, default, evidence, operations
from shared.gates.operations import Operations
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import UNKNOWN, Key, Plan, row_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "gate-policies.md"


def scored(**changes: object) -> PredictionScored:
    base = PredictionScored(
        symbol="BTCUSDT",
        interval_ms=300_000,
        open_time=600_000,
        origin="live",
        model="m",
        artifact=b"a" * 32,
        role="shadow",
        late=False,
        probabilities=(0.2, 0.3, 0.5),
        prior=(0.3, 0.4, 0.3),
        action="BUY",
        outcome="SELL",
        hit=False,
        forward_return=-0.001,
        scale=0.002,
        kappa=0.4,
        horizon=12,
        ends=1,
        hour_return=-0.003,
        log_loss=1.6,
        brier=1.0,
        signed_return=-0.002,
        cost=0.001,
        incumbent=(0.1, 0.8, 0.1),
        incumbent_artifact=b"b" * 32,
        incumbent_return=0.0,
        pool_with=(0.2, 0.4, 0.4),
        pool_without=(0.2, 0.5, 0.3),
        decided="HOLD",
        control_version=3,
        prediction=b"p" * 16,
        decision=b"d" * 16,
        latency_ms=7,
    )
    return msgspec.structs.replace(base, **changes)


def test_a_row_holds_what_was_scored() -> None:
    row = row_of(scored())
    assert (row.action, row.outcome, row.ensemble) == (2, 0, 1)
    assert (row.champion, row.pool, row.rest) == ((0.1, 0.8, 0.1), (0.2, 0.4, 0.4), (0.2, 0.5, 0.3))
    assert (row.move, row.net, row.champion_net, row.latency_ms) == (-0.003, -0.002, 0.0, 7)


def test_what_no_model_decided_is_unknown() -> None:
    row = row_of(scored(decided=None, incumbent=None, incumbent_return=None))
    assert (row.ensemble, row.champion) == (UNKNOWN, None)


@given(st.lists(st.floats(0.0, 200_000.0), min_size=1, max_size=200))
def test_a_latency_quantile_is_an_upper_bound_and_near(latencies: list[float]) -> None:
    state = Operations()
    for latency in latencies:
        state.timed += 1
        state.latencies[operations.bucket(latency)] += 1
    exact = float(np.quantile(latencies, 0.99, method="inverted_cdf"))
    bound = operations.quantile_ms(state, 0.99)
    assert exact <= bound * (1 + 1e-9)
    assert bound <= max(0.1, exact * 2 ** (1 / 3) * (1 + 1e-9))


def test_no_latency_is_not_a_number() -> None:
    assert math.isnan(operations.quantile_ms(Operations(), 0.99))


@given(st.integers(0, 50), st.integers(1, 200))
def test_the_interval_of_a_share_is_scipys(hits: int, count: int) -> None:
    hits = min(hits, count)
    wanted = stats.binomtest(hits, count).proportion_ci(method="wilson")
    low, high = operations.wilson(hits, count, stats.norm.ppf(0.975))
    assert [low, high] == pytest.approx([wanted.low, wanted.high], abs=1e-9)


def test_the_page_names_every_gate_and_every_threshold() -> None:
    page = PAGE.read_text()
    plan = Plan(Key("m", "a", "c", "f", "l", "p"), 12, 300_000, response=0.1)
    state = evidence.evolve(evidence.initial(plan), row_of(scored()))
    shown = [*default.verdicts(state, rivals={"a": 0.0, "b": 0.0}), *classic.verdicts(classic.Tally())]
    names = {one.name for one in shown}
    fields = [*msgspec.structs.fields(DefaultPolicy), *msgspec.structs.fields(classic.ClassicPolicy)]
    missing = [name for name in names if f"| `{name}` |" not in page]
    missing += [field.encode_name for field in fields if f"`{field.encode_name}`" not in page]
    assert not missing
