"""Run the live feed: claim the group, watch every exchange, write what the fold says, until it is stopped."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

import anyio
import msgspec

from schemas.catalogue import partition_of
from schemas.codec import encode
from schemas.market import BarClosed
from services.feed import core as files
from services.feed.backlog import Backlog
from services.feed.live import core
from services.feed.live.client import PAGE, PAGES, ExchangeClient, open_client
from services.feed.live.exchange import Exchange
from services.feed.live.state import GROUP, Clock, Effects, Live, LiveSeries, Rules, StoppedError
from shared.bars.markets import named_markets
from shared.bars.rows import Series, SourceError
from shared.features.installed import inputs_in, references_in
from shared.inputs.kinds import Kind
from shared.log import START, Commit, Lost, StreamKey, TruncatedLogError
from shared.runtime.loop import Loop
from shared.runtime.losses import truncation
from shared.settings import Settings

TITLE: Final = "the exchanges"
_log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What to read: series, the rules of each exchange, how many bars back a new series begins, the symbols whose bars
    are published before those of others with their close, and copied into each partition, and the kinds of inputs."""

    series: tuple[LiveSeries, ...]
    rules: Mapping[str, Rules]
    history: int = 1000
    references: frozenset[str] = frozenset()
    inputs: frozenset[Kind] = frozenset()

    @property
    def exchanges(self) -> list[str]:
        """The names of the exchanges."""
        return sorted({each.exchange for each in self.series})


async def feed_markets(loop: Loop, settings: Settings, markets: Iterable[str], stop: anyio.Event) -> Counter[str]:
    """Feed the named markets (``shared.bars.markets``) by the settings, until ``stop``. See ``feed_exchanges``."""
    chosen = settings.exchange
    series = tuple(LiveSeries(*market) for market in named_markets(markets))
    rules = {
        name: Rules(
            policy="none" if name in chosen.no_empty_bars else "empty",
            grace_ms=chosen.grace_ms,
            live_ms=chosen.live_ms,
            clock_ms=chosen.clock_ms,
            page=PAGES.get(name, PAGE),
        )
        for name in {each.exchange for each in series}
    }

    def opened(name: str) -> ExchangeClient:
        return open_client(
            name,
            [each.market for each in series if each.exchange == name],
            local=chosen.local,
            open_stamped=name in chosen.open_stamped,
            end_stamped=name in chosen.end_stamped,
        )

    return await feed_exchanges(
        loop,
        Plan(series, rules, chosen.history, references_in(settings.features.sets), inputs_in(settings.features.sets)),
        opened,
        partitions=settings.installation.partitions,
        window=settings.feed.window,
        stop=stop,
        sample=settings.telemetry.sample if settings.telemetry.endpoint else 0.0,
    )


async def feed_exchanges(
    loop: Loop,
    plan: Plan,
    open_client: Callable[[str], ExchangeClient],
    *,
    partitions: int = 1,
    window: int = 2000,
    stop: anyio.Event,
    sample: float = 0.0,
    take_over: bool = False,
) -> Counter[str]:
    """Write the bars of exchanges until ``stop``, and return what was counted. Owns the group meanwhile.

    A server that lost its last writes is noticed: ``LogTruncated`` is raised, and the bars are read again.

    Raises ``OwnedError``, ``SupersededError``, ``UnavailableError``, and ``SourceError`` if the plan cannot be
    followed."""
    _check(plan)
    async with loop.owned(partitions, take_over=take_over):
        sent: dict[Series, int] = {}
        counts: Counter[str] = Counter()
        lost = False
        while True:
            if lost:
                await loop.claim_again()
            writer = Writer(loop, plan, window, sample, stop)
            if lost:
                await writer.report_lost(sent)
            loop.ready()
            try:
                await loop.alongside(partial(_watch_all, writer, plan, open_client, stop))
                return counts + writer.live.counts
            except TruncatedLogError as error:
                _log.error("%s", error)
                lost, sent = True, writer.newest()
                counts += writer.live.counts


async def _watch_all(
    writer: "Writer", plan: Plan, open_client: Callable[[str], ExchangeClient], stop: anyio.Event
) -> None:
    clients: list[ExchangeClient] = []
    try:
        try:
            async with anyio.create_task_group() as tasks:
                for name in plan.exchanges:
                    client = open_client(name)
                    clients.append(client)
                    exchange = Exchange(name, client, writer.live, plan.rules[name], writer, stop)
                    tasks.start_soon(exchange.run, plan.history)
        except BaseExceptionGroup as group:
            raise _first(group) from None
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2.0):
            for client in clients:
                await client.close()


class Writer:
    """The state of all exchanges, and the one place that commits what follows from it.

    A fold that moves what the memo records runs under ``lock`` together with its commit, so that no commit records a
    bar that another one has still to write."""

    def __init__(self, loop: Loop, plan: Plan, window: int, sample: float, stop: anyio.Event) -> None:
        self.loop = loop
        self.lock = anyio.Lock()
        self.live = Live(
            clocks={name: Clock() for name in plan.exchanges}, references=plan.references, inputs=plan.inputs
        )
        self.known: dict[Series, list[BarClosed]] = {}
        self._others: list[list[BarClosed]] = []
        """The newest bars of series that are not read, or not yet: a memo that left them out would forget them."""
        self._plan = plan
        self._sample = sample
        self._stop = stop
        partitions = len(loop.claims)
        self._backlog = Backlog(loop.log, window, partitions)
        for claim in loop.claims:
            files.initial(claim.memo, core.SOURCE, TITLE, partitions)  # refuses a source that was left in its middle
            bars = msgspec.msgpack.decode(claim.memo, type=files.Memo).newest if claim.memo else ()
            for bar in bars:
                self.known.setdefault((bar.symbol, bar.interval_ms), []).append(bar)
            self._others.append(list(bars))

    def begin(self, exchange: str, history: int, at: int) -> None:
        """Add the series of an exchange whose time is ``at`` to the state."""
        for series in self._plan.series:
            if series.exchange == exchange and series not in self.live.series:
                known = self.known.get((series.symbol, series.interval_ms), [])
                self.live.series[series] = core.begin(series, self._plan.rules[exchange], known, history, at)
        begun = {(each.symbol, each.interval_ms) for each in self.live.series}
        self._others = [[bar for bar in bars if (bar.symbol, bar.interval_ms) not in begun] for bars in self._others]

    def newest(self) -> dict[Series, int]:
        """Return the open time of the newest bar of each series."""
        return {
            (each.symbol, each.interval_ms): max(state.recent)
            for each, state in self.live.series.items()
            if state.recent
        }

    async def write(self, effects: Effects) -> None:
        """Commit what follows from an observation that moved nothing that the memo records."""
        if effects:
            async with self.lock:
                await self.commit(effects)

    async def commit(self, effects: Effects) -> None:
        """Commit what follows from an observation. The caller holds ``lock``."""
        partitions = len(self.loop.claims)
        for partition, outputs in core.encoded(effects, partitions, self._sample, self._plan.references).items():
            started = self.loop.clock.now_ns()
            if not await self._backlog.wait(partition, len(outputs), self._stop):
                raise StoppedError
            memo = msgspec.msgpack.encode(core.snapshot(self.live, self._others[partition], partition, partitions))
            claim = self.loop.claims[partition]
            await self.loop.commit(claim, Commit(outputs, {}, {}, memo), started_ns=started)
            self._backlog.used(partition, len(outputs))

    async def report_lost(self, sent: Mapping[Series, int]) -> None:
        """Raise ``LogTruncated`` in each partition that had later bars than it has now."""
        for partition, claim in enumerate(self.loop.claims):
            gone = [
                f"{symbol} {interval // 1000} s"
                for (symbol, interval), opened in sorted(sent.items())
                if partition_of(symbol, len(self.loop.claims)) == partition
                and opened > max((bar.open_time for bar in self.known.get((symbol, interval), [])), default=-1)
            ]
            if gone:
                place = StreamKey("market", partition)
                last = (await self.loop.log.extent(place)).last
                detail = f"the last bars of {', '.join(gone[:20])} are gone; they are read again"
                alarm = truncation(GROUP, Lost(place, START, last, detail), self.loop.clock.now_ms())
                await self.loop.commit(claim, Commit([encode("alarms", alarm)], {}, {}, claim.memo))


def _check(plan: Plan) -> None:
    """Refuse a plan without series, or in which two series have one name. Raises ``SourceError``."""
    if not plan.series:
        raise SourceError('no market is named; state markets = ["binance BTC/USDT 1m"] in [exchange]')
    seen: dict[Series, LiveSeries] = {}
    for series in plan.series:
        other = seen.setdefault((series.symbol, series.interval_ms), series)
        if other != series:
            raise SourceError(
                f"{series.exchange} {series.market} and {other.exchange} {other.market} would both be {series.symbol}"
                f' on the log; give one a name, as in "{series.exchange} {series.market} 1m as {series.market}.2"'
            )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group, also in a group within it."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
