"""Which inputs to ask an exchange for, and the events that answers make. Pure.

What is published about the past is asked for with each page of bars, before the page is written: closes of mark and
index prices, settled funding rates, and the open interest of bars that closed while nothing was sampled. The open
interest and the book are sampled shortly before a close, since exchanges publish the former late and keep no record of
the latter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.common import Origin
from schemas.market import BookSampled, FundingPublished, InputEvent, OpenInterestSampled, PriceSampled
from services.feed.live.state import Page, SeriesState
from shared.inputs.kinds import FUNDING_MS, KINDS, OPEN_INTEREST_MS, Kind

LEAD_MS: Final = 3_000
"""How long before a close the open interest and the book are sampled."""
SHORTEST_MS: Final = 60_000
"""The shortest time between two samples. Bars that are shorter have mostly no value."""
WAIT_MS: Final = 2_000
"""How long a new bar waits for inputs, which are then asked for once. Later than that the vectors that read them are
withheld."""
HISTORY_WAIT_MS: Final = 30_000
"""The same for bars of the past."""
HOUR_MS: Final = 3_600_000
RECORD_MS: Final = 29 * 24 * HOUR_MS
"""How far back the open interest is published."""
PUBLISHED: Final[tuple[Kind, ...]] = ("funding", "open_interest", "mark", "index")
SAMPLED: Final[tuple[Kind, ...]] = ("open_interest", "book")


class Ask(NamedTuple):
    """What was published of one kind to ask for, for a series with bars of ``interval_ms``: with times from ``since``
    to ``until`` (ms), ``part_ms`` apart where there is a choice. ``expected``: the time of the one that is needed, if
    one is."""

    kind: Kind
    market: str
    interval_ms: int
    since: int
    until: int
    part_ms: int
    expected: int | None = None


class Reading(NamedTuple):
    """One answer: its time (ms), None where the exchange does not state it, and the values of its kind; ``own_ms``: the
    interval of funding, else 0."""

    at: int | None
    values: tuple[float, ...]
    own_ms: int = 0


@dataclass
class Funding:
    """When funding was settled last, the ``interval`` (ms) between two times, and when it was asked for."""

    settled: int | None = None
    interval: int | None = None
    asked_at: int | None = None

    @property
    def expected(self) -> int | None:
        """When it should be settled next; None if that is not known."""
        known = self.settled is not None and self.interval is not None
        return (self.settled or 0) + (self.interval or 0) if known else None


@dataclass
class MarketInputs:
    """The inputs of one market of an exchange. ``interval_ms``: the shortest of its series. ``sampled``: the close for
    which each kind was sampled last; ``asking``: the close for which it is being asked for. ``funding`` is that of each
    series, by the interval of its bars."""

    symbol: str
    interval_ms: int
    kinds: frozenset[Kind]
    sampled: dict[Kind, int] = field(default_factory=dict)
    asking: dict[Kind, int] = field(default_factory=dict)
    funding: dict[int, Funding] = field(default_factory=dict)


def begin(states: Iterable[SeriesState], offered: Mapping[str, frozenset[Kind]]) -> dict[str, MarketInputs]:
    """Return the inputs of each market that has some, by its name. ``offered``: the kinds that are needed and offered,
    by market."""
    found: dict[str, MarketInputs] = {}
    for state in states:
        series = state.series
        kinds = offered.get(series.market, frozenset())
        if kinds:
            shortest = max(series.interval_ms, SHORTEST_MS)
            known = found.setdefault(series.market, MarketInputs(series.symbol, shortest, kinds))
            known.interval_ms = min(known.interval_ms, shortest)
    return found


def due(inputs: MarketInputs, at: int) -> list[Kind]:
    """Return the kinds to sample now, and note that they are asked for."""
    close = (at // inputs.interval_ms + 1) * inputs.interval_ms
    if close - at > LEAD_MS:
        return []
    kinds = [
        kind
        for kind in SAMPLED
        if kind in inputs.kinds and kind not in inputs.asking and inputs.sampled.get(kind, 0) < close
    ]
    inputs.asking |= dict.fromkeys(kinds, close)
    return kinds


def asked_for(inputs: MarketInputs, close: int) -> bool:
    """Return whether a sample for a close (ms) or an earlier one is being asked for."""
    return any(asking <= close for asking in inputs.asking.values())


def newest_close(state: SeriesState, page: Page) -> int | None:
    """Return the close (ms) of the newest bar that a page adds to its series; None if it adds none."""
    interval, part = state.series.interval_ms, state.part_ms
    closes = [
        row.open_time + part for row in page.rows if row.open_time + part <= page.asked_at and row.open_time % part == 0
    ]
    newest = max(closes, default=0) // interval * interval
    return newest if newest > state.next_open else None


def published(inputs: MarketInputs, state: SeriesState, page: Page) -> list[Ask]:
    """Return what to ask for before a page is written, and note that funding was asked for."""
    newest = newest_close(state, page)
    if newest is None:
        return []
    interval, market = state.series.interval_ms, state.series.market
    first = state.next_open + interval
    asks = []
    for kind in PUBLISHED:
        if kind not in inputs.kinds:
            continue
        match kind:
            case "mark" | "index":
                asks.append(Ask(kind, market, interval, state.next_open + 1, newest, state.part_ms, newest))
            case "open_interest" if inputs.sampled.get(kind, 0) < newest:
                part = HOUR_MS if interval % HOUR_MS == 0 else OPEN_INTEREST_MS
                since = max(first - max(interval, OPEN_INTEREST_MS) + 1, page.at - RECORD_MS)
                asks.append(Ask(kind, market, interval, since, newest, part))
            case "funding":
                funding = inputs.funding.setdefault(interval, Funding())
                if _may_be_settled(funding, page.at):
                    since = first - 2 * FUNDING_MS if funding.settled is None else funding.settled + 1
                    due = funding.expected if funding.expected is not None and funding.expected <= newest else None
                    funding.asked_at = page.at
                    asks.append(Ask(kind, market, interval, since, page.at, HOUR_MS, due))
            case _:
                pass
    return asks


def _may_be_settled(funding: Funding, at: int) -> bool:
    """Return whether a rate may have been settled since it was asked for: at a full hour, or as it is due."""
    if funding.asked_at is None or at // HOUR_MS > funding.asked_at // HOUR_MS:
        return True
    return funding.settled is None or (funding.expected is not None and funding.expected <= at)


def settled(funding: Funding, readings: Sequence[Reading]) -> list[Reading]:
    """Return new funding rates with the interval between them, and note the last of them."""
    found = []
    for reading in sorted(readings, key=lambda each: each.at or 0):
        at = reading.at or 0
        if funding.settled is not None:
            if at <= funding.settled:
                continue
            hours = max(round((at - funding.settled) / HOUR_MS), 1)
            funding.interval = min(hours * HOUR_MS, FUNDING_MS)
        funding.settled = at
        found.append(reading._replace(own_ms=funding.interval or 0))
    return found


def event_of(kind: Kind, symbol: str, reading: Reading, asked_at: int, origin: Origin) -> InputEvent:
    """Return the event of an answer. ``asked_at`` (ms) is its time if the exchange does not state one."""
    at = asked_at if reading.at is None else reading.at
    values = dict(zip(KINDS[kind], reading.values, strict=True))
    match kind:
        case "funding":
            return FundingPublished(
                symbol=symbol, at=at, origin=origin, rate=values["funding"], interval_ms=reading.own_ms or None
            )
        case "open_interest":
            return OpenInterestSampled(symbol=symbol, at=at, origin=origin, amount=values["open_interest"])
        case "mark" | "index":
            return PriceSampled(symbol=symbol, at=at, origin=origin, **values)
        case "book":
            return BookSampled(symbol=symbol, at=at, origin=origin, **values)
