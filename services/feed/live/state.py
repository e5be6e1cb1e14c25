"""What the fold of live bars knows, what it observes and what it asks for. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from schemas.market import BarClosed, InputEvent
from schemas.operations import DeadLetter
from schemas.venue import HoleReason, Interruption, StopReason, VenueEvent
from shared.inputs.kinds import Kind

GROUP: Final = "feed"
OVERLAP: Final = 2
"""Bars before the next one that are asked for again, and dropped by identity."""
KEPT: Final = 60
"""Published bars of a series that are kept to notice revisions; ``OVERLAP + 1`` of them in the memo."""
NEVER: Final = 2**62

Policy = Literal["empty", "none"]
"""What an exchange publishes for an interval without trades: an empty bar, or none."""


class StoppedError(Exception):
    """The feed was stopped while it waited."""


class LiveSeries(NamedTuple):
    """One series of one exchange. ``market`` is its name there, ``symbol`` its name on the log."""

    exchange: str
    market: str
    symbol: str
    interval_ms: int


class Candle(NamedTuple):
    """One row of a page or a stream, as numbers. ``close_time`` is None if the exchange gives none."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int | None = None
    quote_volume: float | None = None
    taker_volume: float | None = None
    close_time: int | None = None


class Read(NamedTuple):
    """A page to ask for: at most ``limit`` rows from ``since`` (ms); up to ``until`` if that is given."""

    series: LiveSeries
    since: int
    limit: int
    until: int | None = None


class Page(NamedTuple):
    """The answer to a ``Read``, in the order of the exchange. ``asked_at`` and ``at`` are the exchange's time when the
    request was sent and when the answer came."""

    read: Read
    rows: tuple[Candle, ...]
    asked_at: int
    at: int


class Rules(NamedTuple):
    """How the fold treats the bars of an exchange. Times are in milliseconds.

    ``grace_ms``: how long after a close REST is asked though the stream has not shown the successor. ``live_ms``: a
    bar that is published later than this after its close is not live. ``hole_ms``: how long the exchange may take to
    fill a gap. ``clock_ms``: the bound of the clock's offset. ``page``: rows of a page. ``recheck_ms``: between two
    comparisons of the last bars with REST."""

    policy: Policy = "empty"
    grace_ms: int = 500
    live_ms: int = 10_000
    hole_ms: int = 5_000
    clock_ms: int = 5_000
    page: int = 500
    recheck_ms: int = 3_600_000


@dataclass
class Gap:
    """Bars from ``first`` on that pages skipped. ``blind``: no page showed the bar before them."""

    first: int
    noticed_at: int
    pages: int = 0
    blind: bool = True


@dataclass
class SeriesState:
    """One series. ``next_open`` opens the next bar to publish; the bars before it that are known are in ``recent``.

    ``part_ms``: the interval of the rows that are asked for. It is shorter than the series' own if the exchange does
    not have that (``services.feed.live.parts``).

    ``streamed``: the open time of the newest row of the stream; bars before it are closed. ``subscribed_at``: since
    when the stream should show rows. ``read_at``: no page is asked for earlier. ``fruitless``: pages in a row without
    the next bar. ``refused``: rows that became dead letters, so that they do so once. ``spoiled``: why a slot has no
    bar, by open time."""

    series: LiveSeries
    rules: Rules
    next_open: int
    part_ms: int
    recent: dict[int, BarClosed] = field(default_factory=dict)
    streamed: int = -1
    subscribed_at: int | None = None
    read_at: int = 0
    recheck_at: int = NEVER
    reading: bool = False
    fruitless: int = 0
    gap: Gap | None = None
    refused: set[tuple[int, str]] = field(default_factory=set)
    spoiled: dict[int, HoleReason] = field(default_factory=dict)
    stopped: StopReason | None = None
    silent_since: int | None = None

    @property
    def parts(self) -> int:
        """How many rows make a bar."""
        return self.series.interval_ms // self.part_ms

    def missing_bars(self, at: int) -> int:
        """Return how many closed bars have not been published at ``at``."""
        return max((at - self.next_open) // self.series.interval_ms, 0)


@dataclass
class Clock:
    """The exchange's clock: its offset to the log server's (ms), and when it was measured; None: never."""

    offset_ms: int = 0
    error_ms: int = 0
    measured_at: int | None = None
    reported: tuple[int, bool] | None = None


class Episode(NamedTuple):
    """An interruption of an exchange that is not over."""

    began: int
    routine: bool
    detail: str


@dataclass
class Live:
    """The state of all exchanges. ``counts`` says how often what happened, for people. ``waiting``: the interruptions
    that were reported while they lasted. ``references``: the symbols whose bars are published before those of others
    with their close (``core.lagging``). ``inputs``: the kinds of inputs that installed sets read."""

    series: dict[LiveSeries, SeriesState] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    episodes: dict[tuple[str, Interruption], Episode] = field(default_factory=dict)
    waiting: set[tuple[str, Interruption]] = field(default_factory=set)
    references: frozenset[str] = frozenset()
    inputs: frozenset[Kind] = frozenset()
    counts: Counter[str] = field(default_factory=Counter)

    def of(self, exchange: str) -> list[SeriesState]:
        """Return the series of an exchange."""
        return [each for each in self.series.values() if each.series.exchange == exchange]


@dataclass
class Effects:
    """What follows from an observation: inputs, bars and events to write, in order, with the symbol that chooses the
    partition; and series whose subscription brings nothing."""

    inputs: list[InputEvent] = field(default_factory=list)
    bars: list[BarClosed] = field(default_factory=list)
    events: list[tuple[str, VenueEvent]] = field(default_factory=list)
    letters: list[tuple[str, DeadLetter]] = field(default_factory=list)
    lost: list[LiveSeries] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.inputs or self.bars or self.events or self.letters)
