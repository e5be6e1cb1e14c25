"""Watch one exchange: its clock, its markets, pages that are due, and the stream of each series."""

import logging
import random
from typing import Final, Protocol

import anyio

from services.feed.live import core, health
from services.feed.live.client import ClosedError, ExchangeClient
from services.feed.live.parts import part_of
from services.feed.live.sampling import InputReader
from services.feed.live.state import OVERLAP, Effects, Live, LiveSeries, Page, Read, Rules, SeriesState, StoppedError
from shared.bars.names import interval_text
from shared.bars.rows import SourceError
from shared.exchanges import BusyError, UnreachableError
from shared.runtime.loop import Loop, wait

POLL_S: Final = 0.02
"""Between two looks at the clock."""
CLOCK_MS: Final = 30_000
LISTINGS_MS: Final = 300_000
MINUTE_MS: Final = 60_000
PROGRESS_MS: Final = 10_000
BUSY_MS: Final = 1_000
LONGEST_MS: Final = 60_000
AT_ONCE: Final = 8
"""Pages that are asked for at the same time. ccxt keeps the exchange's own limit."""
_log = logging.getLogger(__name__)


class Committing(Protocol):
    """The writer of ``services.feed.live.main``."""

    loop: Loop
    lock: anyio.Lock

    def begin(self, exchange: str, history: int, at: int) -> None:
        """Add the series of an exchange whose time is ``at`` to the state."""

    async def write(self, effects: Effects) -> None:
        """Commit what follows from an observation that moved nothing that the memo records."""

    async def commit(self, effects: Effects) -> None:
        """Commit what follows from an observation. The caller holds ``lock``."""


class Exchange:
    """One exchange, from its start to ``stop``. All times are the exchange's, in milliseconds."""

    def __init__(
        self, name: str, client: ExchangeClient, live: Live, rules: Rules, writer: Committing, stop: anyio.Event
    ) -> None:
        self._name = name
        self._client = client
        self._live = live
        self._rules = rules
        self._writer = writer
        self._stop = stop
        self._inputs = InputReader(name, client, live, rules, writer, self.now, self._failed, stop)
        self._limit = anyio.CapacityLimiter(AT_ONCE)
        self._busy_until = 0
        self._busy = 0
        self._connected_at: int | None = None
        self._listings_at = 0
        self._dropped: dict[LiveSeries | None, tuple[int, int]] = {}
        """How often a subscription was dropped since it last showed a row, and until when it is not dropped again."""

    async def run(self, history: int) -> None:
        """Watch until ``stop``."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._report_waiting)
                await self._start(history)
                tasks.start_soon(self._read_clock)
                tasks.start_soon(self._read_listings)
                tasks.start_soon(self._inputs.sample)
                for state in self._live.of(self._name):
                    tasks.start_soon(self._follow, state)
                await self._read_pages()
                tasks.cancel_scope.cancel()
        except* StoppedError:
            pass

    def now(self) -> int:
        """Return the exchange's time, as last measured and counted on."""
        return self._writer.loop.clock.now_ms() + self._live.clocks[self._name].offset_ms

    async def pause(self, ms: float) -> None:
        """Wait by the exchange's time, at most until ``stop``."""
        until = self._writer.loop.clock.now_ms() + ms
        while (left := until - self._writer.loop.clock.now_ms()) > 0 and not self._stop.is_set():
            await wait(min(left / 1000, POLL_S), self._stop)

    async def _start(self, history: int) -> None:
        """Measure the clock and read the markets, for as long as it takes."""
        fruitless = 0
        while not await self._measure() or not await self._list():
            fruitless += 1
            await self.pause(max(_backoff(fruitless), self._busy_until - self.now()))
            if self._stop.is_set():
                raise StoppedError
        self._writer.begin(self._name, history, self.now())
        for state in self._live.of(self._name):
            state.part_ms = self._part(state.series)
        await self._list()
        if all(state.stopped for state in self._live.of(self._name)):
            stopped = ", ".join(state.series.market for state in self._live.of(self._name))
            raise SourceError(f"{self._name} trades none of {stopped}; see `conclave feed events`")
        self._inputs.begin()

    def _part(self, series: LiveSeries) -> int:
        """Return the interval of the rows that make the bars of a series. Raises ``SourceError`` if the exchange has
        none that does."""
        part, interval = part_of(series.interval_ms, self._client.intervals()), interval_text(series.interval_ms)
        if part is None:
            raise SourceError(
                f"{self._name} has no bars of {interval} for {series.market}, and none of which these can be made; it"
                f" has {', '.join(self._client.intervals())}"
            )
        needed, most = (OVERLAP + 2) * (series.interval_ms // part), self._rules.page
        if needed > most:
            raise SourceError(
                f"{self._name} has no bars of {interval} for {series.market}, and of {interval_text(part)} it would"
                f" take {needed} at once, of at most {most}; it has {', '.join(self._client.intervals())}"
            )
        if part != series.interval_ms:
            _log.info("%s has no bars of %s: they are made of %s", self._name, interval, interval_text(part))
        return part

    async def _measure(self) -> bool:
        """Measure the clock. Return false if there was no answer, or it took so long that it says little."""
        before = self._writer.loop.clock.now_ms()
        try:
            time_ms = await self._client.time_ms()
        except (BusyError, UnreachableError) as error:
            self._failed(error)
            return False
        after = self._writer.loop.clock.now_ms()
        unknown_ms = 0 if time_ms % 1000 else 500  # an exchange that answers in whole seconds is half a second ahead
        offset, error_ms = time_ms + unknown_ms - (before + after) // 2, (after - before) // 2 + 1 + unknown_ms
        await self._writer.write(health.measured(self._live, self._name, offset, error_ms, after, self._rules))
        return error_ms <= self._rules.clock_ms // 2

    async def _list(self) -> bool:
        """Read which markets are traded. Return false if the exchange did not answer."""
        try:
            listings = await self._client.markets()
        except (BusyError, UnreachableError) as error:
            self._failed(error)
            return False
        for state in self._live.of(self._name):
            listing = listings.get(state.series.market)
            if listing is None:
                found = health.listed(state, "not_listed", "the exchange lists no market of this name", self.now())
            elif not listing.active:
                found = health.listed(state, "not_trading", "the exchange lists it as not active", self.now())
            else:
                found = health.listed(state, None, "", self.now())
            await self._writer.write(found)
        # A long list keeps the processor busy for a while: it is read in the middle of a minute, when no bar closes.
        self._listings_at = (self.now() + LISTINGS_MS) // MINUTE_MS * MINUTE_MS + MINUTE_MS // 2
        return True

    async def _read_clock(self) -> None:
        while not self._stop.is_set():
            await self.pause(CLOCK_MS * random.uniform(0.9, 1.0))
            await self._measure()

    async def _report_waiting(self) -> None:
        while not self._stop.is_set():
            await self.pause(BUSY_MS)
            await self._writer.write(health.lasting(self._live, self._name, self.now()))

    async def _read_listings(self) -> None:
        while not self._stop.is_set():
            await self.pause(max(self._listings_at - self.now(), BUSY_MS))
            if self.now() >= self._listings_at:
                await self._list()

    async def _read_pages(self) -> None:
        """Ask for pages that are due, until ``stop``."""
        shown_at = self.now()
        async with anyio.create_task_group() as tasks:
            while not self._stop.is_set():
                now = self.now()
                if now >= self._busy_until:
                    for read in core.due(self._live, self._name, now):
                        tasks.start_soon(self._read, read)
                if now >= shown_at + PROGRESS_MS:
                    shown_at = now
                    self._show_progress(now)
                await wait(POLL_S, self._stop)
            tasks.cancel_scope.cancel()

    async def _read(self, read: Read) -> None:
        state = self._live.series[read.series]
        async with self._limit:
            asked_at = self.now()
            try:
                if asked_at < self._busy_until:
                    core.failed(state, asked_at, self._busy_until - asked_at)
                    return
                rows = await self._client.page(read)
            except (BusyError, UnreachableError) as error:
                wait_ms = self._failed(error)
                core.failed(state, self.now(), wait_ms)
                return
        await self._writer.write(health.restored(self._live, self._name, "unreachable", self.now()))
        if self.now() >= self._busy_until:
            self._busy = 0
            await self._writer.write(health.restored(self._live, self._name, "rate_limited", self.now()))
        page = Page(read, rows, asked_at, self.now())
        await self._inputs.before(state, page)
        await self._wait_for_references(state, page)
        async with self._writer.lock:
            effects = core.paged(self._live, state, page, self._live.clocks[self._name])
            await self._writer.commit(effects)
        for series in effects.lost:
            await self._drop(series)

    async def _wait_for_references(self, state: SeriesState, page: Page) -> None:
        """Wait until references have the closes of a page, at most for a stated time."""
        until = page.at + core.wait_for_references(state, page)
        while core.lagging(self._live, state, page) and self.now() < until and not self._stop.is_set():
            await wait(POLL_S, self._stop)

    def _failed(self, error: BusyError | UnreachableError) -> int:
        """Note why the exchange did not answer, and return how long to wait (ms)."""
        now = self.now()
        if isinstance(error, UnreachableError):
            health.interrupted(self._live, self._name, "unreachable", now, str(error))
            self._listings_at = min(self._listings_at, now + BUSY_MS)
            return 0
        self._busy += 1
        wait_ms = max(int(error.wait_s * 1000), error.until_ms - now)
        if wait_ms <= 0:  # it does not say
            wait_ms = min(BUSY_MS << min(self._busy, 8), 4 * LONGEST_MS)
        if now + wait_ms > self._busy_until:
            _log.warning("%s asks for fewer requests: none for %.0f s", self._name, wait_ms / 1000)
        self._busy_until = max(self._busy_until, now + wait_ms)
        health.interrupted(self._live, self._name, "rate_limited", now, str(error))
        return wait_ms

    async def _follow(self, state: SeriesState) -> None:
        """Follow the stream of a series, and connect again after it ended."""
        fruitless = 0
        while not self._stop.is_set():
            if state.stopped:
                await self.pause(BUSY_MS)
                continue
            if state.subscribed_at is None:
                state.subscribed_at = self.now()
            try:
                rows = await self._client.next_rows(state.series)
            except ClosedError as error:
                fruitless += 1
                self._closed(error)
                state.subscribed_at = None
                await self.pause(_backoff(fruitless) * random.uniform(0.5, 1.0))
                continue
            if not rows:  # the subscription was dropped, to be made again
                state.subscribed_at = None
                await anyio.sleep(0)
                continue
            fruitless, now = 0, self.now()
            self._connected_at = self._connected_at or now
            for cause in ("disconnected", "silent"):
                await self._writer.write(health.restored(self._live, self._name, cause, now))
            self._dropped.pop(state.series, None)
            for row in rows:
                await self._writer.write(core.streamed(self._live, state, row, now))

    def _closed(self, error: ClosedError) -> None:
        """Note that the connection ended."""
        now = self.now()
        if self._connected_at is not None and (self._name, "silent") not in self._live.episodes:
            routine = health.is_routine(error.code, now - self._connected_at)
            _log.log(logging.INFO if routine else logging.WARNING, "%s: %s", self._name, error)
            health.interrupted(self._live, self._name, "disconnected", now, str(error), routine=routine)
        self._connected_at = None

    async def _drop(self, series: LiveSeries) -> None:
        """Subscribe again, or connect again if no series of the exchange brings anything."""
        active = [state for state in self._live.of(self._name) if not state.stopped]
        every = len(active) > 1 and all(state.silent_since is not None for state in active)
        key, now = (None if every else series), self.now()
        times, until = self._dropped.get(key, (0, 0))
        if now < until:
            return
        self._dropped[key] = (times + 1, now + (series.interval_ms << min(times, 8)))
        what = "any series" if every else f"{series.market} {interval_text(series.interval_ms)}"
        _log.warning(
            "%s: the stream brought no row of %s, though there were trades; subscribing again", self._name, what
        )
        if every:
            health.interrupted(self._live, self._name, "silent", now, "the connection lived, and brought no row")
        await self._client.drop(None if every else series)

    def _show_progress(self, now: int) -> None:
        late = [state for state in self._live.of(self._name) if not state.stopped and state.missing_bars(now) > 2]
        if late:
            most = max(state.missing_bars(now) for state in late)
            _log.info("%s: %d series are being read up to now, up to %d bars are missing", self._name, len(late), most)


def _backoff(fruitless: int) -> int:
    return min(500 << min(fruitless, 8), LONGEST_MS)
