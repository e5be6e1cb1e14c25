"""Purged blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.gates.blocks import Blocks, Means, add, length_ms

BAR = 300_000


def closes(blocks: Blocks, bars: list[int]) -> list[Means]:
    found = [add(blocks, bar * BAR, (float(bar),)) for bar in bars]
    return [means for means in found if means is not None]


def test_only_the_first_bars_of_a_block_count() -> None:
    blocks = Blocks(10 * BAR, 3 * BAR, 1, fewest=1)
    assert closes(blocks, list(range(21))) == [[3.0], [13.0]]
    assert blocks.purged == 6


def test_no_label_of_a_block_ends_in_the_next() -> None:
    horizon, length = 3, 10
    counted = [bar for bar in range(length) if _counts(bar, length, horizon)]
    assert max(counted) + horizon == length - 1


def _counts(bar: int, length: int, horizon: int) -> bool:
    blocks = Blocks(length * BAR, horizon * BAR, 1, fewest=1)
    add(blocks, bar * BAR, (1.0,))
    return blocks.rows[0] == 1


def test_a_block_with_too_few_rows_waits_for_the_next() -> None:
    blocks = Blocks(10 * BAR, 2 * BAR, 1, fewest=12)
    assert closes(blocks, list(range(31))) == [[None], [pytest.approx(8.5)], [None]]


def test_rows_behind_the_open_block_are_late_and_left_out() -> None:
    blocks = Blocks(10 * BAR, 2 * BAR, 1, fewest=1)
    add(blocks, 12 * BAR, (1.0,))
    assert add(blocks, 3 * BAR, (100.0,)) is None
    assert (blocks.late, blocks.sums) == (1, [1.0])


def test_a_quantity_that_is_not_known_does_not_count() -> None:
    blocks = Blocks(10 * BAR, 0, 2, fewest=1)
    add(blocks, 0, (1.0, None))
    add(blocks, BAR, (3.0, 5.0))
    assert add(blocks, 10 * BAR, (0.0, 0.0)) == [2.0, 5.0]


def test_a_block_shorter_than_the_horizon_is_refused() -> None:
    with pytest.raises(ValueError, match="no room for a purge"):
        Blocks(3 * BAR, 3 * BAR, 1)


@given(st.integers(1, 500), st.sampled_from([60_000, BAR, 3_600_000, 7_200_000]))
def test_the_shortest_lawful_block_holds_eight_horizons_and_eight_hours(horizon: int, interval: int) -> None:
    length = length_ms(horizon, interval)
    assert length % interval == 0
    assert length >= 8 * horizon * interval
    assert length >= 8 * 3_600_000
