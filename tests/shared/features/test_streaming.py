"""Sets with context: streaming equals the history to the bit, whatever is late, missing, restarted or cut."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from schemas.market import BarClosed, MarketEvent, ReferenceCopied
from shared.features import SETS, BarArrays, FeatureSet, context_bars, context_formulas, engine, feature_set, history
from shared.features.bars import FURTHER, PRICES_AND_VOLUME
from shared.features.engine import AcceptedBars, ComputedVector, Engine, Withheld
from shared.features.expressions import close, open_time
from shared.features.refusal import RefusedBar
from shared.features.streaming import Streaming
from tests.shared.features.test_engine import closed

Walk = Callable[..., BarArrays]
MINUTE = 60_000
PLAIN = feature_set("plain", "price_change", "volume_ma_ratio")
ON_REFERENCE = ("close@REF", "price_change_less@REF", "price_change_lag_2@REF", "momentum@REF")
CONTEXT = feature_set("context", "close", *ON_REFERENCE)
OTHERS = feature_set("others", "volume_ma_ratio@REF", "momentum_less@OTHER")
FLOW = feature_set("flow", "price_change", "taker_imbalance_4@REF")
SHORT = (CONTEXT, PLAIN, OTHERS, FLOW)


Outcomes: TypeAlias = Sequence[AcceptedBars | RefusedBar | None]


def fed(
    stream: Streaming, bars: Sequence[MarketEvent], cuts: Iterable[int] = (), first: int = 1
) -> list[AcceptedBars | RefusedBar | None]:
    edges = sorted({0, *(cut % (len(bars) + 1) for cut in cuts), len(bars)})
    return [event for a, b in pairwise(edges) for event in stream.handle(bars[a:b], first + a)]


def arrays(bars: Sequence[BarClosed]) -> BarArrays:
    times = np.array([bar.open_time for bar in bars], np.int64)
    columns: dict[str, Any] = {
        name: np.array([getattr(bar, name) for bar in bars], np.float64) for name in (*PRICES_AND_VOLUME, *FURTHER)
    }
    return BarArrays(times, interval_ms=MINUTE, **columns)


def copied(bars: Sequence[BarClosed], symbols: Iterable[str] = ("OTHER", "REF")) -> list[MarketEvent]:
    """The same stream in a partition that has copies of references in place of their bars."""
    return [ReferenceCopied(**asdict(bar)) if bar.symbol in symbols else bar for bar in bars]


def recorded(chosen: FeatureSet, bars: Sequence[BarClosed], symbol: str, bridge: int) -> dict[int, tuple[int, bytes]]:
    """The vectors of a symbol's history, by open time, with how many flat bars are in their windows."""
    of = {name: arrays([bar for bar in bars if bar.symbol == name]) for name in (symbol, *chosen.references)}
    found = history(chosen, of[symbol], bridge, of)
    rows = zip(found.open_times.tolist(), found.bridged.tolist(), found.vectors, strict=True)
    return {time: (flats, vector.tobytes()) for time, flats, vector in rows}


def served(bars: Sequence[MarketEvent], outcomes: Outcomes, symbol: str, number: int) -> dict[int, tuple[int, bytes]]:
    return {
        bar.open_time: (result.bridged, result.values)
        for bar, outcome in zip(bars, outcomes, strict=True)
        if isinstance(bar, BarClosed | ReferenceCopied)
        and bar.symbol == symbol
        and isinstance(outcome, AcceptedBars)
        and isinstance(result := outcome.results[number], ComputedVector)
    }


RATES = ((0.0,) * 4, (0.01, 0.01, 0.01, 0.01), (0.0, 0.05, 0.05, 0.0))
SEEDS = st.integers(0, 2**32)
GAPS, DELAYED = st.sampled_from(RATES), st.sampled_from([0.0, 0.05, 0.5])
CUTS = st.lists(st.integers(0, 600), max_size=40)


def market(seed: int, rates: tuple[float, ...], delayed: float | None) -> list[BarClosed]:
    """Four symbols with gaps, of which REF and OTHER are references. A share ``delayed`` of bars is up to eight bars
    late; None: bars come with those of their close, those of references first."""
    random = np.random.default_rng(seed)
    symbols = ("ONE", "OTHER", "REF", "TWO")
    keyed: list[tuple[float, int, BarClosed]] = []
    for number, symbol in enumerate(symbols):
        last, silent, behind = 100.0, 0, 0.0
        for slot in range(150):
            opened, last = last, last * float(np.exp(random.normal(0.0, 1e-3)))
            silent = max(silent - 1, int(random.random() < rates[number]) * int(random.integers(1, 8)))
            if silent or slot < 10 * number:
                continue
            wait = float(random.integers(1, 9)) if random.random() < (delayed or 0.0) else 0.0
            rank = float(symbol not in ("REF", "OTHER")) if delayed is None else float(random.random())
            # Bars of one symbol stay in their order.
            behind = max(behind, slot + wait + rank / 2)
            bar = BarClosed(
                symbol=symbol,
                interval_ms=MINUTE,
                open_time=(1000 + slot) * MINUTE,
                open=opened,
                high=max(opened, last),
                low=min(opened, last),
                close=last,
                volume=float(random.integers(1, 9)),
                origin="replay",
                taker_volume=float(random.random()) if random.random() > 0.01 else None,
            )
            keyed.append((behind, slot, bar))
    return [bar for _, _, bar in sorted(keyed, key=lambda one: one[:2])]


def check_rebuilt(
    sets: Sequence[FeatureSet], events: Sequence[MarketEvent], cuts: list[int], stop: int, earlier: int
) -> None:
    """Assert that a second ``Streaming``, which reads from the oldest event of the first or ``earlier`` ones up to
    ``stop``, goes on like the first."""
    first = Streaming(sets)
    fed(first, events[:stop], cuts)
    oldest = first.oldest()
    start = stop if oldest is None else max(oldest - 1 - earlier, 0)
    second = Streaming(sets)
    for a, b in pairwise(sorted({start, *(cut for cut in cuts if start < cut < stop), stop})):
        second.apply(events[a:b], a + 1)
    second.restarted = first.restarted
    assert fed(second, events[stop:], cuts, stop + 1) == fed(first, events[stop:], first=stop + 1)
    assert second.oldest() == first.oldest()


@settings(max_examples=40, deadline=None)
@given(SEEDS, GAPS, CUTS, st.integers(0, 4), st.booleans())
def test_a_stream_with_its_references_first_gives_the_bits_of_a_history(
    seed: int, gaps: tuple[float, ...], cuts: list[int], bridge: int, copies: bool
) -> None:
    bars = market(seed, gaps, None)
    outcomes = fed(Streaming(SHORT, bridge), copied(bars) if copies else bars, cuts)
    for number, chosen in enumerate(SHORT):
        for symbol in ("ONE", "TWO"):
            assert served(bars, outcomes, symbol, number) == recorded(chosen, bars, symbol, bridge)


@settings(max_examples=40, deadline=None)
@given(SEEDS, GAPS, DELAYED, CUTS, st.integers(0, 4), st.booleans())
def test_a_vector_has_the_bits_of_a_history_though_bars_were_late_and_is_there_unless_its_reference_was(
    seed: int, gaps: tuple[float, ...], delayed: float, cuts: list[int], bridge: int, copies: bool
) -> None:
    bars = market(seed, gaps, delayed)
    outcomes = fed(Streaming(SHORT, bridge), copied(bars) if copies else bars, cuts)
    read = {(bar.symbol, bar.open_time): place for place, bar in enumerate(bars)}
    for number, chosen in enumerate(SHORT):
        for symbol in ("ONE", "TWO") if copies else ("ONE", "TWO", "REF", "OTHER"):
            whole = recorded(chosen, bars, symbol, bridge)
            in_time = {
                time: vector
                for time, vector in whole.items()
                if all(read[other, time] <= read[symbol, time] for other in chosen.references)
            }
            assert served(bars, outcomes, symbol, number) == in_time


@settings(max_examples=40, deadline=None)
@given(SEEDS, GAPS, DELAYED, CUTS, st.integers(0, 600), st.integers(0, 100), st.booleans())
def test_one_that_is_rebuilt_from_its_oldest_event_goes_on_like_the_first(
    seed: int, gaps: tuple[float, ...], delayed: float, cuts: list[int], stop: int, earlier: int, copies: bool
) -> None:
    recorded_bars = market(seed, gaps, delayed)
    bars = copied(recorded_bars) if copies else recorded_bars
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_bars, "KEPT", 12)  # so that there is something to forget
        check_rebuilt(SHORT, bars, cuts, stop % len(bars), earlier)


def test_a_copy_that_comes_twice_counts_once(walk: Walk) -> None:
    reference, own = copied(closed(walk(40, seed=8), "REF")), closed(walk(40))
    once = [bar for pair in zip(reference, own, strict=True) for bar in pair]
    twice = [bar for pair in zip(reference, own, strict=True) for bar in (*pair, pair[0])]
    assert fed(Streaming([CONTEXT]), once)[1::2] == fed(Streaming([CONTEXT]), twice)[1::3]


def test_a_copy_has_no_result_and_is_no_bar_of_its_symbol(walk: Walk) -> None:
    bars = copied(closed(walk(20, seed=8), "REF"))
    stream = Streaming([CONTEXT, PLAIN])
    assert fed(stream, bars) == [None] * 20
    [outcome] = fed(stream, closed(walk(21))[20:], first=21)
    assert outcome == AcceptedBars(0, False, (Withheld("warming", 1, 11), Withheld("warming", 1, 20)))


@pytest.mark.parametrize("name", [name for name, chosen in SETS.items() if chosen.references])
def test_every_set_with_context_streams_to_the_bits_of_its_history(name: str, walk: Walk) -> None:
    chosen = SETS[name]
    count = chosen.lookback + 40
    own, other = closed(walk(count, seed=5)), closed(walk(count, seed=8), "BTCUSDT")
    bars = [bar for pair in zip(other, own, strict=True) for bar in pair]
    outcomes = fed(Streaming([chosen]), bars, range(2 * chosen.lookback - 9, len(bars), 7))
    assert len(served(bars, outcomes, "AAA", 0)) == 41
    for symbol in ("AAA", "BTCUSDT"):
        whole = history(chosen, arrays([one for one in bars if one.symbol == symbol]), 3, {"BTCUSDT": arrays(other)})
        assert served(bars, outcomes, symbol, 0) == {
            time: (0, vector.tobytes()) for time, vector in zip(whole.open_times.tolist(), whole.vectors, strict=True)
        }


def test_sets_with_and_without_context_do_not_change_each_other(walk: Walk) -> None:
    bars = [bar for pair in zip(closed(walk(60, seed=8), "REF"), closed(walk(60)), strict=True) for bar in pair]
    together = fed(Streaming([CONTEXT, PLAIN]), bars, [40, 77])
    alone = [fed(Streaming([chosen]), bars) for chosen in (CONTEXT, PLAIN)]
    for number in range(2):
        assert [one.results[number] for one in together if isinstance(one, AcceptedBars)] == [
            one.results[0] for one in alone[number] if isinstance(one, AcceptedBars)
        ]
    own = [bar for bar in bars if bar.symbol == "AAA"]
    plain = fed(Streaming([PLAIN]), own)
    assert plain == Engine([PLAIN]).handle(own, 1)
    assert any(isinstance(one.results[0], ComputedVector) for one in plain if isinstance(one, AcceptedBars))


def test_a_late_reference_withholds_one_vector_by_name_and_no_set_without_it(walk: Walk) -> None:
    reference, own = closed(walk(40, seed=8), "REF"), closed(walk(40))
    bars = [bar for pair in zip(reference, own, strict=True) for bar in pair]
    late = [*bars[:70], bars[71], bars[70], *bars[72:]]
    outcomes = fed(Streaming([CONTEXT, PLAIN]), late)
    in_time = fed(Streaming([CONTEXT, PLAIN]), bars)
    withheld, plain = outcomes[70].results if isinstance(outcomes[70], AcceptedBars) else ()
    names = ", ".join(ON_REFERENCE)
    assert withheld == Withheld("undefined", 11, 11, f"{names}; no bar of REF with this close was read before")
    assert isinstance(plain, ComputedVector)
    assert outcomes[72:] == in_time[72:]


def test_a_reference_that_is_longer_away_than_it_is_bridged_is_undefined_until_the_window_is_past_it(
    walk: Walk,
) -> None:
    reference, own = closed(walk(60, seed=8), "REF"), closed(walk(60))
    gone = range(30, 36)
    bars = [
        bar for at, pair in enumerate(zip(reference, own, strict=True)) for bar in (pair[1:] if at in gone else pair)
    ]
    outcomes = fed(Streaming([CONTEXT]), bars)
    there = served(bars, outcomes, "AAA", 0)
    assert there == recorded(CONTEXT, bars, "AAA", 3)
    missing = [at for at in range(10, 60) if own[at].open_time not in there]
    assert missing == [*range(30, 39), *range(40, 46)]  # a lag of two bars and a change, and one of ten


def test_a_symbol_that_is_far_after_its_reference_is_withheld(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_bars, "KEPT", 25)
    reference, own = closed(walk(60, seed=8), "REF"), closed(walk(60))
    bars = [*reference, *own]
    for cuts in (range(0), range(len(bars))):
        outcomes = fed(Streaming([CONTEXT]), bars, cuts)
        assert sorted(served(bars, outcomes, "AAA", 0)) == [bar.open_time for bar in own[35:]]


def test_a_window_needs_the_events_of_its_references(walk: Walk) -> None:
    reference, own = closed(walk(40, seed=8), "REF"), closed(walk(40))
    bars = context_bars.ReferenceBars(["REF"], 11, 3)
    for index, bar in enumerate(reference, 1):
        bars.add(("REF", MINUTE, False), bar, index)
    found = Engine([CONTEXT], references=bars)
    found.handle(own, 41)
    assert found.oldest() == 31


def test_references_of_another_interval_and_synthetic_ones_are_other_series(walk: Walk) -> None:
    hours = closed(walk(40, seed=8, interval_ms=3_600_000), "REF")
    synthetic = closed(walk(40, seed=8), "REF", "synthetic")
    own = closed(walk(40))
    bars = [*hours, *synthetic, *own]
    assert not served(bars, fed(Streaming([CONTEXT]), bars), "AAA", 0)


def test_references_and_symbols_that_were_silent_for_long_are_forgotten(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FORGET_AFTER", 40)
    for module in (engine, __import__("shared.features.streaming", fromlist=["SWEEP_EVERY"])):
        monkeypatch.setattr(module, "SWEEP_EVERY", 8)
    dead, lacking, alive = closed(walk(3), "REF"), closed(walk(9), "ENDS"), closed(walk(100), "LIVE")
    stream = Streaming([CONTEXT])
    fed(stream, [*dead, *lacking, *alive], range(3, 112, 3))
    # LIVE still waits for its reference, with as many bars as a window has.
    assert stream.oldest() == 3 + 9 + 100 - CONTEXT.lookback + 1


def test_a_name_is_a_term_of_a_reference_its_lag_or_what_is_left_without_it() -> None:
    terms = {one.name: one for one in SETS["core-28"].features}
    there = {name: context_formulas.named(name, terms) for name in ("rsi_14@A", "rsi_14_lag_3@B-C", "rsi_14_less@A")}
    assert all(there.values())
    assert [one.lookback - terms["rsi_14"].lookback for one in there.values() if one] == [0, 3, 0]
    for name in ("rsi_14", "nothing@A", "rsi_14_lag_0@A", "rsi_14@", "rsi_14@A B", "@A"):
        assert context_formulas.named(name, terms) is None


def test_what_cannot_be_read_from_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="open_time is no field"):
        feature_set("mine", "minute_sin@BTCUSDT")
    with pytest.raises(ValueError, match="is no field of a reference"):
        context_formulas.ref("ETHUSDT", context_formulas.ref("BTCUSDT", close))
    with pytest.raises(ValueError, match="open_time is no field"):
        context_formulas.ref("BTCUSDT", open_time)
    with pytest.raises(ValueError, match="must be a symbol"):
        context_formulas.ref("BTC USDT", close)
    with pytest.raises(ValueError, match="needs the bars of references"):
        Engine([CONTEXT])


def test_a_history_without_the_bars_of_a_reference_is_refused_by_name(walk: Walk) -> None:
    with pytest.raises(ValueError, match="reads bars of REF of 60000 ms, and none are given"):
        history(CONTEXT, walk(40))
    with pytest.raises(ValueError, match="those given are of 3600000 ms"):
        history(CONTEXT, walk(40), references={"REF": walk(40, interval_ms=3_600_000)})


def test_a_set_names_its_references_in_its_digest() -> None:
    assert CONTEXT.references == ("REF",)
    assert OTHERS.references == ("OTHER", "REF")
    assert PLAIN.references == ()
    assert feature_set("a", "close@A").digest != feature_set("a", "close@B").digest
    assert "ref(REF, close)" in CONTEXT.definition
