from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas.codec import Encoded, encode, framed
from schemas.common import Origin
from schemas.control import CommandRecorded, Found, Halt, Resume
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed, MarketEvent, OpenInterestSampled
from schemas.operations import DeadLetter
from services.feature_builder import core
from services.feature_builder.core import FeatureBuilder, Snapshot, State
from services.feature_builder.main import service
from services.feed.core import copy_of
from shared.control import EMPTY, GENESIS, fold, head_of, propose
from shared.features import SETS, FeatureSet, context_bars, engine, feature_set, streaming
from shared.runtime.service import Batch, Received, Service

MINUTE = 60_000
PAIR = feature_set("pair", "close", "price_change")
SHORT = feature_set("short", "stochastic_d_3", "volume_ratio")
CONTEXT = feature_set("context", "close", "close@BBB", "price_change_less@BBB")
LONGER = feature_set("longer", "momentum@BBB", "close@CCC")
INTEREST = feature_set("interest", "open_interest_change_4", "close")


def bar(t: int, close: float = 100.0, symbol: str = "AAA", origin: Origin = "live") -> BarClosed:
    return BarClosed(
        symbol=symbol,
        interval_ms=MINUTE,
        open_time=t * MINUTE,
        open=close,
        high=close + 1.0,
        low=close - 1.0,
        close=close,
        volume=3.0,
        origin=origin,
    )


def received(bars: Sequence[MarketEvent], flags: int = 0) -> list[Received]:
    """Bars as they come from the log, whose entry ids are the events' numbers."""
    return [Received("market", f"{i}-0", encode("market", bar, flags=flags).envelope) for i, bar in enumerate(bars, 1)]


def written(builder: FeatureBuilder, bars: Sequence[BarClosed]) -> list[Encoded]:
    return list(builder.handle(builder.initial(b""), Batch((), received(bars))))


def events(sealed: Sequence[Encoded]) -> list[object]:
    """What was written, without its stamps."""
    plain = {"control_version": 0, "control_head": None}
    return [
        structs.replace(one.envelope.event, **plain) if one.stream == "features" else one.envelope.event
        for one in sealed
    ]


def commands(count: int) -> list[Any]:
    """The first entries of a control stream: it is founded, then halted and resumed by turns."""
    state, recorded = EMPTY, []
    for number in range(count):
        command = Found(1, "the-log-of-tests") if number == 0 else Halt() if number % 2 else Resume()
        entry = propose(state, command, command_id=f"c{number}", actor="test", reason="test", at=0)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        recorded.append(encode("control", entry).envelope)
    return recorded


def stamps(sealed: Sequence[Encoded]) -> list[tuple[int, str]]:
    written = [one.envelope.event for one in sealed if one.stream == "features"]
    return [(event.control_version, event.control_head.hex()) for event in written]


def restarted(builder: FeatureBuilder, state: State, log: Sequence[Received], position: int) -> State:
    """What the runtime does after a crash behind the ``position``-th event."""
    fresh = builder.initial(builder.snapshot(state))
    start = int(builder.replay_from(state)["market"].partition("-")[0])
    for first in range(start, position, 13):
        builder.apply(fresh, Batch((), log[first : min(first + 13, position)]))
    return fresh


def test_it_is_the_service_that_the_catalogue_names() -> None:
    hosted: Service[State] = service([PAIR])
    assert (hosted.group, hosted.reads, hosted.follows_control, hosted.ticks) == (
        "feature-builder",
        ("market",),
        True,
        0,
    )


def test_each_bar_has_one_answer_a_set_in_the_order_of_the_sets() -> None:
    found = events(written(service([PAIR, SHORT]), [bar(1), bar(2, 110.0)]))
    assert found[:3] == [
        FeaturesWithheld(
            symbol="AAA",
            interval_ms=MINUTE,
            open_time=MINUTE,
            origin="live",
            feature_set=PAIR.digest,
            reason="warming",
            have=1,
            need=2,
        ),
        FeaturesWithheld(
            symbol="AAA",
            interval_ms=MINUTE,
            open_time=MINUTE,
            origin="live",
            feature_set=SHORT.digest,
            reason="warming",
            have=1,
            need=20,
        ),
        FeaturesComputed(
            symbol="AAA",
            interval_ms=MINUTE,
            open_time=2 * MINUTE,
            origin="live",
            feature_set=PAIR.digest,
            values=np.array([110, 0.1], "<f4").tobytes(),
            bridged=0,
        ),
    ]
    assert len(found) == 4


def test_all_that_follows_from_a_bar_is_stamped_with_the_configuration_in_force() -> None:
    builder = service([PAIR, SHORT])
    state = builder.initial(b"")
    before = builder.handle(state, Batch((), received([bar(1)])))
    control = commands(3)
    heads = [head_of(entry.event) for entry in control]
    after = builder.handle(state, Batch(control[:2], received([bar(4), bar(5)])))
    later = builder.handle(state, Batch(control[2:], received([bar(6)])))
    assert stamps(before) == [(0, GENESIS)] * 2
    assert stamps(after) == [(2, heads[1])] * 5
    assert stamps(later) == [(3, heads[2])] * 2


@given(cuts=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.booleans()), max_size=6))
@settings(max_examples=60, deadline=None)
def test_stamps_never_fall_whatever_restarts_come_in_between(cuts: list[tuple[int, int, bool]]) -> None:
    log, control = received([bar(t) for t in range(1, 13)]), commands(4)
    builder = service([PAIR])
    state, at, known = builder.initial(b""), 0, 0
    found: list[tuple[int, str]] = []
    for further, commanded, restart in [*sorted(cuts), (12, 4, False)]:
        stop, told = max(at, further), max(known, commanded)
        found += stamps(builder.handle(state, Batch(control[known:told], log[at:stop])))
        at, known = stop, told
        if restart:
            state = restarted(builder, state, log, at)
            builder.apply(state, Batch(control[:known], ()))
    assert len(found) == 12
    assert found == sorted(found, key=lambda stamp: stamp[0])


def test_missing_bars_are_told_before_the_answer() -> None:
    found = events(written(service([PAIR]), [bar(1), bar(4), bar(9), bar(10)]))
    assert found[1] == BarsMissing(
        symbol="AAA", interval_ms=MINUTE, open_time=4 * MINUTE, origin="live", count=2, bridged=True
    )
    assert isinstance(found[2], FeaturesComputed)
    assert found[2].bridged == 1
    assert found[3] == BarsMissing(
        symbol="AAA", interval_ms=MINUTE, open_time=9 * MINUTE, origin="live", count=4, bridged=False
    )
    assert found[4] == FeaturesWithheld(
        symbol="AAA",
        interval_ms=MINUTE,
        open_time=9 * MINUTE,
        origin="live",
        feature_set=PAIR.digest,
        reason="gap",
        have=1,
        need=2,
    )
    assert isinstance(found[5], FeaturesComputed)


def test_without_a_bridge_every_gap_starts_the_window_anew() -> None:
    found = events(written(service([PAIR], bridge=0), [bar(1), bar(3)]))
    assert found[1] == BarsMissing(
        symbol="AAA", interval_ms=MINUTE, open_time=3 * MINUTE, origin="live", count=1, bridged=False
    )


def test_an_undefined_value_is_named() -> None:
    still = [
        BarClosed(
            symbol="AAA",
            interval_ms=MINUTE,
            open_time=t * MINUTE,
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
            volume=0.0,
            origin="replay",
        )
        for t in range(20)
    ]
    assert events(written(service([SHORT]), still))[-1] == FeaturesWithheld(
        symbol="AAA",
        interval_ms=MINUTE,
        open_time=19 * MINUTE,
        origin="replay",
        feature_set=SHORT.digest,
        reason="undefined",
        have=20,
        need=20,
        detail="stochastic_d_3, volume_ratio",
    )


def test_an_answer_names_its_bar_and_carries_its_trace() -> None:
    log = received([bar(1), bar(2)], flags=1)
    builder = service([PAIR])
    for entry, answer in zip(log, builder.handle(builder.initial(b""), Batch((), log)), strict=True):
        assert answer.stream == "features"
        assert answer.envelope.causation == answer.envelope.correlation == entry.envelope.id
        assert answer.envelope.sampled
        assert not framed("features", answer.data).fault


@pytest.mark.parametrize(
    ("second", "reason"),
    [(bar(5), "duplicate"), (bar(5, 101.0), "conflict"), (bar(4), "out_of_order")],
)
def test_a_refused_bar_is_set_aside_with_its_place_and_reason(second: BarClosed, reason: str) -> None:
    log = received([bar(5), second, bar(6)])
    builder = service([PAIR])
    sealed = builder.handle(builder.initial(b""), Batch((), log))
    letter = sealed[1].envelope.event
    assert sealed[1].stream == "dead"
    assert isinstance(letter, DeadLetter)
    assert (letter.service, letter.source, letter.reason) == ("feature-builder", "market@2-0", reason)
    assert msgspec.json.decode(letter.raw, type=BarClosed) == second
    assert sealed[1].envelope.causation == log[1].envelope.id
    assert events([sealed[0], sealed[2]]) == events(written(builder, [bar(5), bar(6)]))


def test_a_copy_of_a_bar_has_no_features_and_is_read_by_those_of_others() -> None:
    builder = service([PAIR, CONTEXT])
    log: list[MarketEvent] = [
        copy_of(bar(1, 50.0, "BBB")),
        bar(1),
        copy_of(bar(2, 55.0, "BBB")),
        bar(2, 110.0),
        bar(3, 110.0),
    ]
    sealed = builder.handle(builder.initial(b""), Batch((), received(log)))
    found = events(sealed)
    assert {event.symbol for event in found if isinstance(event, FeaturesComputed | FeaturesWithheld)} == {"AAA"}
    vector, late = [event for event in found if getattr(event, "feature_set", b"") == CONTEXT.digest][1:]
    assert isinstance(vector, FeaturesComputed)
    assert np.frombuffer(vector.values, "<f4").tolist() == [110.0, 55.0, 0.0]
    assert isinstance(late, FeaturesWithheld)
    assert (late.reason, late.detail) == (
        "undefined",
        "close@BBB, price_change_less@BBB; no bar of BBB with this close was read before",
    )
    whole = builder.handle(builder.initial(b""), Batch((), received([*log, bar(4)])))
    assert [one.data for one in whole[: len(sealed)]] == [one.data for one in sealed]


def test_a_fresh_service_needs_nothing_read_again() -> None:
    builder = service([PAIR])
    assert builder.replay_from(builder.initial(b"")) == {"market": "0-0"}


def test_since_follows_the_oldest_bar_that_is_needed() -> None:
    builder = service([PAIR])
    state = builder.initial(b"")
    log = received([bar(t) for t in range(2000)])
    for first in range(0, 2000, 100):
        builder.handle(state, Batch((), log[first : first + 100]))
        start = int(builder.replay_from(state)["market"].partition("-")[0])
        assert first + 99 - core.MILESTONE <= start < first + 100
        assert len(state.milestones) <= 2
    assert len(builder.snapshot(state)) < 20


def test_a_restart_remembers_why_a_window_is_not_full() -> None:
    builder = service([SHORT])
    log = received([bar(t) for t in range(300)] + [bar(t) for t in range(310, 330)])
    state = builder.initial(b"")
    builder.handle(state, Batch((), log[:310]))
    assert msgspec.msgpack.decode(builder.snapshot(state), type=Snapshot).restarted == (("AAA", MINUTE, False),)
    fresh = restarted(builder, state, log, 310)
    assert builder.snapshot(fresh) == builder.snapshot(state)
    found = events(builder.handle(fresh, Batch((), log[310:])))
    assert found[0] == FeaturesWithheld(
        symbol="AAA",
        interval_ms=MINUTE,
        open_time=320 * MINUTE,
        origin="live",
        feature_set=SHORT.digest,
        reason="gap",
        have=11,
        need=20,
    )
    assert isinstance(found[-1], FeaturesComputed)
    assert msgspec.msgpack.decode(builder.snapshot(fresh), type=Snapshot).restarted == ()


def test_a_restart_remembers_why_a_window_with_context_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MILESTONE", 1)
    builder = service([feature_set("longer", "momentum", "close@BBB")])
    times = [*range(300), *range(5000, 5020)]
    log = received([one for t in times for one in (copy_of(bar(t, symbol="BBB")), bar(t, 100.0 + t % 7))])
    state = builder.initial(b"")
    builder.handle(state, Batch((), log[:610]))
    found = events(builder.handle(restarted(builder, state, log, 610), Batch((), log[610:])))
    assert [event.reason for event in found if isinstance(event, FeaturesWithheld)] == ["gap"] * 5


def test_a_restart_keeps_the_bars_of_references_that_others_have_not_reached() -> None:
    builder = service([CONTEXT])
    log = received([*(copy_of(bar(t, symbol="BBB")) for t in range(500)), *(bar(t) for t in range(500))])
    state = builder.initial(b"")
    whole = builder.handle(state, Batch((), log))
    for crash in (500, 501, 700):
        state = builder.initial(b"")
        before = builder.handle(state, Batch((), log[:crash]))
        after = builder.handle(restarted(builder, state, log, crash), Batch((), log[crash:]))
        assert [one.data for one in (*before, *after)] == [one.data for one in whole]
    assert sum(isinstance(event, FeaturesComputed) for event in events(whole)) == 499


@st.composite
def markets(draw: st.DrawFn) -> list[BarClosed]:
    """A stream with all that may befall one: gaps, silence, repeated, old and conflicting bars."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = ("AAA", "BBB", "CCC")[: draw(st.integers(1, 3))]
    trouble = draw(st.sampled_from([0.0, 0.05, 0.3]))
    clocks = dict.fromkeys(names, 100)
    stream = []
    for _ in range(draw(st.integers(50, 700))):
        name = str(random.choice(names, p=None if random.random() > trouble else np.eye(len(names))[0]))
        step = int(random.choice([0, -1, -7, 2, 4, 5, 30])) if random.random() < trouble else 1
        time = clocks[name] + step
        clocks[name] = max(time, clocks[name])
        stream.append(bar(time, 100.0 + float(random.normal()), name, "synthetic" if step == 2 else "live"))
    return stream


@settings(max_examples=40, deadline=None)
@given(
    markets(),
    st.lists(st.integers(1, 699), max_size=40),
    st.lists(st.integers(1, 699), max_size=4),
    st.booleans(),
    st.sampled_from([(PAIR, SHORT), (CONTEXT,), (PAIR, LONGER, CONTEXT), (SHORT, CONTEXT), (INTEREST, PAIR, CONTEXT)]),
    st.sampled_from([(), ("BBB",), ("BBB", "CCC")]),
)
def test_neither_batches_nor_restarts_change_a_byte(
    bars: list[BarClosed],
    cuts: list[int],
    crashes: list[int],
    forgetful: bool,
    sets: tuple[FeatureSet, ...],
    copied: tuple[str, ...],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "MILESTONE", 8 if len(bars) % 2 else 1)
        patch.setattr(engine, "FORGET_AFTER", 30 if forgetful else 2**18)
        patch.setattr(engine, "SWEEP_EVERY", 8)
        patch.setattr(streaming, "SWEEP_EVERY", 8)
        patch.setattr(context_bars, "KEPT", 10)
        builder = service(sets, bridge=2)
        stream: list[MarketEvent] = []
        for number, one in enumerate(bars):
            if number % 3:
                at = (one.open_time // MINUTE + number % 5 - 2) * MINUTE
                stream.append(OpenInterestSampled(symbol=one.symbol, at=at, origin=one.origin, amount=1.0 + number))
            stream.append(copy_of(one) if one.symbol in copied else one)
        log = received(stream)
        whole = builder.handle(builder.initial(b""), Batch((), log))
        state = builder.initial(b"")
        pieces: list[Encoded] = []
        for first, last in pairwise(sorted({0, len(log), *(c for c in (*cuts, *crashes) if c < len(log))})):
            if first in crashes:
                state = restarted(builder, state, log, first)
            pieces += builder.handle(state, Batch((), log[first:last]))
        assert [one.data for one in pieces] == [one.data for one in whole]


@pytest.mark.parametrize(("sets", "bridge"), [([], 3), ([PAIR, PAIR], 3), ([PAIR], -1)])
def test_a_service_without_sets_with_one_twice_or_a_negative_bridge_is_refused(
    sets: list[FeatureSet], bridge: int
) -> None:
    with pytest.raises(ValueError, match=r"feature set|negative"):
        service(sets, bridge)


def test_all_named_sets_can_be_served_together() -> None:
    assert service(list(SETS.values())).sets == tuple(SETS.values())


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=5, max_size=60), st.data())
def test_windows_follow_from_the_bars_alone_where_the_memo_is_gone(steps: list[int], data: st.DataObject) -> None:
    """As after a start without the record of the group: all bars up to its position are taken in again."""
    builder = FeatureBuilder([PAIR, SHORT], 2)
    times = [sum(steps[: number + 1]) for number in range(len(steps))]
    log = received([bar(t, close=100.0 + t % 7) for t in times])
    cut = data.draw(st.integers(1, len(log)))
    undisturbed = builder.initial(b"")
    builder.handle(undisturbed, Batch((), log[:cut]))
    again = builder.initial(builder.recall(b"", ()))
    builder.reapply(again, Batch((), log[:cut]))
    assert (builder.snapshot(again), builder.replay_from(again)) == (
        builder.snapshot(undisturbed),
        builder.replay_from(undisturbed),
    )
    expected = [one.data for one in builder.handle(undisturbed, Batch((), log[cut:]))]
    assert [one.data for one in builder.handle(again, Batch((), log[cut:]))] == expected
