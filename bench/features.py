"""Measure the time to compute features: a new bar of 100 symbols or of one, and a batch, against talipp and TA-Lib.

A single bar is measured with warm caches, without a pause between bars, and with cold caches, after a pause as between
bars in service. The batch has a million bars.

The peers compute the classical indicators that ``user-23`` is made of, incrementally, with one object for each
indicator and symbol, after a warm-up: EMA 10, 20, 50, MACD 12/26/9, RSI 14, Bollinger 20/2, deviation 20 of returns,
means 5 and 20 of the volume, rates of change over 1, 10 and 20 bars. The batch computes all of ``user-23``, as float32
vectors.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from bench.harness import Figure, medians
from schemas.market import (
    BarClosed,
    BookSampled,
    FundingPublished,
    InputEvent,
    OpenInterestSampled,
    PriceSampled,
)
from shared.features import DEFAULT, SETS, BarArrays, compute, history
from shared.features.streaming import Streaming

PEER_SET = "user-23"
LATER = {
    **dict.fromkeys(("season-1h-36", "season-15m-30", "frames-43", "flow-38", "context-36", "context-38"), DEFAULT),
    **dict.fromkeys(("derivatives-39", "book-32"), DEFAULT),
    **dict.fromkeys(("window-flow-10", "window-1h-10", "window-1h-12", "window-15m-11"), "window-7"),
}
"""The sets whose cost for a feature is compared, each with the set that it extends: a part of the cost of a bar does
not depend on the number of features."""
MINUTE = 60_000
ROUNDS = 60
"""Bars of which the time is taken."""
PAUSE = 0.02
"""Pause before each bar of the measurement with cold caches (s)."""
BARS = 10_000
"""Bars of one symbol in the batch; each symbol is computed from the same walk."""


def run(quick: bool) -> dict[str, Figure]:
    """The figures (a) to (c) of the feature builder."""
    symbols, peer_bars = (20, 2_000) if quick else (100, 5_000)
    walk = _walk(BARS, 0)
    found = medians(3 if quick else 5, lambda: _measure(walk, symbols, peer_bars))
    scaled = "" if symbols == 100 else f", measured on {symbols * BARS:,}"
    default = SETS[DEFAULT]
    return {
        "hundred_symbols_ms": Figure(found["hundred"], "ms", "< 2", f"one new bar of 100 symbols, {DEFAULT}"),
        **{
            f"{name}_per_feature": Figure(
                found[name] / found[other], "times", "<= 1.5", f"{other}, {found[other]:.1f} us for 100 symbols"
            )
            for name, other in LATER.items()
        },
        "one_symbol_us": Figure(found["one"], "us", "", f"one new bar of one symbol, {DEFAULT}"),
        "one_symbol_cold": Figure(found["cold"], "ms", "", f"the same, {1e3 * PAUSE:.0f} ms after the bar before it"),
        "batch_us": Figure(found["batch"], "us/symbol-bar", "", f"1,000,000 symbol-bars of {PEER_SET}{scaled}"),
        "batch_default_us": Figure(found["default"], "us/symbol-bar", "", f"the same, {default.name}"),
        "batch_gaps_us": Figure(
            found["gaps"], "us/symbol-bar", "", f"the same with one bar in 500 missing, {PEER_SET}"
        ),
        "batch_over_talipp": Figure(
            found["talipp"] / found["batch"], "times", ">= 20", f"talipp {found['talipp']:.1f} us/symbol-bar"
        ),
        "batch_over_talib_stream": Figure(
            found["talib"] / found["batch"], "times", "> 1", f"TA-Lib streams {found['talib']:.2f} us/symbol-bar"
        ),
    }


def _measure(walk: BarArrays, symbols: int, peer_bars: int) -> dict[str, float]:
    gappy = _thinned(walk)
    later = _new_bars(walk, 100, [*LATER, *dict.fromkeys(LATER.values())])
    return {
        "hundred": 1e3 * _new_bar(walk, 100),
        **{name: 1e6 * taken / len(SETS[name]) for name, taken in later.items()},
        "one": 1e6 * _new_bar(walk, 1),
        "cold": 1e3 * _new_bar(walk, 1, PAUSE),
        "batch": _per_bar(lambda: compute(SETS[PEER_SET], walk), symbols, BARS),
        "default": _per_bar(lambda: compute(SETS[DEFAULT], walk), symbols, BARS),
        "gaps": _per_bar(lambda: history(SETS[PEER_SET], gappy), symbols, len(gappy)),
        "talipp": _per_bar(_talipp(walk, peer_bars), 1, peer_bars),
        "talib": _per_bar(_talib(walk, peer_bars), 1, peer_bars),
    }


def _per_bar(work: Callable[[], object], times: int, bars: int) -> float:
    """Return the time of ``work`` for one bar of one symbol (us), measured ``times`` times over ``bars`` bars."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return 1e6 * (time.perf_counter() - start) / (times * bars)


def _walk(count: int, seed: int) -> BarArrays:
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 1e-3, count)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * (1.0 + 1e-3 * random.random(count))
    low = np.minimum(open_, close) * (1.0 - 1e-3 * random.random(count))
    times = np.arange(count, dtype=np.int64) * MINUTE
    volume = random.lognormal(0.0, 1.0, count)
    further = (np.ceil(9.0 * volume), volume * close, volume * random.random(count))
    return BarArrays(times, open_, high, low, close, volume, MINUTE, *further)


def _thinned(bars: BarArrays) -> BarArrays:
    kept = np.arange(len(bars)) % 500 != 499
    fields = {name: array[kept] for name, array in bars.fields().items()}
    return BarArrays(open_time=bars.open_time[kept], **fields, interval_ms=bars.interval_ms)


def _new_bar(walk: BarArrays, symbols: int, pause: float = 0.0) -> float:
    """Return the median time (s) of an engine with full windows for one new bar of each symbol."""
    return _new_bars(walk, symbols, [DEFAULT], pause)[DEFAULT]


def _new_bars(walk: BarArrays, symbols: int, sets: Sequence[str], pause: float = 0.0) -> dict[str, float]:
    """Return the same for each set by its name. Engines take turns at each bar, since the machine is not equally fast
    all the time."""
    engines = {name: Streaming([SETS[name]]) for name in sets}
    warm = max(SETS[name].lookback for name in sets)
    names = ["BTCUSDT", *(f"S{number}" for number in range(1, symbols))]  # sets with context read its bars
    taken: dict[str, list[float]] = {name: [] for name in sets}
    for number in range(warm + ROUNDS):
        fields: dict[str, Any] = {field: float(array[number]) for field, array in walk.fields().items()}
        time_open = int(walk.open_time[number])
        bars = [BarClosed(symbol, MINUTE, time_open, **fields, origin="replay") for symbol in names]
        for name, engine in engines.items():
            events = [*_inputs(SETS[name].inputs, names, number, time_open, fields["close"]), *bars]
            first = 1 + number * 5 * symbols  # no engine gets more events for a bar
            if number < warm:
                engine.apply(events, first)
                continue
            time.sleep(pause)
            start = time.perf_counter()
            engine.handle(events, first)
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(each)) for name, each in taken.items()}


def _inputs(
    kinds: Collection[str], names: Sequence[str], number: int, time_open: int, close: float
) -> Iterator[InputEvent]:
    """Yield what a feed sends of each symbol before a bar: all that a set reads, and funding every eight hours."""
    for symbol in names:
        where: dict[str, Any] = {"symbol": symbol, "at": time_open + MINUTE, "origin": "replay"}
        if "funding" in kinds and number % 480 == 0:
            yield FundingPublished(**where, rate=1e-4)
        if "open_interest" in kinds:
            yield OpenInterestSampled(**where, amount=1000.0 * close)
        if "mark" in kinds:
            yield PriceSampled(**where, mark=close * 1.0001, index=close + 0.01 * (number % 7))
        if "book" in kinds:
            yield BookSampled(**where, bid=close, bid_size=1.0 + number % 5, ask=close * 1.0001, ask_size=2.0)


def _talipp(walk: BarArrays, count: int) -> Callable[[], object]:
    from talipp.indicators import BB, EMA, MACD, ROC, RSI, SMA, StdDev

    closes, volumes = walk.close[:count].tolist(), walk.volume[:count].tolist()
    returns = np.diff(np.log(walk.close[: count + 1])).tolist()

    def work() -> None:
        on_close = [EMA(10), EMA(20), EMA(50), MACD(12, 26, 9), RSI(14), BB(20, 2), ROC(1), ROC(10), ROC(20)]
        on_volume, on_return = [SMA(5), SMA(20), ROC(1)], StdDev(20)
        for close, volume, change in zip(closes, volumes, returns, strict=True):
            for indicator in on_close:
                indicator.add(close)
            for indicator in on_volume:
                indicator.add(volume)
            on_return.add(change)

    return work


def _talib(walk: BarArrays, count: int) -> Callable[[], object]:
    from talib import stream

    warm = 600
    closes, volumes = walk.close[:warm], walk.volume[:warm]
    returns = np.diff(np.log(walk.close[: warm + 1]))
    places = warm + np.arange(count) % (BARS - warm - 1)
    fed = (walk.close[places].tolist(), walk.volume[places].tolist(), np.diff(np.log(walk.close))[places].tolist())

    def work() -> None:
        on_close = [
            *(stream.EMA(closes, span).update for span in (10, 20, 50)),
            stream.MACD(closes, 12, 26, 9).update,
            stream.RSI(closes, 14).update,
            stream.BBANDS(closes, 20, 2.0, 2.0).update,
            *(stream.ROCP(closes, span).update for span in (1, 10, 20)),
        ]
        on_volume = [*(stream.SMA(volumes, span).update for span in (5, 20)), stream.ROCP(volumes, 1).update]
        on_return = stream.STDDEV(returns, 20).update
        for close, volume, change in zip(*fed, strict=True):
            for update in on_close:
                update(close)
            for update in on_volume:
                update(volume)
            on_return(change)

    return work
