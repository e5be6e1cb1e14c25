from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.features import BarArrays, Feature, FeatureSet, buffers, compute, feature_set
from shared.features.buffers import DelayBuffers
from shared.features.expressions import close, lag
from shared.features.graph import OperatorGraph

Walk = Callable[..., BarArrays]
MINUTE = 60_000
NAMES = (
    *("volume_z_48", "bb_position", "z_return_5", "rsi_14", "macd_hist", "stochastic_d_3", "minute_sin", "close"),
    *("taker_imbalance_16", "volume_share_20_x4"),
)
LAGGED = Feature("lagged", lag(close, 16), "a delay that no operation follows")
SHORT = FeatureSet("short", (*feature_set("named", *NAMES).features, LAGGED))
GRAPH = OperatorGraph([SHORT])
WARM = SHORT.lookback - 1


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 15), min_size=1, max_size=12).map(sorted),
    st.lists(st.integers(1, WARM - 1), max_size=9),
    st.lists(st.sampled_from([1, 1, 2, 7, 70]), min_size=1, max_size=9),
    st.sampled_from([0, buffers.SCALAR_LIMIT, 1000]),
)
def test_the_bits_are_those_of_a_history_however_the_bars_come(
    walk: Walk, columns: list[int], cuts: list[int], pieces: list[int], few: int
) -> None:
    """Few or many at once, one row or several, symbols that are neighbours or not."""
    edges = [*sorted({0, *cuts, WARM}), *(WARM + np.cumsum(pieces)).tolist()]
    walks = [walk(edges[-1], seed=column) for column in columns]
    slot = int(walks[0].open_time[0]) // MINUTE
    fields = np.array([bars.values(GRAPH.inputs) for bars in walks]).transpose(2, 1, 0)
    turning = DelayBuffers(GRAPH, MINUTE)
    turning.widen(8)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "SCALAR_LIMIT", few)
        for first, last in pairwise(edges):
            new = np.ascontiguousarray(fields[:, first:last])
            found += turning.push(columns, slot + first, new, want=first >= WARM)
    vectors = np.concatenate(found)
    for number, bars in enumerate(walks):
        assert vectors[:, number].tobytes() == compute(SHORT, bars).tobytes()


def test_what_is_not_wanted_is_not_computed(walk: Walk) -> None:
    bars = walk(3)
    fields = bars.values(GRAPH.inputs).T[:, :, None]
    assert DelayBuffers(GRAPH, MINUTE).push([0], 0, fields, want=False) == []


def test_a_new_bar_reads_few_values_of_the_past() -> None:
    """Not as many as the window has bars: what a delay needs was computed when it was the present."""
    assert len({read for read in GRAPH.reads() if read.delay}) < SHORT.lookback / 3
