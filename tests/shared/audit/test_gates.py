"""What the gate-evaluator wrote is recomputed to the byte, whenever it read what; changes are found."""

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from msgspec import structs

from bench.recorded import BEFORE, CANDIDATE, CHAMPION, MINUTE, START, commands, market, register, scored, wrong
from bench.recorded_rounds import Recorded
from schemas.codec import Envelope, decode, encode
from schemas.control import Command, CommandRecorded, Promote, SetGatePolicy, StartShadow, StopShadow
from schemas.features import FeaturesComputed
from schemas.gates import ActionDue, EvidenceRestarted, GuardTripped, InputsDrifted, VerdictReached
from schemas.scores import PredictionScored
from services.gate_evaluator.core import Evaluator
from shared.audit.findings import Findings
from shared.audit.gates import TRIMMED, UNSTAMPED, check_gates
from shared.audit.source import EntryRange
from shared.gates import backtest
from shared.log import Entry, StreamKey
from shared.runtime.service import Batch, Received

HOUR = 60 * MINUTE
GATES, SCORES, FEATURES = StreamKey("gates"), StreamKey("scores"), StreamKey("features")
PRIOR = (0.25, 0.5, 0.25)
DRAWN = np.random.default_rng(1)
TRAINED = backtest.measure(
    lambda windows: np.tile([0.2, 0.5, 0.3], (len(windows), 1)) + windows[:, -1, :1] * [0.01, 0.0, -0.01],
    DRAWN.normal(size=(4000, 2)).astype(np.float32),
    np.repeat(np.arange(1000) * HOUR, 4),
    DRAWN.normal(size=(400, 1, 2)).astype(np.float32),
    DRAWN.integers(0, 3, 400),
    np.repeat(np.arange(100) * HOUR, 4),
    PRIOR,
    horizon=1,
    interval_ms=HOUR,
)
KNOWN: tuple[Command, ...] = (
    *BEFORE[:2],
    register(CANDIDATE, backtest=TRAINED, features=("rsi_14", "macd")),
    *BEFORE[3:],
    StopShadow("xgboost", CANDIDATE.hex()),
    StartShadow("xgboost", CANDIDATE.hex()),
    Promote("xgboost", CANDIDATE.hex(), forced=True, probation=100, accept_changes=True),
    SetGatePolicy("default", {"automatic": True}),
)
"""The candidate is in shadow from version 7 to 9, with a stop in between, and votes from version 10 on."""


def vectors(first: int, bars: int, version: int, shift: float = 0.0, head: bytes | None = bytes(32)) -> list[bytes]:
    drawn = np.random.default_rng(first)
    made = [
        FeaturesComputed(
            symbol=f"SYN{number}",
            interval_ms=HOUR,
            open_time=START + bar * HOUR,
            origin="synthetic",
            feature_set=b"\xff" * 32,
            values=(drawn.normal(size=2) + shift).astype("<f4").tobytes(),
            control_version=version,
            control_head=head,
        )
        for bar in range(first, first + bars)
        for number in range(4)
    ]
    return [encode("features", one).data for one in made]


def scores() -> list[PredictionScored]:
    in_shadow = [structs.replace(row, control_version=7 if bar < 520 else 9) for bar, row in enumerate(market(130))]
    voting = wrong(120, control_version=11)
    return [*in_shadow, *(structs.replace(row, open_time=row.open_time + 130 * HOUR) for row in voting)]


@cache
def served(
    seed: int, known: tuple[Command, ...] = KNOWN, head: bytes | None = bytes(32)
) -> tuple[Recorded, list[Envelope[CommandRecorded]]]:
    """A partition that an evaluator served: commands and both streams came in an order of their own, and it was
    stopped now and then."""
    source, control, draw = Recorded(), commands(first=known), random.Random(seed)
    streams = {
        SCORES: [encode("scores", score).data for score in scores()],
        FEATURES: [*vectors(0, 300, 7, head=head), *vectors(300, 300, 7, 2.0, head), *vectors(600, 100, 11, head=head)],
    }
    evaluator, folded = Evaluator(), 0
    state = evaluator.initial(b"")
    left = {place: list(data) for place, data in streams.items()}
    while any(left.values()):
        place = draw.choice([place for place in left if left[place]])
        size = draw.randint(1, 400)
        piece, left[place] = left[place][:size], left[place][size:]
        entries = [source.write(place.stream, data) for data in piece]
        received = [Received(place.stream, entry.id, decode(place.stream, entry.data)) for entry in entries]
        stamp = max(one.envelope.event.control_version for one in received)
        until = max(folded, stamp, draw.randint(0, len(control)))
        for written in evaluator.handle(state, Batch(control[folded:until], received)):
            source.write(written.stream, written.data)
        folded = until
        if draw.random() < 0.3:
            state = evaluator.initial(evaluator.snapshot(state))
            evaluator.apply(state, Batch(control[:folded], ()))
    return source, control


def checked(source: Recorded, control: Sequence[Envelope[CommandRecorded]], span: EntryRange | None = None) -> Findings:
    return check_gates(source, Evaluator(), control, 0, span or EntryRange())


def events(source: Recorded) -> list[object]:
    return [decode("gates", entry.data).event for entry in source.places[GATES]]


def changed(source: Recorded, entries: Sequence[Entry], place: StreamKey = GATES) -> Recorded:
    made = Recorded()
    made.places = {**source.places, place: list(entries)}
    return made


def first_of(source: Recorded, kind: type) -> int:
    return next(number for number, event in enumerate(events(source)) if isinstance(event, kind))


@pytest.mark.parametrize("seed", range(4))
def test_an_honest_evaluator_is_not_accused_whenever_it_read_what(seed: int) -> None:
    source, control = served(seed)
    kinds = {type(event) for event in events(source)}
    assert {VerdictReached, EvidenceRestarted, InputsDrifted, GuardTripped, ActionDue} <= kinds
    found = checked(source, control)
    assert found.differences == []
    assert found.code == 0
    assert found.equal["gates"] == len(source.places[GATES])


@pytest.mark.parametrize("kind", [VerdictReached, EvidenceRestarted, InputsDrifted])
def test_a_forged_event_is_found_where_it_stands(kind: type) -> None:
    source, control = served(0)
    entries, number = source.places[GATES], first_of(source, kind)
    envelope = decode("gates", entries[number].data)
    name = "samples" if kind is InputsDrifted else "scores"
    event = structs.replace(envelope.event, **{name: getattr(envelope.event, name) + 1})
    data = encode("gates", event, causation=envelope.causation, correlation=envelope.correlation).data
    forged = changed(source, [*entries[:number], Entry(GATES, entries[number].id, data), *entries[number + 1 :]])
    found = checked(forged, control)
    assert (found.code, found.count) == (1, 1)
    assert [(each.layer, each.entry) for each in found.differences] == [("gate", entries[number].id)]
    assert "recorded" in found.differences[0].detail


def test_an_event_that_was_removed_is_found_where_it_stood() -> None:
    source, control = served(0)
    entries, number = source.places[GATES], first_of(source, EvidenceRestarted)
    found = checked(changed(source, [*entries[:number], *entries[number + 1 :]]), control)
    assert (found.code, found.count) == (1, 1)
    (missing,) = found.differences
    assert missing.missing
    assert "EvidenceRestarted" in missing.detail
    assert missing.entry in {entry.id for entry in entries[number + 1 :]}


def test_two_events_that_changed_places_and_one_that_was_doubled_are_found() -> None:
    source, control = served(0)
    entries = source.places[GATES]
    of_scores = [number for number, event in enumerate(events(source)) if not isinstance(event, InputsDrifted)]
    one, other = of_scores[0], of_scores[1]
    swapped = list(entries)
    swapped[one] = Entry(GATES, entries[one].id, entries[other].data)
    swapped[other] = Entry(GATES, entries[other].id, entries[one].data)
    assert checked(changed(source, swapped), control).code == 1
    doubled = [*entries, Entry(GATES, f"{int(entries[-1].id.split('-')[0]) + 1}-0", entries[one].data)]
    found = checked(changed(source, doubled), control)
    assert [each.entry for each in found.differences] == [doubled[-1].id]


def test_an_evaluator_that_is_behind_is_not_accused_of_what_it_has_not_written() -> None:
    source, control = served(0)
    found = checked(changed(source, source.places[GATES][:-2]), control)
    assert (found.code, found.equal["gates"]) == (0, len(source.places[GATES]) - 2)


def test_what_a_release_without_stamps_wrote_is_not_recomputed_where_it_differs() -> None:
    before, control = served(0, head=None)
    source = changed(before, before.places[GATES])
    source.places[SCORES] = list(before.places[SCORES])
    score = structs.replace(scored(500, "SYN0", PRIOR, 1), control_version=11)
    by_commands = encode(
        "gates",
        EvidenceRestarted(
            model="xgboost",
            artifact=CHAMPION.hex(),
            changed=("policy",),
            policy="x",
            policy_digest="0" * 64,
            scores=3,
            control_version=11,
        ),
    )
    source.write("gates", by_commands.data)
    source.write("scores", encode("scores", score).data)
    found = checked(source, control)
    assert (found.code, found.count, found.unchecked) == (3, 0, {UNSTAMPED: 1})
    assert found.equal["gates"] == len(source.places[GATES]) - 1


@pytest.mark.parametrize(("place", "reason"), [(SCORES, "scores"), (FEATURES, "vectors")])
def test_what_rests_on_trimmed_entries_is_not_recomputed(
    place: StreamKey, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, control = served(0)
    trimmed = changed(source, source.places[place][400:], place)
    monkeypatch.setattr(trimmed, "whole", lambda asked: asked != place)
    found = checked(trimmed, control)
    assert (found.code, found.count) == (3, 0)
    assert TRIMMED.format(reason) in found.unchecked


def test_evidence_under_a_version_that_control_does_not_make_is_not_recomputed() -> None:
    source, control = served(0)
    found = checked(source, control[:10])
    assert (found.code, found.count) == (3, 0)


def test_a_range_is_compared_alone() -> None:
    source, control = served(0)
    entries = source.places[GATES]
    found = checked(source, control, EntryRange(entries[0].id, entries[-2].id))
    assert (found.code, found.checked["gates"]) == (0, len(entries) - 2)
