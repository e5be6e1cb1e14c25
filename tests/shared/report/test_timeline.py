"""Courses over time keep what they sum, however long they get."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.report.timeline import MOST_CELLS, MOST_POINTS, Path, Timeline, add, follow, points, spans


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(-9, 9)), min_size=1, max_size=400))
def test_a_timeline_loses_no_value_and_stays_small(values: list[tuple[int, int]]) -> None:
    timeline = Timeline(60)
    for moment, value in values:
        add(timeline, moment, (1.0, float(value)))
    found = spans(timeline)
    assert len(found) <= MOST_CELLS
    assert sum(sums[0] for _, sums in found) == len(values)
    assert sum(sums[1] for _, sums in found) == sum(value for _, value in values)
    for begins, sums in found:
        inside = [value for moment, value in values if begins <= moment < begins + timeline.width]
        assert sums == [len(inside), sum(inside)]


@given(st.integers(1, 5 * MOST_POINTS))
def test_a_path_stays_small_and_keeps_its_first_and_its_last_point(count: int) -> None:
    path = Path()
    for number in range(count):
        follow(path, number, (float(number),))
    found = points(path)
    assert len(found) <= MOST_POINTS + 1
    assert found[0] == (0, (0.0,))
    assert found[-1] == (count - 1, (float(count - 1),))
    assert [at for at, _ in found] == sorted({at for at, _ in found})
    assert len({later - earlier for (earlier, _), (later, _) in pairwise(found[:-1])}) <= 1
