from schemas.market import FundingPublished, PriceSampled
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
    inputs.add(PriceSampled(symbol="ONE", at=0, origin="live", mark=2.0, index=3.0), 3)
    assert inputs.at(("index",), OWNER, 0, HOUR) == [((3.0,), 0, 3)]
    assert inputs.at(("index",), OWNER, HOUR, HOUR) == [None]
    assert inputs.at(("index",), ("TWO", False), 0, HOUR) == [None]
