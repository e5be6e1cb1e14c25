"""Simulated installations: whatever goes wrong, what ``tests.simulation.invariants`` lists holds. A seed that fails is
made short, and its story is the message of the test."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.simulation.plan import KINDS, ON_REQUEST, drawn
from tests.simulation.shrinking import shrink, story
from tests.simulation.world import simulate

BLOCK = 20


def holds(seed: int, kinds: tuple[str, ...] = KINDS) -> None:
    plan = drawn(seed, kinds)
    if simulate(plan).violation:
        shrunk = shrink(plan)
        pytest.fail(story(shrunk.plan, shrunk.outcome), pytrace=False)


@pytest.mark.parametrize("block", range(10))
def test_two_hundred_installations_survive_whatever_is_done_to_them(block: int) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        holds(seed)


def test_a_clock_that_is_an_hour_off_changes_nothing() -> None:
    for seed in range(12):
        holds(seed, ("kill", "clock", *ON_REQUEST))


@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(min_value=1000, max_value=2**40))
def test_any_other_installation_survives_too(seed: int) -> None:
    holds(seed)
