import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.features import SETS, kernels
from shared.features.graph import OperatorGraph

GRAPH = OperatorGraph(list(SETS.values()))
NODES = [node for node in GRAPH.nodes if node.reads]
NUMBERS = [node for node in NODES if node.reads[0].node != GRAPH.fields.index("open_time")]
ANY = st.floats() | st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan])


@given(st.lists(ANY, min_size=4, max_size=4))
def test_an_operation_gives_the_same_bits_on_single_floats_as_on_arrays(values: list[float]) -> None:
    """Up to the sign of a zero, which no vector shows."""
    for node in NUMBERS:
        taken = values[: len(node.reads)]
        with np.errstate(all="ignore"):
            expected = float(node.apply(*[np.array([value]) for value in taken])[0])
        found = node.scalar(*taken)
        assert type(found) is float
        assert found == expected or (math.isnan(found) and math.isnan(expected)), node.text


@given(st.integers(0, 2**42))
def test_a_calendar_is_the_same_for_one_moment_as_for_many(time: int) -> None:
    for node in NODES:
        if node not in NUMBERS:
            assert node.scalar(time) == node.apply(np.array([time]))[0]


@given(st.floats(1e-300, 1e300))
def test_log_is_the_logarithm(x: float) -> None:
    expected = math.log(x)
    assert abs(float(kernels.log(np.array([[x]]))[0, 0]) - expected) <= 4e-16 * max(1.0, abs(expected))


def test_log_is_not_finite_outside_its_domain() -> None:
    with np.errstate(all="ignore"):
        found = kernels.log(np.array([0.0, -1.0, np.nan, np.inf]))
    assert found[0] == -np.inf
    assert not np.isfinite(found).any()


@given(st.floats(0.1, 0.99))
def test_a_kernel_leaves_out_at_most_a_millionth(keep: float) -> None:
    bars = kernels.bars_for(keep)
    assert kernels.power(keep, bars) == pytest.approx(keep**bars, rel=1e-9)
    assert keep**bars <= 1e-6 < keep ** (bars / 2)


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.5])
def test_a_kernel_that_never_or_at_once_forgets_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        kernels.bars_for(keep)


def test_a_kernel_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        kernels.power(0.5, 12)
