from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from msgspec import structs

from bench.toy import MINUTE, market
from schemas.codec import encode
from schemas.features import FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed
from schemas.training import Ends, Recipe, TrainingRequested, TrainingStarted
from schemas.venue import BarRevised, BarValues
from shared.archive.history import Reach
from shared.features import SETS, feature_set
from shared.log import START, Entry, StreamKey
from shared.log.leases import id_order
from shared.training.recorded import UnfitError, read
from shared.training.series import (
    ReferenceMissingError,
    SymbolSeries,
    TrainingSpan,
    assemble,
    computed,
    digest_of_bars,
    digest_of_vectors,
    within,
)

SET = SETS["user-8"]
BARS = {name: market(name, 700, 0.3, seed) for seed, name in enumerate(("AAA", "BBB"))}
SERIES = computed(BARS, SET, 3)
RECIPE = Recipe("prior", SET.name, {}, 3, 0.5, 1)

pytestmark = pytest.mark.anyio


class Recording:
    """A history of one partition, as services would have written it."""

    def __init__(self, series: dict[str, SymbolSeries], *, other: bool = False) -> None:
        self.streams: dict[str, list[Entry]] = {"market": [], "features": [], "venue": []}
        rows = [(int(at), symbol, row) for symbol, one in series.items() for row, at in enumerate(one.bars.open_time)]
        for at, symbol, row in sorted(rows):
            bars = series[symbol].bars
            columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
            opened, high, low, close, volume = (float(column[row]) for column in columns)
            self._add(
                "market",
                BarClosed(
                    symbol=symbol,
                    interval_ms=MINUTE,
                    open_time=at,
                    open=opened,
                    high=high,
                    low=low,
                    close=close,
                    volume=volume,
                    origin="synthetic",
                ),
            )
            vectors = dict(zip(series[symbol].open_time.tolist(), series[symbol].vectors, strict=True))
            digest = SETS["user-18"].digest if other else SET.digest
            if at in vectors:
                values = vectors[at].astype("<f4").tobytes()
                self._add(
                    "features",
                    FeaturesComputed(
                        symbol=symbol,
                        interval_ms=MINUTE,
                        open_time=at,
                        origin="synthetic",
                        feature_set=digest,
                        values=values,
                    ),
                )
            else:
                self._add(
                    "features",
                    FeaturesWithheld(
                        symbol=symbol,
                        interval_ms=MINUTE,
                        open_time=at,
                        origin="synthetic",
                        feature_set=digest,
                        reason="warming",
                        have=1,
                        need=2,
                    ),
                )

    def _add(self, stream: str, event: object) -> None:
        entries = self.streams[stream]
        entries.append(Entry(StreamKey(stream), f"{len(entries) + 1}-0", encode(stream, event).data))

    async def reach(self, place: StreamKey) -> Reach:
        raise NotImplementedError

    async def slices(self, place: StreamKey, *, after: str = START, until: str = "+") -> AsyncIterator[Sequence[Entry]]:
        last = (2**64, 0) if until == "+" else id_order(until)
        yield [entry for entry in self.streams[place.stream] if id_order(after) < id_order(entry.id) <= last]


def job(
    first: int,
    last: int,
    *,
    market_end: str = "+",
    venue_end: str = "+",
    symbols: tuple[str, ...] = (),
    revised_bars: bool = False,
) -> tuple[TrainingRequested, TrainingStarted]:
    request = TrainingRequested(
        model="m",
        recipe=RECIPE,
        cause="operator",
        evidence=None,
        actor="ada",
        reason="a test",
        at=1,
        window_ms=1,
        symbols=symbols,
        revised_bars=revised_bars,
    )
    started = TrainingStarted(
        request="0a" * 16,
        model="m",
        attempt=1,
        first=first,
        last=last,
        ends=(Ends(0, market_end, "+", venue_end),),
        worker="here",
        at=1,
    )
    return request, started


async def test_what_was_recorded_is_to_the_bit_what_is_computed_from_the_bars() -> None:
    found = await read(Recording(SERIES), *job(0, 700 * MINUTE), SET)
    assert found.origins == ("synthetic",)
    assert digest_of_vectors(found.series) == digest_of_vectors(SERIES)
    assert digest_of_bars({name: one.bars for name, one in found.series.items()}) == digest_of_bars(BARS)


async def test_a_window_of_the_recording_is_that_window_of_longer_bar_files() -> None:
    span = TrainingSpan(400 * MINUTE, 599 * MINUTE)
    found = await read(Recording(SERIES), *job(span.first, span.last), SET)
    cut = within(SERIES, span)
    assert len(cut["AAA"].bars) == 200
    assert len(cut["AAA"].open_time) == 200  # none warms up: the bars before the window were there
    assert digest_of_vectors(found.series) == digest_of_vectors(cut)
    assert digest_of_bars({s: one.bars for s, one in found.series.items()}) == digest_of_bars(
        {s: one.bars for s, one in cut.items()}
    )


async def test_no_entry_behind_the_ends_of_a_job_counts() -> None:
    recording = Recording(SERIES)
    found = await read(recording, *job(0, 700 * MINUTE, market_end="500-0"), SET)
    assert sum(len(one.bars) for one in found.series.values()) == 500


def revised(recording: Recording, *bars: tuple[str, int, float]) -> None:
    """Record that an exchange changed the close of bars: symbol, number of the bar, close."""
    for symbol, number, close in bars:
        was = BARS[symbol]
        columns = (was.open, was.high, was.low, was.close, was.volume)
        opened, high, low, last, volume = (float(column[number]) for column in columns)
        values = BarValues(opened, high, low, last, volume)
        later = structs.replace(values, close=close, high=max(values.high, close), low=min(values.low, close))
        event = BarRevised(
            exchange="local",
            symbol=symbol,
            interval_ms=MINUTE,
            open_time=int(was.open_time[number]),
            first=values,
            revised=later,
            fields=("close",),
            at=1,
        )
        recording._add("venue", event)


REVISED = (("AAA", 10, 7.0), ("AAA", 10, 8.0), ("AAA", 20, 9.0), ("BBB", 699, 3.0))


async def test_labels_use_the_first_content_of_a_bar_unless_the_job_asks_for_the_later_one() -> None:
    recording = Recording(SERIES)
    revised(recording, *REVISED)
    first = await read(recording, *job(0, 700 * MINUTE), SET)
    later = await read(recording, *job(0, 700 * MINUTE, revised_bars=True), SET)
    assert (first.revised, later.revised) == (3, 3)
    assert digest_of_bars({name: one.bars for name, one in first.series.items()}) == digest_of_bars(BARS)
    assert [float(later.series["AAA"].bars.close[at]) for at in (10, 20)] == [8.0, 9.0], "the newest content"
    changed = np.flatnonzero(later.series["AAA"].bars.close != BARS["AAA"].close).tolist()
    assert changed == [10, 20]
    assert digest_of_vectors(later.series) == digest_of_vectors(SERIES), "vectors stay those that were served"


async def test_no_revision_after_the_end_of_a_job_counts_and_none_outside_its_span() -> None:
    recording = Recording(SERIES)
    revised(recording, *REVISED)
    found = await read(recording, *job(0, 700 * MINUTE, venue_end="1-0", revised_bars=True), SET)
    assert (found.revised, float(found.series["AAA"].bars.close[10])) == (1, 7.0)
    none = await read(recording, *job(0, 700 * MINUTE, venue_end="0-0", revised_bars=True), SET)
    assert none.revised == 0, "a job of an earlier release did not read them"
    cut = await read(recording, *job(400 * MINUTE, 690 * MINUTE, revised_bars=True), SET)
    assert cut.revised == 0


async def test_only_the_symbols_that_were_asked_for_are_read() -> None:
    found = await read(Recording(SERIES), *job(0, 700 * MINUTE, symbols=("BBB",)), SET)
    assert list(found.series) == ["BBB"]


async def test_vectors_of_another_feature_set_are_refused_by_name() -> None:
    with pytest.raises(UnfitError, match=r"no vector of user-8 .* 1,400 bars, and vectors of other feature sets: "):
        await read(Recording(SERIES, other=True), *job(0, 700 * MINUTE), SET)


def test_every_value_of_a_data_set_is_in_its_digests() -> None:
    vectors = SERIES["AAA"].vectors.copy()
    vectors[3, 2] = np.nextafter(vectors[3, 2], np.float32(9))
    changed = {**SERIES, "AAA": SymbolSeries(BARS["AAA"], SERIES["AAA"].open_time, vectors)}
    assert digest_of_vectors(changed) != digest_of_vectors(SERIES)
    later = {**SERIES, "AAA": SymbolSeries(BARS["AAA"], SERIES["AAA"].open_time + MINUTE, SERIES["AAA"].vectors)}
    assert digest_of_vectors(later) != digest_of_vectors(SERIES)
    assert digest_of_vectors({"BBB": SERIES["BBB"], "AAA": SERIES["AAA"]}) == digest_of_vectors(SERIES)


def test_no_window_and_no_label_crosses_a_symbol() -> None:
    table = assemble(SERIES, 4, interval_ms=MINUTE, horizon=3)
    for number, name in enumerate(("AAA", "BBB")):
        own = assemble({name: SERIES[name]}, 4, interval_ms=MINUTE, horizon=3)
        rows = table.symbol == number
        assert (table.windows[rows] == own.windows).all()
        assert (table.z[rows] == own.z).all()


def test_a_set_with_context_needs_the_bars_of_its_references_and_reads_them_for_every_symbol() -> None:
    chosen = feature_set("context", "price_change", "price_change_less@BBB")
    series = computed(BARS, chosen, 3)
    a, b = BARS["AAA"].close[1:] / BARS["AAA"].close[:-1], BARS["BBB"].close[1:] / BARS["BBB"].close[:-1]
    assert series["AAA"].vectors[:, 1].tolist() == pytest.approx(a - b, abs=1e-6)
    assert not series["BBB"].vectors[:, 1].any()
    with pytest.raises(ReferenceMissingError, match="context reads bars of BBB for all symbols, and there are none of"):
        computed({"AAA": BARS["AAA"]}, chosen, 3)
