"""What holds for orders at every exchange, through ccxt against the local one. What is of the executor itself,
and of no exchange, is in ``test_executor``."""

from decimal import Decimal
from typing import Any

import anyio
import pytest
from msgspec import structs

from schemas.orders import AccountDiffers, AccountReconciled, IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from schemas.trades import TradeClosed
from services.executor.desk import Timing
from services.executor.exchange import Account
from shared.exchanges import Credentials, UnreachableError
from shared.log.memory import MemoryLog
from shared.money.venue import EXCHANGES
from shared.settings import SettingsError
from tests.exchange.executing import POLICY, QUICK, Installation, accounts, exchange, now_ms
from tests.exchange.trading import HARMLESS, KEY, SANDBOXES, SECRET

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def traded(venue: str, *actions: str, faults: tuple[str, ...] = (), **about: Any) -> Installation:
    """An executor that has decided these actions one after the other."""
    async with exchange() as trading:
        trading.faults = list(faults)
        for name, value in about.items():
            setattr(trading, name, value)
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, venue=venue))
        await installation.decide("HOLD")
        async with installation.running():
            for number, action in enumerate(actions):
                await installation.decide(action)
                await installation.settled(number + 1)
        return installation


@pytest.mark.parametrize("venue", EXCHANGES)
async def test_what_was_bought_is_sold_to_the_last_step_and_money_is_exact(venue: str) -> None:
    installation = await traded(venue, "BUY", "SELL", commission=Decimal("0.00123457"))
    bought, sold = await installation.events(OrderFilled)
    placed = await installation.events(OrderPlaced)
    at_exchange = installation.placed(SANDBOXES[venue])
    assert [each.client for each in at_exchange] == [each.order for each in placed]
    assert {each.venue for each in placed} == {f"{venue}.sandbox"}
    assert (bought.moved, bought.exchange_order) == (10.0, "1")
    assert (sold.position, sold.quantity) == (0.0, bought.quantity)
    assert sold.moved == pytest.approx(-9.9876)
    (trade,) = await installation.events(TradeClosed)
    assert trade.decision == placed[0].decision
    held = installation.trading.balances[SANDBOXES[venue]]
    money = -bought.quantity * bought.price - bought.fee + sold.quantity * sold.price - sold.fee
    assert money == pytest.approx(float(held["USDT"]) - 1_000_000, abs=1e-6)
    assert 0 < held["BTC"] < Decimal("0.0001")


@pytest.mark.parametrize("fault", HARMLESS)
@pytest.mark.parametrize("venue", EXCHANGES)
async def test_whatever_fault_is_on_the_way_every_order_is_traded_exactly_once(venue: str, fault: str) -> None:
    installation = await traded(venue, "BUY", "SELL", faults=(fault,))
    fills = await installation.events(OrderFilled)
    assert [fill.side for fill in fills] == ["BUY", "SELL"]
    assert set(installation.trading.clients.values()) == {1}
    assert fills[-1].position == 0.0


@pytest.mark.parametrize(
    ("fault", "reason", "moved"),
    [("partial", "limit", 5.0), ("cancelled", "cancelled", 5.0), ("insufficient balance", "rejected", 0.0)],
)
@pytest.mark.parametrize("venue", EXCHANGES)
async def test_an_order_that_is_not_filled_wholly_ends_with_its_reason(
    venue: str, fault: str, reason: str, moved: float
) -> None:
    installation = await traded(venue, "BUY", faults=(fault,))
    (ended,) = await installation.events(OrderEnded)
    assert ended.reason == reason
    assert [fill.moved for fill in await installation.events(OrderFilled)] == ([moved] if moved else [])


@pytest.mark.parametrize("venue", EXCHANGES)
async def test_what_was_filled_in_part_is_all_that_is_sold(venue: str) -> None:
    installation = await traded(venue, "BUY", "SELL", faults=("partial",))
    bought, sold = await installation.events(OrderFilled)
    ended = (await installation.events(OrderEnded))[0]
    assert (bought.moved, ended.filled) == (5.0, bought.quantity)
    assert (sold.side, sold.position) == ("SELL", 0.0)


@pytest.mark.parametrize("venue", EXCHANGES)
async def test_a_price_beyond_the_limit_fills_nothing(venue: str) -> None:
    installation = await traded(venue, "BUY", prices={"BTCUSDT": Decimal(101)})
    (ended,) = await installation.events(OrderEnded)
    assert (ended.reason, ended.filled) == ("limit", 0.0)


@pytest.mark.parametrize("kill", ["silent", "dropped"])
@pytest.mark.parametrize("venue", EXCHANGES)
async def test_an_order_of_a_killed_process_is_found_by_its_id(venue: str, kill: str) -> None:
    async with exchange() as trading:
        trading.faults = [kill]
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, venue=venue))
        await installation.decide("HOLD")
        async with installation.running():
            await installation.decide("BUY")
            with anyio.fail_after(20):
                while not trading.asked["POST order"]:
                    await anyio.sleep(0)
        async with installation.running():
            await installation.until(1, OrderFilled)
            await installation.decide("SELL")
            _, sold = await installation.until(2, OrderFilled)
        assert set(trading.clients.values()) == {1}
        assert sold.position == 0.0


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("venue", EXCHANGES)
async def test_nothing_is_sent_again_while_an_earlier_request_may_still_arrive(venue: str, killed: bool) -> None:
    timing = Timing(window_ms=1_500, margin_ms=300, check_ms=200)
    async with exchange() as trading:
        trading.faults, trading.late_s = ["delayed"], 0.8
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, venue=venue))
        await installation.decide("HOLD", "BUY")
        async with installation.running(timing=timing):
            with anyio.fail_after(20):
                while not trading.asked["POST order"]:
                    await anyio.sleep(0.001)
            if not killed:
                await installation.until(1, OrderFilled)
        async with installation.running(timing=timing):
            await installation.until(1, OrderFilled)
        await anyio.sleep(0.5)
        assert set(trading.clients.values()) == {1}
        assert trading.balances[SANDBOXES[venue]]["BTC"] == Decimal("9.99")


@pytest.mark.parametrize("venue", EXCHANGES)
async def test_a_request_that_arrives_after_its_time_is_refused_by_the_exchange(venue: str) -> None:
    """It is under way when the process is killed, and would arrive after its successor has sent the order."""
    async with exchange() as trading:
        trading.faults, trading.late_s = ["late"], 2.0
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, venue=venue))
        await installation.decide("HOLD")
        async with installation.running():
            await installation.decide("BUY")
            with anyio.fail_after(20):
                while not trading.asked["POST order"]:
                    await anyio.sleep(0)
        async with installation.running():
            await installation.until(1, OrderFilled)
        await anyio.sleep(2.0)
        assert trading.asked["POST order"] == 2
        assert set(trading.clients.values()) == {1}
        assert trading.refused[-1] == -1021  # its time is over, which is found before the repeated id


@pytest.mark.parametrize("venue", [venue for venue in EXCHANGES if venue != "binance"])
async def test_a_repeated_id_is_refused_and_is_no_refusal_of_the_order(venue: str) -> None:
    """Binance refuses an id only while an order with it is open."""
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, venue=venue))
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
        (placed,) = await installation.events(OrderPlaced)
        account = accounts(trading.url)(f"{venue}.sandbox", now_ms)
        try:
            await account.load()
            with pytest.raises(UnreachableError, match="knows the order"):
                await account.send(placed, "BTC/USDT", at=now_ms(), window_ms=5_000)
        finally:
            await account.close()
        assert trading.clients[placed.order] == 1


@pytest.mark.parametrize("change", ["less", "more", "stranger"])
@pytest.mark.parametrize("venue", EXCHANGES)
async def test_an_account_that_differs_from_the_log_stops_trading_until_a_command(venue: str, change: str) -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        policy = structs.replace(POLICY, venue=venue)
        await installation.found(policy)
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
            held = trading.balances[SANDBOXES[venue]]
            if change == "stranger":
                trading.leave_open("BTCUSDT", SANDBOXES[venue])
            else:
                held["BTC"] += Decimal(1) if change == "more" else Decimal(-1)
            (differs,) = await installation.until(1, AccountDiffers)
            assert differs.reason == ("order" if change == "stranger" else "balance")
            asked = trading.asked["POST order"]
            await installation.decide("SELL")
            (refused,) = await installation.until(1, IntentRefused)
            assert refused.reason == "account_differs"
            assert trading.asked["POST order"] == asked
            # What the account lacks cannot be accepted; what it has beside the positions can.
            held["BTC"] += 1 if change == "less" else 0
            orders = trading.orders[SANDBOXES[venue]]
            orders[:] = [each for each in orders if each.status != "NEW"]
            await installation.issue(structs.replace(policy, fee=0.001))
            await installation.until(2, AccountReconciled)
            await installation.decide("SELL")
            _, sold = await installation.until(2, OrderFilled)
            assert sold.position == 0.0


@pytest.mark.parametrize("venue", EXCHANGES)
async def test_sandbox_and_money_are_two_accounts(venue: str) -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, venue=venue, sandbox=False))
        async with installation.running(timing=QUICK):
            await installation.decide("BUY")
            (filled,) = await installation.until(1, OrderFilled)
        assert (filled.venue, installation.placed(SANDBOXES[venue])) == (venue, [])
        assert sum(map(len, trading.orders.values())) == 1


def test_a_key_that_has_a_passphrase_is_not_used_without_it() -> None:
    with pytest.raises(SettingsError, match="passphrase"):
        Account("okx.sandbox", Credentials(KEY, SECRET), now_ms)
