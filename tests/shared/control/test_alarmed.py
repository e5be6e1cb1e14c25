"""Which refused entries have an alarm: one alarm may cover many, and a forged one hides none."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode
from schemas.operations import ControlRefused
from shared.control import RefusedEntry
from shared.control.alarmed import AlarmedEntries
from shared.control.stream import alarm_of

REFUSED = [RefusedEntry(f"{number}-0", "no command", 3, "0" * 64, b"\xff" * 9000) for number in range(10, 60, 2)]


def alarm(first: int, last: int) -> ControlRefused:
    encoded = alarm_of(REFUSED[first], REFUSED[first + 1 : last + 1])
    event: ControlRefused = decode("alarms", encoded.data).event
    return event


def alarmed(*events: ControlRefused) -> AlarmedEntries:
    entries = AlarmedEntries()
    for event in events:
        entries.add(event)
    return entries


@given(st.lists(st.integers(0, len(REFUSED) - 1), max_size=8).map(sorted))
def test_alarms_cover_their_entries_and_no_others(ends: list[int]) -> None:
    ranges = list(zip(ends[::2], ends[1::2], strict=False))
    covered = {index for first, last in ranges for index in range(first, last + 1)}
    missing = alarmed(*(alarm(first, last) for first, last in ranges)).missing(REFUSED)
    assert missing == [index for index in range(len(REFUSED)) if index not in covered]


def test_an_alarm_for_one_entry_has_the_bytes_that_it_always_had() -> None:
    single = alarm_of(REFUSED[0])
    assert b"more" not in single.data
    assert b"until" not in single.data
    assert single.envelope.event.raw == "\ufffd" * 2000


def test_a_range_counts_only_if_it_holds_as_many_refused_entries_as_it_says() -> None:
    forged = ControlRefused(entry="0-0", version=3, head="0" * 64, reason="", raw="", more=1, until="99999999999999-0")
    assert alarmed(forged).missing(REFUSED) == list(range(len(REFUSED)))


def test_ends_that_are_no_entry_ids_count_for_nothing() -> None:
    for entry, until in (("x", "1-0"), ("1-0", ""), ("-", "-"), ("", "")):
        forged = ControlRefused(entry=entry, version=3, head="", reason="", raw="", more=24, until=until)
        assert alarmed(forged).missing(REFUSED, 20) == list(range(20, len(REFUSED)))


def test_only_later_entries_are_looked_at() -> None:
    assert alarmed(alarm(3, 5)).missing(REFUSED, 4) == list(range(6, len(REFUSED)))
