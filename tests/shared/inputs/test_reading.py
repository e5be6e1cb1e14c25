from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.market import BookSampled, FundingPublished, InputEvent, OpenInterestSampled, PriceSampled
from shared.inputs.kinds import KINDS, Kind, bound, samples_of
from shared.inputs.reading import ReadInputs

HOUR = 3_600_000
OWNER = ("ONE", False)


def funding(time: int) -> FundingPublished:
    return FundingPublished(symbol="ONE", at=time, origin="live", rate=1e-4, interval_ms=HOUR)


def silence(interval_ms: int) -> int:
    return 10 if interval_ms else 5


def test_a_sample_that_no_later_bar_reads_is_dropped_though_it_is_the_last() -> None:
    inputs = ReadInputs(["funding"])
    inputs.add(funding(0), 1)
    inputs.computed(OWNER, (0, HOUR), 2 * HOUR - 1, 2)
    assert inputs.oldest() == 1
    inputs.computed(OWNER, (0, HOUR), 2 * HOUR, 3)
    assert inputs.oldest() is None


def test_the_slowest_reader_of_a_symbol_keeps_samples() -> None:
    inputs = ReadInputs(["funding"])
    for index in range(4):
        inputs.add(funding(index * HOUR), index)
    inputs.computed(OWNER, (0, HOUR), HOUR, 5)
    inputs.computed(OWNER, (1, HOUR), 3 * HOUR, 6)
    assert inputs.oldest() == 1
    inputs.computed(OWNER, (0, HOUR), 3 * HOUR, 7)
    assert inputs.oldest() == 3


def test_a_symbol_without_events_for_too_long_is_forgotten() -> None:
    inputs = ReadInputs(["funding"])
    inputs.add(funding(0), 1)
    inputs.forget(6, silence)
    assert inputs.oldest() == 1
    inputs.forget(7, silence)
    assert inputs.oldest() is None
    inputs.add(funding(0), 8)
    inputs.computed(OWNER, (0, HOUR), HOUR, 9)
    inputs.forget(19, silence)
    assert inputs.oldest() == 8
    inputs.forget(20, silence)
    assert inputs.oldest() is None


def test_kinds_that_are_not_needed_are_not_kept() -> None:
    inputs = ReadInputs(["index"])
    inputs.add(funding(0), 1)
    inputs.add(PriceSampled(symbol="ONE", at=0, origin="live", mark=2.0), 2)
    assert inputs.oldest() is None
    both = PriceSampled(symbol="ONE", at=0, origin="live", mark=2.0, index=3.0)
    inputs.add(both, 3)
    assert inputs.at(("index",), OWNER, 0, HOUR) == [(both, 3, 0)]
    assert inputs.at(("index",), OWNER, HOUR, HOUR) == [None]
    assert inputs.at(("index",), ("TWO", False), 0, HOUR) == [None]


@pytest.mark.parametrize("kind", KINDS)
@given(own_ms=st.integers(0, 10 * HOUR), interval_ms=st.integers(1, 100 * HOUR))
def test_a_bound_is_the_longer_of_that_of_the_sample_and_that_of_the_interval(
    kind: Kind, own_ms: int, interval_ms: int
) -> None:
    own_ms = own_ms if kind == "funding" else 0
    assert bound(kind, own_ms, interval_ms) == max(bound(kind, own_ms, 0), bound(kind, 0, interval_ms))


def test_an_event_is_a_sample_of_what_it_has() -> None:
    where: Any = {"symbol": "ONE", "at": 5, "origin": "live"}
    assert samples_of(FundingPublished(**where, rate=1.0)) == (("funding", (1.0,), 8 * HOUR),)
    assert samples_of(FundingPublished(**where, rate=1.0, interval_ms=HOUR)) == (("funding", (1.0,), HOUR),)
    assert samples_of(OpenInterestSampled(**where, amount=2.0, value=9.0)) == (("open_interest", (2.0,), 0),)
    assert samples_of(PriceSampled(**where)) == ()
    assert samples_of(PriceSampled(**where, mark=3.0)) == (("mark", (3.0,), 0),)
    assert samples_of(PriceSampled(**where, mark=3.0, index=4.0)) == (("mark", (3.0,), 0), ("index", (4.0,), 0))
    book = BookSampled(**where, bid=1.0, bid_size=2.0, ask=3.0, ask_size=4.0)
    assert samples_of(book) == (("book", (1.0, 2.0, 3.0, 4.0), 0),)


def events(times: Sequence[int]) -> list[InputEvent]:
    """An event for each time, of changing kinds."""
    found: list[InputEvent] = []
    for number, time in enumerate(times):
        if number % 3 == 0:
            found.append(FundingPublished(symbol="ONE", at=time, origin="live", rate=0.1, interval_ms=1 + number % 7))
        elif number % 3 == 1:
            found.append(PriceSampled(symbol="ONE", at=time, origin="live", mark=1.0, index=[None, 2.0][number % 2]))
        else:
            found.append(OpenInterestSampled(symbol="ONE", at=time, origin="live", amount=1.0))
    return found


@given(st.lists(st.integers(0, 40), max_size=40), st.lists(st.integers(0, 45), max_size=12), st.booleans())
def test_the_next_bar_in_one_step_is_that_in_two(times: list[int], closes: list[int], others: bool) -> None:
    kinds: tuple[Kind, ...] = ("funding", "mark", "index")
    one, other = ReadInputs(kinds), ReadInputs(kinds)
    samples = events(times)
    for index, close in enumerate(sorted(closes)):
        part = samples[index * 4 : index * 4 + 4]
        for number, event in enumerate(part):
            one.add(event, 10 * index + number)
            other.add(event, 10 * index + number)
        if others:
            one.computed(OWNER, (1, 3), close - 5, 10 * index + 8)
            other.computed(OWNER, (1, 3), close - 5, 10 * index + 8)
        found = one.next(kinds, OWNER, (0, 10), close, 10 * index + 9)
        assert found == other.at(kinds, OWNER, close, 10)
        other.computed(OWNER, (0, 10), close, 10 * index + 9)
        assert one.oldest() == other.oldest()
