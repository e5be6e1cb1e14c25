"""Ask one exchange for inputs: with pages of bars, and shortly before closes."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import anyio

from schemas.codec import UnwritableError, encode
from schemas.common import Origin
from schemas.market import InputEvent
from services.feed.live import inputs as core
from services.feed.live.client import ExchangeClient
from services.feed.live.inputs import Ask, MarketInputs, Reading
from services.feed.live.state import Effects, Live, Page, Rules, SeriesState
from shared.exchanges import BusyError, UnreachableError
from shared.inputs.kinds import Kind
from shared.runtime.loop import wait

POLL_S: Final = 0.02
AGAIN_S: Final = 0.25
TOLERANCE_MS: Final = 1_000
"""How much earlier than expected a time may be."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Writing(Protocol):
    """The part of the writer that takes events."""

    async def write(self, effects: Effects) -> None:
        """Commit what follows from an observation that moved nothing that the memo records."""


class InputReader:
    """The inputs of one exchange that installed sets read. It asks for nothing where there are none. All times are the
    exchange's, in milliseconds."""

    def __init__(
        self,
        name: str,
        client: ExchangeClient,
        live: Live,
        rules: Rules,
        writer: Writing,
        now: Callable[[], int],
        busy: Callable[[BusyError], object],
        stop: anyio.Event,
    ) -> None:
        self._name, self._client, self._live, self._rules = name, client, live, rules
        self._writer, self._now, self._busy, self._stop = writer, now, busy, stop
        self._inputs: dict[str, MarketInputs] = {}
        self._reported: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Find out which inputs the exchange offers. Its markets must be known."""
        states = self._live.of(self._name)
        offered = {}
        for market in dict.fromkeys(state.series.market for state in states if not state.stopped):
            offered[market] = frozenset(kind for kind in self._live.inputs if self._client.offers(kind, market))
            lacking = sorted(self._live.inputs - offered[market])
            if lacking:
                _log.warning(
                    "%s has no %s of %s: sets that read it are withheld", self._name, ", ".join(lacking), market
                )
        self._inputs = core.begin(states, offered)

    async def sample(self) -> None:
        """Sample shortly before each close, until ``stop``."""
        async with anyio.create_task_group() as tasks:
            while self._inputs and not self._stop.is_set():
                at = self._now()
                for market, inputs in self._inputs.items():
                    for kind in core.due(inputs, at):
                        tasks.start_soon(self._sample, market, inputs, kind)
                await wait(POLL_S, self._stop)
            tasks.cancel_scope.cancel()

    async def _sample(self, market: str, inputs: MarketInputs, kind: Kind) -> None:
        asked_at = self._now()
        reading = await self._answer(market, kind, self._client.sample(kind, market))
        if reading is None:
            await self._until(inputs.asking[kind])
        else:
            await self._write(kind, inputs.symbol, [reading], asked_at)
            inputs.sampled[kind] = inputs.asking[kind]
        del inputs.asking[kind]

    async def _until(self, at: int) -> None:
        """Wait until a time, so that what failed is not asked for again."""
        while self._now() < at and not self._stop.is_set():
            await wait(POLL_S, self._stop)

    async def before(self, state: SeriesState, page: Page) -> None:
        """Write what is to be read before a page of bars, and wait for samples of its closes, within the stated
        time."""
        inputs = self._inputs.get(state.series.market)
        close = core.newest_close(state, page)
        if inputs is None or close is None:
            return
        new = close + state.series.interval_ms > page.at
        until = page.at + (core.WAIT_MS if new else core.HISTORY_WAIT_MS)
        asks, answered = core.published(inputs, state, page), anyio.Event()

        async def ask_all() -> None:
            async with anyio.create_task_group() as tasks:
                for ask in asks:
                    tasks.start_soon(self._ask, inputs, ask, new)
            answered.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_all)
            while not answered.is_set() and self._now() < until and not self._stop.is_set():
                await wait(POLL_S, answered)
            tasks.cancel_scope.cancel()
        while core.asked_for(inputs, close) and self._now() < page.at + core.WAIT_MS and not self._stop.is_set():
            await wait(POLL_S, self._stop)

    async def _ask(self, inputs: MarketInputs, ask: Ask, new: bool) -> None:
        """Write what was published. What is expected for a new bar is asked for until it is there."""
        while True:
            readings = await self._answer(ask.market, ask.kind, self._client.published(ask))
            if readings is None:
                return
            found = [each for each in readings if each.at is not None and ask.since <= each.at <= ask.until]
            last = max((each.at or 0 for each in found), default=ask.since - 1)
            if ask.kind == "funding":
                found = core.settled(inputs.funding[ask.interval_ms], found)
            await self._write(ask.kind, inputs.symbol, found)
            if not new or ask.expected is None or last >= ask.expected - TOLERANCE_MS:
                return
            ask = ask._replace(since=last + 1)
            await wait(AGAIN_S, self._stop)

    async def _answer(self, market: str, kind: Kind, request: Awaitable[T]) -> T | None:
        """Return an answer; None where there is none, which is reported once for each market and kind."""
        try:
            return await request
        except BusyError as error:
            self._busy(error)
        except UnreachableError as error:
            self._live.counts[f"requests for {kind} without an answer"] += 1
            if (market, kind) not in self._reported:
                self._reported.add((market, kind))
                _log.warning("%s: no %s of %s: %s", self._name, kind, market, error)
        return None

    async def _write(self, kind: Kind, symbol: str, readings: Sequence[Reading], asked_at: int = 0) -> None:
        events: list[InputEvent] = []
        for reading in readings:
            at = reading.at or asked_at
            origin: Origin = "live" if self._now() - at <= self._rules.live_ms else "replay"
            event = core.event_of(kind, symbol, reading, asked_at, origin)
            try:
                encode("market", event)
            except UnwritableError as error:
                self._live.counts[f"answers that are no {kind}"] += 1
                _log.warning("%s: %s", self._name, error)
                continue
            events.append(event)
        self._live.counts["inputs"] += len(events)
        await self._writer.write(Effects(inputs=events))
