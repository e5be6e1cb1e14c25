"""Drift of the inputs."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bars import Bars
from shared.features import FeatureSet
from shared.features.installed import FEATURE_SETS
from shared.gates import inputs
from shared.gates.inputs import Inputs
from shared.inputs.kinds import KINDS
from shared.inputs.samples import Samples
from shared.training.series import computed

RANDOM = np.random.default_rng(0)
TRAINING = inputs.reference(list("abcde"), RANDOM.normal(size=(5, 4_000)).tolist())


def told(shift: list[float], rows: int = 1_000, seed: int = 1) -> Inputs:
    state = Inputs(TRAINING)
    for vector in (np.random.default_rng(seed).normal(size=(rows, 5)) + shift).tolist():
        inputs.observe(state, vector)
    return state


def test_the_bins_of_training_have_equal_mass() -> None:
    assert all(abs(count - 400) <= 2 for row in TRAINING.counts for count in row)


def test_inputs_like_those_of_training_pass() -> None:
    assert inputs.input_drift(told([0.0] * 5)).outcome == "passed"


def test_one_feature_of_five_may_drift_and_two_fail() -> None:
    one = inputs.input_drift(told([3.0, 0, 0, 0, 0]))
    assert one.outcome == "passed"
    assert "1 of 5 features alarm; the worst is a" in one.detail
    assert inputs.input_drift(told([3.0, 3.0, 0, 0, 0])).outcome == "failed"


def test_few_vectors_say_nothing() -> None:
    assert inputs.input_drift(told([9.0] * 5, rows=199)).outcome == "inconclusive"


def test_drift_that_is_over_fades() -> None:
    state = told([3.0] * 5, rows=2_000)
    assert inputs.input_drift(state).outcome == "failed"
    for vector in np.random.default_rng(2).normal(size=(12_000, 5)).tolist():
        inputs.observe(state, vector)
    assert inputs.input_drift(state).outcome == "passed"


def test_a_vector_of_another_length_fails() -> None:
    state = told([0.0] * 5)
    inputs.observe(state, [1.0] * 4)
    assert inputs.input_drift(state).outcome == "failed"


def test_a_constant_feature_has_one_bin_and_never_alarms_alone() -> None:
    state = Inputs(inputs.reference(["x"], [[1.0] * 500]))
    for _ in range(300):
        inputs.observe(state, [1.0])
    assert inputs.input_drift(state).outcome == "passed"


@given(st.integers(0, 300))
def test_a_restart_changes_no_verdict(cut: int) -> None:
    vectors = np.random.default_rng(3).normal(size=(300, 5)).tolist()
    half = Inputs(TRAINING, halve_every=100)
    for number, vector in enumerate(vectors):
        if number == cut:
            half = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=Inputs)
        inputs.observe(half, vector)
    whole = Inputs(TRAINING, halve_every=100)
    for vector in vectors:
        inputs.observe(whole, vector)
    assert half == whole


@pytest.mark.parametrize("feature_set", FEATURE_SETS.values(), ids=lambda each: each.name)
def test_inputs_of_the_calendar_are_those_that_no_price_changes(feature_set: FeatureSet) -> None:
    def bars(symbol: str, seed: int) -> Bars:
        first, last, up, down, volume = np.random.default_rng(seed).uniform(1, 2, (5, 2_000))
        high, low = np.maximum(first, last) + up, np.minimum(first, last) / (1 + down)
        times, trades = np.arange(2_000) * 900_000, np.floor(1_000 * volume)
        sampled = np.stack([volume, up, last, first] * 2, axis=1)
        samples = {
            kind: Samples(kind, times + 900_000, sampled[:, place : place + len(fields)], np.full(2_000, 900_000))
            for place, (kind, fields) in enumerate(KINDS.items())
        }
        further = trades, volume * last, volume * up / 2
        return Bars(symbol, 900_000, times, first, high, low, last, volume, *further, inputs=samples)

    def vectors(seed: int) -> Any:
        of = {symbol: bars(symbol, seed + number) for number, symbol in enumerate(("S", "BTCUSDT"))}
        return computed(of, feature_set, 3)["S"].vectors[-200:]

    one, other = vectors(1), vectors(3)
    same = {name for number, name in enumerate(feature_set.names) if (one[:, number] == other[:, number]).all()}
    assert same == {feature.name for feature in feature_set.features if feature.calendar}


def test_what_is_left_out_never_alarms_and_is_not_counted() -> None:
    columns = RANDOM.normal(size=(5, 4_000)).tolist()
    state = Inputs(inputs.reference(list("abcde"), columns, left_out=[0, 1]))
    for vector in np.random.default_rng(1).normal([9, 9, 0, 0, 0], size=(1_000, 5)).tolist():
        inputs.observe(state, vector)
    found = inputs.input_drift(state)
    assert (found.outcome, found.detail[:24]) == ("passed", "0 of 3 features alarm; t")
