"""Send the orders of the log to exchanges, find out what became of them, and compare accounts with the log.

The desk acts on what is committed, and on nothing else: it looks at the open orders in the last committed snapshot, and
hands what the exchange shows of each to the core, again and again until an order is no longer open there. So it needs
no memory of its own. Whatever is interrupted is begun again by the next process.

An order is sent only after a look-up by its id showed that the exchange does not have it, at a moment when no earlier
request can still arrive. Each request is valid for ``window_ms``, counted from before the claim on the group was
renewed. A process that was suspended and replaced may send a request late, but the exchange refuses it; its successor
sends nothing for that long.

Nothing is sent during a halt, after ``valid_until``, to another venue than that of the newest policy, or while the
account differs from the log.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final, NamedTuple, Protocol

import anyio

from schemas.orders import Ending, OrderPlaced
from services.executor.exchange import Account, ClockError, RefusedError
from services.executor.reconciliation import Checked
from services.executor.settlement import Settled
from services.executor.state import State
from shared.exchanges import BusyError, UnreachableError
from shared.log import Log, SupersededError, UnavailableError
from shared.log.leases import is_open
from shared.money.venue import exchange_of
from shared.runtime.clock import ServerClock
from shared.runtime.host import Host
from shared.settings import SettingsError

POLL_S: Final = 0.02
CLOCK_MS: Final = 60_000
LISTINGS_MS: Final = 3_600_000
TRY_AGAIN_MS: Final = 250
ASK_AGAIN_MS: Final = 1_000
LONGEST_MS: Final = 60_000
HALT_MS: Final = 30_000
"""How long an order of a halt may be sent after it was placed. The next bar leads to another one."""
_log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """``window_ms``: how long a request is valid at the exchange. ``margin_ms``: how much later it may still be
    accepted, for clocks that differ. ``check_ms``: from one comparison of an account with the log to the next."""

    window_ms: int = 5_000
    margin_ms: int = 2_000
    check_ms: int = 60_000


class OrdersTo(NamedTuple):
    """Where orders may go: to ``venue``, by the ``SetExecutionPolicy`` of ``version``, unless the account ``differs``.
    ``compared``: the symbols whose currencies were compared with the log, under which version."""

    venue: str
    version: int
    differs: bool
    compared: tuple[int, frozenset[str]]


class Core(Protocol):
    """The core, as far as the desk needs it."""

    @property
    def orders_to(self) -> OrdersTo | None:
        """Where orders may go, as of the last batch; None before the first."""

    def tell(self, answer: Settled | Checked) -> None:
        """Take an answer of an exchange."""


class Session:
    """One account, while this process lives. Times are the exchange's (ms).

    ``quiet_until``: when the last request of a former process can no longer arrive. ``busy_until``: until when the
    exchange asks for no requests."""

    def __init__(
        self, venue: str, clock: ServerClock, open_account: Callable[[str, Callable[[], int]], Account]
    ) -> None:
        self.venue = venue
        self._clock = clock
        self.offset_ms: int | None = None
        self.account = open_account(venue, self.now)
        self.quiet_until = 0
        self.busy_until = 0
        self.measured_at = self.listed_at = self.checked_at = 0
        self._failures = 0
        self._clock_is_wrong = False
        self._logged = ""

    def now(self) -> int:
        """Return the exchange's time, as last measured and counted on."""
        return self._clock.now_ms() + (self.offset_ms or 0)

    async def prepare(self, timing: Timing) -> None:
        """Read the markets and measure the clock, if either is due."""
        if not self.listed_at or self.now() - self.listed_at > LISTINGS_MS:
            await self.account.load()
            self.listed_at = self.now()
        if self.offset_ms is None or self._clock_is_wrong or self.now() - self.measured_at > CLOCK_MS:
            before = self._clock.now_ms()
            time_ms = await self.account.time_ms()
            after = self._clock.now_ms()
            if after - before > timing.margin_ms // 2:
                raise UnreachableError(f"its time took {after - before} ms to arrive")
            self.offset_ms = time_ms - (before + after) // 2
            self.measured_at, self._clock_is_wrong = self.now(), False
            self.quiet_until = self.quiet_until or self.now() + timing.window_ms + timing.margin_ms

    def failed(self, error: Exception) -> None:
        """Note why the exchange did not answer, and until when it is not to be asked."""
        if self.now() < self.busy_until and not isinstance(error, BusyError):
            return  # one of several requests that failed together
        self._failures += 1
        wait_ms = min(TRY_AGAIN_MS << min(self._failures - 1, 8), LONGEST_MS)
        if isinstance(error, BusyError):
            stated = max(int(error.wait_s * 1000), error.until_ms - self.now())
            wait_ms = stated if stated > 0 else wait_ms
        self.busy_until = self.now() + wait_ms
        self._clock_is_wrong = isinstance(error, ClockError)
        if str(error) != self._logged:
            self._logged = str(error)
            _log.warning("%s: %s", self.venue, error)

    def answered(self) -> None:
        """Note that the exchange answers."""
        self._failures, self._logged = 0, ""


class Desk:
    """The orders of one partition. ``markets``: the name of each symbol at the exchange, where it is another."""

    def __init__(
        self,
        core: Core,
        host: Host[State],
        log: Log,
        open_account: Callable[[str, Callable[[], int]], Account],
        *,
        markets: Mapping[str, str] = {},
        timing: Timing | None = None,
    ) -> None:
        self._core = core
        self._host = host
        self._log = log
        self._open_account = open_account
        self._markets = markets
        self._timing = timing or Timing()
        self._sessions: dict[str, Session] = {}
        self._epoch = -1
        self._seen: tuple[bytes, State] = (b"", State(b""))
        self._doubtful: dict[str, int] = {}
        """Until when a request of this process with this order may still arrive, by order."""
        self._not_before: dict[str, int] = {}
        """When an order is to be looked up again (the exchange's time), by order."""
        self._known: dict[str, Settled] = {}
        """What became of orders that the last committed snapshot has as open."""

    async def run(self) -> None:
        """Act until cancelled. Returns once another process owns the group."""
        try:
            while True:
                try:
                    await self._turn()
                except UnavailableError:
                    pass  # the host deals with it
                except SettingsError as error:
                    _log.error("no order is sent: %s", error)
                    await anyio.sleep(LONGEST_MS / 1000)
                await anyio.sleep(POLL_S)
        except* SupersededError:
            _log.error("another process owns the group: no order is sent any more")
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                async with AsyncExitStack() as stack:
                    for session in self._sessions.values():
                        stack.push_async_callback(session.account.close)

    async def _turn(self) -> None:
        host, orders_to = self._host, self._core.orders_to
        if orders_to is None:
            return
        if host.commits.claim.epoch != self._epoch:
            # The log may have lost orders that were sent: nothing that was read of it counts any more.
            self._epoch = host.commits.claim.epoch
            for session in self._sessions.values():
                session.quiet_until = session.now() + self._timing.window_ms + self._timing.margin_ms
            self._known.clear()
        committed = self._committed()
        working = committed.working()
        venue = orders_to.venue
        venues = {each.order.venue for each in working} | ({venue} if exchange_of(venue) else set())
        for name in sorted(venues):
            if name not in self._sessions:
                self._sessions[name] = Session(name, host.clock, self._open_account)
            session = self._sessions[name]
            if session.now() < session.busy_until:
                continue
            try:
                await session.prepare(self._timing)
            except (BusyError, UnreachableError, ClockError) as error:
                session.failed(error)
                continue
            orders = [each.order for each in working if each.order.venue == name]
            async with anyio.create_task_group() as tasks:
                for order in orders:
                    tasks.start_soon(self._follow, session, order)
            if name == venue and not orders:
                await self._check(session, committed, orders_to)

    def _committed(self) -> State:
        """Return the state as of the last commit."""
        memo = self._host.commits.snapshot
        if memo is not self._seen[0]:
            self._seen = (memo, State(memo))
            there = {each.order.order for each in self._seen[1].working()}
            self._known = {name: known for name, known in self._known.items() if name in there}
            self._doubtful = {name: until for name, until in self._doubtful.items() if name in there}
            self._not_before = {name: at for name, at in self._not_before.items() if name in there}
        return self._seen[1]

    async def _follow(self, session: Session, order: OrderPlaced) -> None:
        """Find out what became of an order, and send it if it has to be sent."""
        known = self._known.get(order.order)
        if known is None and session.now() < self._not_before.get(order.order, 0):
            return
        try:
            known = known or await self._act(session, order)
        except (BusyError, UnreachableError, ClockError) as error:
            session.failed(error)
            return
        except UnavailableError:
            return  # the host deals with it
        session.answered()
        if known is not None:
            # What was said once holds, so that an order that was not sent is never sent after all.
            self._known[order.order] = known
            self._core.tell(known)

    async def _act(self, session: Session, order: OrderPlaced) -> Settled | None:
        market = self._markets.get(order.symbol, order.symbol)
        if session.account.instrument(market) is None:
            return Settled(
                order.order, session.now(), ended="rejected", detail=f"{session.venue} has no market {market}"
            )
        seen = await session.account.look_up(order, market)
        if isinstance(seen, Settled):
            return seen
        over = await self._over(session, order)
        if seen == "open":
            self._not_before[order.order] = session.now() + TRY_AGAIN_MS
            if over is not None:
                await session.account.cancel(order, market)
            return None
        certain_at = max(session.quiet_until, self._doubtful.get(order.order, 0)) + 1
        if session.now() < certain_at:  # an earlier request may still arrive
            self._not_before[order.order] = min(certain_at, session.now() + ASK_AGAIN_MS)
            return None
        if over is not None:
            return Settled(order.order, session.now(), ended=over)
        return await self._send(session, order, market)

    async def _send(self, session: Session, order: OrderPlaced, market: str) -> Settled | None:
        at = session.now()
        await self._log.renew(self._host.commits.claim)
        if (over := await self._over(session, order)) is not None:
            return Settled(order.order, session.now(), ended=over)
        window_ms = self._timing.window_ms
        if order.valid_until is not None:
            window_ms = max(min(window_ms, order.valid_until - at), 1)
        self._doubtful[order.order] = at + window_ms + self._timing.margin_ms
        try:
            await session.account.send(order, market, at=at, window_ms=window_ms)
        except RefusedError as error:
            return Settled(order.order, session.now(), ended="rejected", detail=str(error))
        return None  # what became of it is looked up: one way, whether an answer arrives or not

    async def _over(self, session: Session, order: OrderPlaced) -> Ending | None:
        """Return why an order may not be sent any more; None if it may."""
        orders_to = self._core.orders_to
        if orders_to is None or orders_to.venue != order.venue:
            return "no_venue"
        if orders_to.differs:
            return "account_differs"
        if order.cause == "intent" and not is_open(await self._log.fence(self._host.commits.partition)):
            return "halted"
        until = order.valid_until if order.valid_until is not None else (order.placed_at or 0) + HALT_MS
        return "expired" if max(session.now(), self._host.clock.now_ms()) > until else None

    async def _check(self, session: Session, committed: State, orders_to: OrdersTo) -> None:
        """Ask what the account holds, if that is due, and hand it to the core."""
        symbols, since = committed.symbols(), session.now() - session.checked_at
        missing = orders_to.compared != (orders_to.version, symbols) and not orders_to.differs
        if not symbols or since < (ASK_AGAIN_MS if missing else self._timing.check_ms):
            return
        session.checked_at = session.now()
        markets = {symbol: self._markets.get(symbol, symbol) for symbol in symbols}
        listed = {symbol: session.account.instrument(market) for symbol, market in markets.items()}
        try:
            balances = await session.account.balances()
            strangers = await session.account.open_orders(
                {market for symbol, market in markets.items() if listed[symbol] is not None}
            )
        except (BusyError, UnreachableError, ClockError) as error:
            session.failed(error)
            return
        session.answered()
        self._core.tell(
            Checked(
                venue=session.venue,
                version=orders_to.version,
                changes=committed.ledger.changes,
                balances=balances,
                bases={symbol: each.base if each else "" for symbol, each in listed.items()},
                steps={symbol: each.step if each else 0.0 for symbol, each in listed.items()},
                strangers=tuple(strangers),
            )
        )
