"""Fold pages, rows of streams and times into closed bars, named holes and revisions. Pure.

A bar is published only from a page that was asked for after its close, by the exchange's time. Rows of a stream say
when to ask. Nothing is published out of order, twice or half: ``SeriesState.next_open`` only advances, and a gap is
passed only when pages confirmed it, which names it.
"""

import math
from collections.abc import Container, Iterator, Sequence
from itertools import groupby
from typing import Final

from schemas.catalogue import partition_of
from schemas.codec import Encoded, UnwritableError, encode
from schemas.common import Origin
from schemas.market import BarClosed
from schemas.operations import DeadLetter, Refusal
from schemas.venue import BarRevised, BarsAbsent, BarValues, FeedInterrupted, HoleReason, SymbolStopped
from services.feed.core import LONGEST_TEXT, Memo, copy_of
from services.feed.live.parts import joined
from services.feed.live.state import (
    GROUP,
    KEPT,
    OVERLAP,
    Candle,
    Clock,
    Effects,
    Gap,
    Live,
    LiveSeries,
    Page,
    Read,
    Rules,
    SeriesState,
)
from shared.bars.chunks import explain
from shared.telemetry.reporting import flags_of

SOURCE: Final = "exchange"
"""The identity of the source in the memo. Every start with exchanges continues it."""
FIRST_RETRY_MS: Final = 250
LAST_RETRY_MS: Final = 30_000
STALE_MS: Final = 600_000
"""A clock that was measured longer ago is not known."""
BLIND_PAGES: Final = 4
"""Pages that must agree on a gap if none of them shows the bar before it."""
REFERENCE_MS: Final = 2_000
"""How long a new bar waits for the bars of references with its close. Later than that the vectors that read them are
withheld."""
REFERENCE_HISTORY_MS: Final = 30_000
"""The same for bars of the past, of which references have pages to read, too."""
SETTLE_MS: Final = 50
"""How long after its close a bar is asked for at the earliest."""
VALUES: Final = ("open", "high", "low", "close", "volume", "trades", "quote_volume", "taker_volume")


def begin(series: LiveSeries, rules: Rules, known: Sequence[BarClosed], history: int, at: int) -> SeriesState:
    """Return the state of a series whose last published bars are ``known``, in order. Without any, it begins
    ``history`` bars ago."""
    interval = series.interval_ms
    if known:
        recent = {bar.open_time: bar for bar in known}
        first = known[-1].open_time + interval
        return SeriesState(series, rules, first, interval, recent, recheck_at=at + rules.recheck_ms)
    first = at // interval * interval - history * interval
    return SeriesState(series, rules, first, interval, recheck_at=at + rules.recheck_ms)


def usable(clock: Clock, rules: Rules, at: int) -> bool:
    """Return whether the exchange's time is known well enough to call a bar live."""
    if clock.measured_at is None or at - clock.measured_at > STALE_MS:
        return False
    return abs(clock.offset_ms) + clock.error_ms <= rules.clock_ms


def due(live: Live, exchange: str, at: int) -> list[Read]:
    """Return the pages to ask for now, and note that they are asked for: those furthest in the past first."""
    reads = []
    for state in sorted(live.of(exchange), key=lambda each: _rank(live, each)):
        if state.stopped or state.reading or at < state.read_at:
            continue
        interval, parts = state.series.interval_ms, state.parts
        closed, most = state.next_open + interval, state.rules.page // parts
        shown = state.streamed > state.next_open or at >= closed + state.rules.grace_ms
        if at >= closed + SETTLE_MS and shown:
            since = state.next_open - OVERLAP * interval
        elif at >= state.recheck_at:
            kept = KEPT if parts == 1 else min(KEPT, most)
            since = max(state.next_open - kept * interval, min(state.recent, default=state.next_open))
        else:
            continue
        limit = min(max((at - since) // interval + 2, OVERLAP + 2), most)
        until = since + limit * interval - 1 if state.fruitless else None
        state.reading = True
        reads.append(Read(state.series, since, limit * parts, until))
    return reads


def lagging(live: Live, state: SeriesState, page: Page) -> bool:
    """Return whether a page shows bars whose close a reference has not reached, so that it may be published before
    them. A reference that is stopped, or is not read here, is not waited for."""
    if state.series.symbol in live.references:
        return False
    interval = state.series.interval_ms
    closed = [row.open_time for row in page.rows if row.open_time + interval <= page.asked_at]
    newest = max(closed, default=-1) // interval * interval
    return any(
        other.next_open <= newest
        for series, other in live.series.items()
        if series.symbol in live.references and series.interval_ms == interval and not other.stopped
    )


def wait_for_references(state: SeriesState, page: Page) -> int:
    """Return how long (ms) a page may wait for the bars of references: less where it shows the newest bar, which is to
    be live."""
    live = state.next_open + 2 * state.series.interval_ms > page.at
    return REFERENCE_MS if live else REFERENCE_HISTORY_MS


def _rank(live: Live, state: SeriesState) -> tuple[int, bool]:
    return state.next_open, state.series.symbol not in live.references


def failed(state: SeriesState, at: int, wait_ms: int = 0) -> None:
    """Note that a page was not answered. It is asked for again after a while, at least after ``wait_ms``."""
    state.reading = False
    state.fruitless += 1
    state.read_at = at + max(wait_ms, _retry_ms(state))


def streamed(live: Live, state: SeriesState, row: Candle, at: int) -> Effects:
    """Note a row of a stream."""
    effects = Effects()
    opened = row.open_time
    if opened % state.part_ms or not 0 <= opened <= at + state.rules.clock_ms:
        live.counts["stream rows off the grid"] += 1
        return effects
    if state.silent_since is not None:
        series = state.series
        effects.events.append(
            (
                series.symbol,
                FeedInterrupted(
                    exchange=series.exchange,
                    cause="subscription_lost",
                    routine=False,
                    symbols=(series.symbol,),
                    began=state.silent_since,
                    length_ms=max(at - state.silent_since, 0),
                    detail="there were trades, and the stream brought no row",
                ),
            )
        )
        state.silent_since = None
    opened -= opened % state.series.interval_ms
    state.streamed = max(state.streamed, opened)
    known = state.recent.get(opened) if state.parts == 1 else None
    if opened < state.next_open:
        live.counts["stream rows of published bars"] += 1
        if known is not None and not _agrees(known, row):  # REST decides whether it was revised
            state.recheck_at = min(state.recheck_at, at + 2 * FIRST_RETRY_MS)
    return effects


def paged(live: Live, state: SeriesState, page: Page, clock: Clock) -> Effects:
    """Publish what a page adds to its series."""
    effects = Effects()
    state.reading = False
    if state.stopped:
        return effects
    interval, latest = state.series.interval_ms, page.at + clock.error_ms
    ambiguous = next((row for row in page.rows if row.open_time > latest and row.open_time % state.part_ms == 0), None)
    if ambiguous is not None:
        return _stop(state, ambiguous, page.at)
    before = state.next_open
    fresh, twice = _sort(live, state, page, clock, effects)
    origin: Origin
    for opened in sorted(fresh):
        if opened > state.next_open and not _passes(state, opened, page, effects):
            break
        known_well = usable(clock, state.rules, page.at)
        late = page.at - opened - interval
        origin = "live" if known_well and late <= state.rules.live_ms else "replay"
        bar = _bar(state.series, fresh[opened], origin)
        try:
            encode("market", bar)
        except UnwritableError as error:
            _refuse(state, fresh[opened], "bad_row", str(error), effects)
            break
        effects.bars.append(bar)
        _published(live, state, bar, effects)
    for row in twice:
        _compare(live, state, row, page.at, effects)
    _plan(state, before, page.at)
    return effects


def _sort(
    live: Live, state: SeriesState, page: Page, clock: Clock, effects: Effects
) -> tuple[dict[int, Candle], list[Candle]]:
    """Return the closed bars from ``next_open`` on by open time, and second ones for one of them. Older bars are
    compared with what was published."""
    fresh: dict[int, Candle] = {}
    twice: list[Candle] = []
    for row in _closed(live, state, page, clock, effects):
        if row.open_time < state.next_open:
            _compare(live, state, row, page.at, effects)
        elif row.open_time in fresh:
            twice.append(row)
        else:
            fresh[row.open_time] = row
    return fresh, twice


def _closed(live: Live, state: SeriesState, page: Page, clock: Clock, effects: Effects) -> Sequence[Candle]:
    """Return the closed bars that a page shows, each made of its parts if it has some. Rows that are no bars are
    refused."""
    good = []
    for row in page.rows:
        if row.open_time + state.part_ms > page.asked_at - clock.error_ms:
            live.counts["rows of open bars"] += 1
        elif fault := _fault(row, state.part_ms):
            if row.open_time >= state.next_open:
                _refuse(state, row, *fault, effects)
        else:
            good.append(row)
    return good if state.parts == 1 else joined(good, state.series.interval_ms, state.part_ms)


def _passes(state: SeriesState, opened: int, page: Page, effects: Effects) -> bool:
    """Return whether the bars before ``opened`` are a hole that pages have confirmed, and name it then."""
    if not state.recent:  # the history begins here
        state.next_open = opened
        return True
    blind = not any(row.open_time in state.recent for row in page.rows)
    gap = state.gap
    if gap is None or gap.first != state.next_open:
        gap = state.gap = Gap(state.next_open, page.at, blind=blind)
    gap.pages += 1
    gap.blind = gap.blind and blind
    by_policy = state.rules.policy == "none" and not blind and not state.spoiled
    pages = BLIND_PAGES if gap.blind else 2
    if not by_policy and (gap.pages < pages or page.at - gap.noticed_at < state.rules.hole_ms):
        return False
    usual: HoleReason = "no_trades" if state.rules.policy == "none" else "not_published"
    if gap.blind:
        usual = "history_ended"
    interval = state.series.interval_ms
    slots = range(state.next_open, opened, interval)
    lacking = "" if state.parts == 1 else f", or without one of the {state.parts} bars that make one"
    for reason, run in groupby(slots, key=lambda slot: state.spoiled.get(slot, usual)):
        absent = list(run)
        hole = BarsAbsent(
            exchange=state.series.exchange,
            symbol=state.series.symbol,
            interval_ms=interval,
            first=absent[0],
            count=len(absent),
            reason=reason,
            policy=state.rules.policy,
            detail=f"{gap.pages} pages went on at {opened} without them{lacking}",
            at=page.at,
        )
        effects.events.append((state.series.symbol, hole))
    state.next_open, state.gap, state.spoiled = opened, None, {}
    return True


def _published(live: Live, state: SeriesState, bar: BarClosed, effects: Effects) -> None:
    live.counts[f"{bar.origin} bars"] += 1
    state.next_open = bar.open_time + bar.interval_ms
    state.recent[bar.open_time] = bar
    while len(state.recent) > KEPT:
        del state.recent[min(state.recent)]
    state.refused = {each for each in state.refused if each[0] >= bar.open_time}
    state.spoiled.pop(bar.open_time, None)
    if bar.origin != "live" or state.subscribed_at is None or state.subscribed_at > bar.open_time:
        return
    if state.streamed >= bar.open_time:
        return
    if not bar.volume:
        live.counts["quiet bars"] += 1
        return
    live.counts["bars that the stream did not show"] += 1
    state.silent_since = bar.open_time if state.silent_since is None else state.silent_since
    state.subscribed_at = None  # until it is subscribed again
    effects.lost.append(state.series)


def _compare(live: Live, state: SeriesState, row: Candle, at: int, effects: Effects) -> None:
    """Report a revision if a row differs from the bar that was published for it."""
    known = state.recent.get(row.open_time)
    if known is None:
        live.counts["older rows"] += 1
        return
    bar = _bar(state.series, row, known.origin)
    fields = tuple(
        name
        for name in VALUES
        if getattr(known, name) != getattr(bar, name) and None not in (getattr(known, name), getattr(bar, name))
    )
    if not fields:
        live.counts["rows of published bars"] += 1
        return
    state.recent[row.open_time] = bar
    revision = BarRevised(
        exchange=state.series.exchange,
        symbol=bar.symbol,
        interval_ms=bar.interval_ms,
        open_time=bar.open_time,
        first=_values(known),
        revised=_values(bar),
        fields=fields,
        at=at,
    )
    effects.events.append((bar.symbol, revision))


def _refuse(state: SeriesState, row: Candle, reason: Refusal, detail: str, effects: Effects) -> None:
    """Write a dead letter for a row, once, and note why its slot has no bar."""
    interval = state.series.interval_ms
    because: HoleReason = "off_grid" if reason == "off_grid" else "cut" if "incomplete" in detail else "refused"
    slot = row.open_time // interval * interval
    state.spoiled.setdefault(slot, because)
    if (row.open_time, reason) in state.refused:
        return
    state.refused.add((row.open_time, reason))
    series = state.series
    letter = DeadLetter(
        service=GROUP,
        source=f"{series.exchange}:{series.market}"[:LONGEST_TEXT],
        reason=reason,
        detail=detail[:LONGEST_TEXT],
        raw=repr(tuple(row))[:LONGEST_TEXT],
    )
    effects.letters.append((series.symbol, letter))


def _stop(state: SeriesState, row: Candle, at: int) -> Effects:
    state.stopped = "ambiguous_times"
    series = state.series
    detail = (
        f"a row has the time {row.open_time}, which is {row.open_time - at} ms after the exchange's own: its times"
        " may be ends of bars; state them as such in end_stamped"
    )
    stop = SymbolStopped(
        exchange=series.exchange,
        symbol=series.symbol,
        market=series.market,
        reason="ambiguous_times",
        detail=detail,
        at=at,
    )
    return Effects(events=[(series.symbol, stop)])


def _plan(state: SeriesState, before: int, at: int) -> None:
    """Choose when the next page is asked for."""
    if at >= state.recheck_at:
        state.recheck_at = at + state.rules.recheck_ms
    if state.next_open > before:
        state.fruitless, state.read_at = 0, at
        return
    if state.next_open + state.series.interval_ms <= at:
        state.fruitless += 1
        state.read_at = at + _retry_ms(state)


def _retry_ms(state: SeriesState) -> int:
    """Return the wait before the next page: doubled with each fruitless one, and never longer than half a bar."""
    longest = min(LAST_RETRY_MS, max(state.series.interval_ms // 2, FIRST_RETRY_MS))
    return min(FIRST_RETRY_MS << min(state.fruitless, 10), longest)


def _fault(row: Candle, interval_ms: int) -> tuple[Refusal, str] | None:
    """Return why a row is not a bar; None if it is one."""
    numbers = list(row[1:6])
    if not all(math.isfinite(number) for number in numbers):
        return "not_finite", f"open, high, low, close, volume: {numbers}"
    first, high, low, last, volume = numbers
    closed = row.open_time + interval_ms if row.close_time is None else row.close_time
    good = (
        0 < low <= min(first, last)
        and max(first, last) <= high < 1e15
        and 0 <= volume < 1e18
        and 0 <= row.open_time < 2**53
        and row.open_time % interval_ms == 0
        and interval_ms - 1 <= closed - row.open_time <= interval_ms
    )
    return None if good else explain((row.open_time, True, closed), numbers, interval_ms)


def _bar(series: LiveSeries, row: Candle, origin: Origin) -> BarClosed:
    return BarClosed(
        symbol=series.symbol,
        interval_ms=series.interval_ms,
        open_time=row.open_time,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        origin=origin,
        trades=row.trades,
        quote_volume=row.quote_volume,
        taker_volume=row.taker_volume,
    )


def _values(bar: BarClosed) -> BarValues:
    return BarValues(**{name: getattr(bar, name) for name in VALUES})


def _agrees(bar: BarClosed, row: Candle) -> bool:
    return (bar.open, bar.high, bar.low, bar.close, bar.volume) == row[1:6]


def encoded(
    effects: Effects, partitions: int, share: float = 0.0, references: Container[str] = ()
) -> dict[int, list[Encoded]]:
    """Return what to write, by partition: events about what precedes a bar first, inputs, bars, then dead letters.

    Copies of the bars of ``references`` come first, and are to be committed first: a bar whose copies were not all
    written is then read and copied again. The first copy counts."""
    parts: dict[int, list[Encoded]] = {}
    for bar in effects.bars:
        if bar.symbol in references:
            copy = encode("market", copy_of(bar))
            for partition in range(partitions):
                if partition != partition_of(bar.symbol, partitions):
                    parts.setdefault(partition, []).append(copy)
    for symbol, output in _outputs(effects, share):
        parts.setdefault(partition_of(symbol, partitions) if symbol else 0, []).append(output)
    return parts


def _outputs(effects: Effects, share: float) -> Iterator[tuple[str, Encoded]]:
    for symbol, event in effects.events:
        yield symbol, encode("venue", event)
    for sampled in effects.inputs:
        yield sampled.symbol, encode("market", sampled)
    for bar in effects.bars:
        plain = encode("market", bar)
        flags = flags_of(plain.envelope.id, share)
        yield bar.symbol, encode("market", bar, flags=flags) if flags else plain
    for symbol, letter in effects.letters:
        yield symbol, encode("dead", letter)


def snapshot(live: Live, others: Sequence[BarClosed], partition: int, partitions: int) -> Memo:
    """Return the memo of a partition. ``others``: the newest bars of series that are not read now."""
    kept = list(others)
    for state in live.series.values():
        if partition_of(state.series.symbol, partitions) == partition:
            newest = sorted(state.recent)[-OVERLAP - 1 :]
            kept += [state.recent[opened] for opened in newest]
    return Memo(SOURCE, "the exchanges", partitions, 0, ended=True, newest=tuple(kept))
