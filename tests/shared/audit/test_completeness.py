"""Nothing that was removed, left out, doubled or backdated passes; nothing that is honest is accused."""

import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from bench.chaos import World, worker_of
from bench.omissions import (
    DECISIONS,
    Case,
    Record,
    about,
    backdated,
    copy,
    doubled,
    halted,
    omissions,
    put,
    removals,
    scores,
    unrecorded,
)
from bench.recorded_rounds import Recorded
from bench.replayed import Replayed
from schemas.codec import decode, encode
from schemas.decisions import DecisionMade
from services.console.audit.verify import audited
from services.shadow_recorder.core import Recorder
from shared.audit.clocks import Clocks
from shared.audit.findings import Findings
from shared.audit.source import Bounded
from shared.log import StreamKey

KINDS = ("control", "streams", "votes", "ballots", "features", "predictions", "scores")
STEPS = 900
Forge = Callable[[Record, random.Random, int], Iterator[Case]]


@cache
def unruly(seed: int) -> Record:
    world = World(seed, [Recorder()])
    world.run(STEPS)
    return Record(world.source)


def verified(source: Any) -> Findings:
    return audited(source, Path("nowhere"), KINDS, worker=worker_of)


@pytest.mark.parametrize("seed", [*range(8), 333])  # 333: a shadow's failure that came late
def test_an_honest_run_is_not_accused_whatever_happens_while_it_is_read(seed: int) -> None:
    world = World(seed, [Recorder()], 140 if seed == 0 else 0)
    world.run(500 if seed == 333 else STEPS)
    for source in (Bounded(world.source, world.ends()), world.source):
        found = verified(source)
        assert found.differences == []
        assert found.code in {0, 3}
        assert all(reason.endswith("which cannot be repeated") for reason in found.unchecked)
        assert found.checked["ballots"] > 10
        assert found.equal["scores"] == found.checked["scores"] > 10


@pytest.mark.parametrize("forge", [removals, omissions, backdated, doubled, halted, unrecorded])
def test_what_was_taken_away_left_out_doubled_or_backdated_is_found_about_its_bar(forge: Forge) -> None:
    cases = [case for seed in (1, 4) for case in forge(unruly(seed), random.Random(seed), 1)]
    assert cases
    for taken, source in cases:
        found = verified(source)
        assert taken.located(found), (taken, found.differences)


def test_scores_that_are_forged_or_removed_are_found(replayed: Replayed) -> None:
    record = Record(replayed.source)
    for taken, source in scores(record, random.Random(3), 2):
        found = audited(source, replayed.store.path, ("scores",))
        assert taken.located(found), (taken, found.first)
    assert audited(replayed.source, replayed.store.path, ("scores",)).code == 0


def decision_where(record: Record, want: Callable[[DecisionMade], bool]) -> tuple[int, Any]:
    return next((at, each) for at, each in record.decisions if want(each.event))


def changed(record: Record, at: int, **fields: Any) -> Recorded:
    was = decode("decisions", record.source.places[DECISIONS][at].data)
    event = structs.replace(was.event, **fields)
    made = copy(record.source)
    data = encode("decisions", event, causation=was.causation, correlation=was.correlation, flags=was.flags).data
    put(made, DECISIONS, at, data)
    return made


def details(source: Recorded, bar: tuple[str, int]) -> str:
    return " | ".join(each.detail for each in verified(source).differences if (each.symbol, each.open_time) == bar)


def test_a_deadline_that_had_not_passed_is_none() -> None:
    record = unruly(1)
    at, envelope = decision_where(record, lambda e: e.closed_by == "deadline" and e.intent == "no_quorum")
    opened = envelope.event.open_time + envelope.event.interval_ms
    assert "before its deadline" in details(changed(record, at, decided_at=opened + 1), about(envelope.event))


def test_a_wait_that_was_too_short_or_that_no_clock_shows_is_found() -> None:
    record = unruly(1)
    at, envelope = decision_where(record, lambda e: e.closed_by == "deadline" and e.intent == "no_quorum")
    event = envelope.event
    assert event.opened_at + event.waited_ms == event.decided_at
    for fields in ({"waited_ms": 1}, {"decided_at": event.opened_at + 1}, {"opened_at": event.decided_at + 1}):
        assert "before its deadline" in details(changed(record, at, **fields), about(event)), fields
    closed = changed(record, at, closed_by="superseded")
    assert "though no deadline closed it" in details(closed, about(event))


def test_a_deadline_while_the_server_s_clock_was_set_back_is_counted_as_not_repeated() -> None:
    record = unruly(1)
    at, envelope = decision_where(record, lambda e: e.closed_by == "deadline" and e.intent == "no_quorum")
    event = envelope.event
    wait = event.waited_ms + 30_000
    found = verified(changed(record, at, waited_ms=wait))
    assert [each.detail for each in found.differences if "deadline" in each.detail] == []
    assert any("was set back" in reason for reason in found.unchecked)


def test_a_live_decision_says_when_it_was_made_and_not_after_it_was_written() -> None:
    record = unruly(1)
    at, envelope = decision_where(record, lambda e: e.origin == "live" and e.intent == "no_quorum")
    event = envelope.event
    assert "has no time of decision" in details(changed(record, at, decided_at=None), about(event))
    assert "after it was written" in details(changed(record, at, decided_at=event.decided_at + 600_000), about(event))


def test_a_bar_from_a_file_has_no_clock() -> None:
    record = unruly(1)
    at, envelope = decision_where(record, lambda e: e.origin == "synthetic")
    assert "though its bar is synthetic" in details(changed(record, at, decided_at=1), about(envelope.event))
    assert "have no deadline" in details(changed(record, at, closed_by="deadline"), about(envelope.event))


def test_a_removed_entry_of_one_of_several_in_a_millisecond_is_named_by_its_neighbours() -> None:
    source = unruly(1).source
    place = StreamKey("features")
    entries = source.places[place]
    at = next(
        at
        for at in range(1, len(entries) - 1)
        if entries[at + 1].id.partition("-")[0] == entries[at].id.partition("-")[0]
    )
    made = copy(source)
    made.places[place] = [*entries[:at], *entries[at + 1 :]]
    made.added[place] = 0
    found = audited(made, Path("nowhere"), ("streams",))
    assert [each.layer for each in found.differences] == ["stream"]
    assert found.differences[0].entry == entries[at + 1].id
    assert f"between {entries[at - 1].id} and {entries[at + 1].id}" in found.differences[0].detail


def test_a_failure_that_no_decision_names_is_missed_all_the_same() -> None:
    found = [
        case
        for seed in range(8)
        for case in removals(unruly(seed), random.Random(seed), 4)
        if case[0].name.startswith("failure of a shadow")
    ]
    taken, source = found[0]
    assert taken.located(audited(source, Path("nowhere"), ("predictions",), worker=worker_of)), taken


@pytest.mark.parametrize(("written_after_close", "fault"), [(1, True), (-1, False)])
def test_a_decision_after_its_own_entry_is_a_fault_unless_the_server_s_clock_was_set_back(
    written_after_close: int, fault: bool
) -> None:
    record = unruly(1)
    _, envelope = decision_where(record, lambda e: e.origin == "live" and e.closed_by == "complete")
    close = envelope.event.open_time + envelope.event.interval_ms
    findings = Findings()
    read: Any = SimpleNamespace(entry=f"{close + written_after_close}-0")
    decision = structs.replace(envelope.event, decided_at=close + 300_000)
    found = Clocks(record.configurations, findings).fault(read, decision, stamped=True)
    assert ("after it was written" in found, any("set back" in reason for reason in findings.unchecked)) == (
        fault,
        not fault,
    )
