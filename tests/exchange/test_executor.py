"""The executor at a local exchange, through ccxt: what it sends and records, and when it sends nothing. What holds at
every exchange is in ``test_every_exchange``."""

from collections import Counter
from decimal import Decimal
from typing import Any

import anyio
import pytest
from msgspec import UNSET, structs

from schemas.control import Halt, Resume, SetExecutionPolicy
from schemas.orders import (
    AccountDiffers,
    AccountReconciled,
    IntentRefused,
    OrderEnded,
    OrderFilled,
    OrderPlaced,
)
from services.guard.main import Guard
from shared.control.issuing import ControlWriter, current, history
from shared.exchanges import Credentials
from shared.log.memory import MemoryLog
from tests.exchange.executing import POLICY, QUICK, SECOND, Installation, accounts, exchange
from tests.exchange.trading import HARMLESS, KEY, REAL, SANDBOX

pytestmark = pytest.mark.anyio
OUTCOMES = (OrderFilled, OrderEnded, IntentRefused)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def traded(*actions: str, faults: tuple[str, ...] = (), **changed: Any) -> tuple[Installation, list[Any]]:
    """An executor that has decided these actions one after the other, and the outcomes of its orders."""
    async with exchange() as trading:
        trading.faults = list(faults)
        for name, value in changed.pop("exchange", {}).items():
            setattr(trading, name, value)
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, **changed))
        await installation.decide("HOLD")
        async with installation.running():
            for number, action in enumerate(actions):
                await installation.decide(action)
                await installation.settled(number + 1)
        return installation, await installation.events(*OUTCOMES)


async def test_an_order_has_a_limit_and_the_id_of_its_intent_and_its_fill_is_what_the_exchange_shows() -> None:
    installation, (filled, *ended) = await traded("BUY")
    (placed,) = await installation.events(OrderPlaced)
    (order,) = installation.placed()
    assert (order.client, order.price, order.quantity) == (placed.order, Decimal("100.2"), Decimal(10))
    assert placed.limit == pytest.approx(100.2)
    assert (filled.price, filled.moved, filled.commissions) == (100.0, 10.0, {"BTC": 0.01})
    assert filled.quantity == filled.position == pytest.approx(9.99)
    assert filled.quantity * filled.price + filled.fee == pytest.approx(1000.0, abs=1e-9)
    assert filled.open_time >= placed.open_time + SECOND
    assert [each.reason for each in ended] == ["rounded"]
    assert not installation.placed(REAL)


@pytest.mark.long
async def test_whatever_faults_follow_each_other_every_order_is_traded_exactly_once() -> None:
    installation, _ = await traded(*("BUY", "SELL") * 4, faults=HARMLESS)
    fills = await installation.events(OrderFilled)
    assert [fill.side for fill in fills] == ["BUY", "SELL"] * 4
    assert set(installation.trading.clients.values()) == {1}
    assert fills[-1].position == 0.0


@pytest.mark.parametrize(
    ("faults", "changed", "words"),
    [
        (("Account has insufficient balance for requested action.",), {}, "insufficient balance"),
        ((), {"exchange": {"step": Decimal("0.5")}, "notional": 1_020.0}, "LOT_SIZE"),
        ((), {"notional": 2.0}, "NOTIONAL"),
        (("Market is closed.",), {}, "Market is closed"),
    ],
)
async def test_an_order_that_the_exchange_refuses_ends_with_its_words(
    faults: tuple[str, ...], changed: dict[str, Any], words: str
) -> None:
    installation, (ended,) = await traded("BUY", faults=faults, **changed)
    assert (ended.reason, ended.filled) == ("rejected", 0.0)
    assert words in ended.detail
    assert KEY not in ended.detail
    assert not installation.placed()


async def test_a_commission_in_a_third_currency_is_recorded_and_counts_as_the_policys_fee() -> None:
    held = {"BNB": Decimal(10)}
    async with exchange() as trading:
        trading.paid_in = "BNB"
        trading.balances[SANDBOX].update(held)
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, fee=0.00075))
        async with installation.running():
            await installation.decide("BUY")
            (filled,) = await installation.until(1, *OUTCOMES)
    assert (filled.quantity, filled.commissions, filled.fee) == (10.0, {"BNB": 1.0}, pytest.approx(0.75))


async def test_trades_that_are_shown_late_are_waited_for() -> None:
    installation, _ = await traded("BUY", exchange={"slow_trades": 2})
    (filled,) = await installation.events(OrderFilled)
    assert filled.moved == 10.0
    assert installation.trading.asked["GET myTrades"] == 3


async def test_a_clock_that_is_wrong_is_measured_and_allowed_for() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(now=lambda: now_of(trading) - 5_000), trading)
        await installation.found()
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)


async def test_an_exchange_whose_clock_is_set_is_asked_for_its_time_again() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
            trading.clock_off = 20_000
            await installation.decide("SELL")
            await installation.until(2, OrderFilled)


def now_of(trading: Any) -> int:
    return int(trading.now())


async def test_an_intent_that_is_too_old_is_never_sent_whatever_the_backlog() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        for _ in range(40):
            await installation.decide("BUY", valid_ms=1)
        async with installation.running():
            refused = await installation.until(40, IntentRefused)
        assert {each.reason for each in refused} == {"expired"}
        assert not trading.asked["POST order"]


async def test_an_order_that_cannot_be_sent_before_its_time_is_over_ends_and_is_never_sent() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        await installation.decide("HOLD")
        async with installation.running():
            await installation.until(1, AccountReconciled)
            trading.faults = ["dropped"] * 100
            age = now_of(trading) - installation.first
            await installation.decide("BUY", valid_ms=age + 1_500)
            (ended,) = await installation.until(1, OrderEnded)
            trading.faults = []
            await anyio.sleep(0.5)
        assert ended.reason == "expired"
        assert not installation.placed()


async def test_only_live_intents_are_traded_at_an_exchange() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        async with installation.running():
            for origin in ("replay", "synthetic"):
                await installation.decide("BUY", origin=origin)
            refused = await installation.until(2, IntentRefused)
        assert {each.reason for each in refused} == {"not_live"}


async def test_nothing_is_sold_that_is_not_held() -> None:
    installation, (refused,) = await traded("SELL")
    assert refused.reason == "no_short"
    assert not installation.placed()


async def test_what_was_bought_on_paper_is_not_sold_at_an_exchange() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found(SetExecutionPolicy())
        await installation.decide("BUY", "HOLD")
        async with installation.running():
            await installation.until(1, OrderFilled)
            await installation.issue(POLICY)
            await installation.decide("SELL")
            (refused,) = await installation.until(1, IntentRefused)
        assert refused.reason == "other_venue"
        assert not trading.asked["POST order"]


async def test_after_a_halt_nothing_is_sent_and_an_order_that_was_not_sent_ends() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        await installation.decide("HOLD")
        async with installation.running():
            await installation.until(1, AccountReconciled)
            trading.faults = ["dropped"] * 1000
            await installation.decide("BUY")
            await installation.until(1, OrderPlaced)
            with anyio.fail_after(20):
                while not trading.asked["POST order"]:
                    await anyio.sleep(0)
            await installation.decide("BUY", "BUY")
            await installation.issue(Halt())
            asked = trading.asked["POST order"]
            await installation.settled(3)
            (ended,) = await installation.until(1, OrderEnded)
            trading.faults = []
            await installation.issue(Resume())
            await anyio.sleep(0.5)
        assert ended.reason == "halted"
        assert {each.reason for each in await installation.events(IntentRefused)} == {"halted"}
        assert trading.asked["POST order"] == asked
        assert not installation.placed()


async def test_a_halt_closes_positions_if_the_policy_says_so() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found(structs.replace(POLICY, flat_on_halt=True))
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
            await installation.issue(Halt())
            _, sold = await installation.until(2, OrderFilled)
        assert sold.position == 0.0
        assert [each.cause for each in await installation.events(OrderPlaced)] == ["intent", "halt"]
        assert [each.side for each in installation.placed()] == ["BUY", "SELL"]


async def test_a_policy_without_the_exchange_ends_an_order_that_was_not_sent() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        await installation.decide("HOLD")
        async with installation.running():
            await installation.until(1, AccountReconciled)
            trading.faults = ["dropped"] * 1000
            await installation.decide("BUY")
            await installation.until(1, OrderPlaced)
            await installation.issue(SetExecutionPolicy(venue="none"))
            (ended,) = await installation.until(1, OrderEnded)
        assert ended.reason == "no_venue"


async def test_an_account_that_lacks_what_the_log_says_is_held_cannot_be_accepted() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
            trading.balances[SANDBOX]["BTC"] -= 1
            await installation.until(1, AccountDiffers)
            await installation.issue(structs.replace(POLICY, fee=0.001))
            await installation.until(2, AccountDiffers)


async def test_an_account_is_compared_after_every_start_before_anything_is_sent() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
        trading.balances[SANDBOX]["BTC"] -= 1
        await installation.decide("SELL")
        async with installation.running(timing=QUICK._replace(check_ms=3_600_000)):
            await installation.until(1, AccountDiffers)
            (refused,) = await installation.until(1, IntentRefused)
        assert refused.reason == "account_differs"
        assert len(installation.placed()) == 1


async def test_a_difference_halts_the_installation_once_and_a_person_resumes_after_a_new_comparison() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        guard = Guard(ControlWriter(installation.log, installation.key))
        async with installation.running():
            await installation.decide("BUY")
            await installation.until(1, OrderFilled)
            await guard.turn()
            assert not (await current(installation.log)).halted
            trading.balances[SANDBOX]["BTC"] += 1
            (differs,) = await installation.until(1, AccountDiffers)
            await guard.turn()
            halt = (await history(installation.log))[-1]
            assert isinstance(halt.command, Halt)
            assert differs.detail in halt.reason
        async with installation.running():
            await guard.turn()
            await installation.issue(structs.replace(POLICY, fee=0.001))
            await installation.until(2, AccountReconciled)
            await installation.issue(Resume())
            await installation.decide("SELL")
            await installation.until(2, OrderFilled)
        await guard.turn()
        commands = [entry.command for entry in await history(installation.log)]
        assert sum(isinstance(command, Halt) for command in commands) == 1
        assert not (await current(installation.log)).halted


async def test_wrong_keys_send_nothing_and_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found()
        secret = Credentials("another-key", "another-secret")
        async with installation.running(opened=accounts(trading.url, secret)):
            await installation.decide("BUY")
            with anyio.fail_after(20):
                while "Invalid API-key" not in caplog.text:
                    await anyio.sleep(0.01)
        assert not trading.asked["POST order"]
        assert "another" not in caplog.text


async def test_on_paper_nothing_of_an_exchange_is_written() -> None:
    async with exchange() as trading:
        installation = Installation(MemoryLog(), trading)
        await installation.found(SetExecutionPolicy())
        await installation.decide("BUY", "HOLD", "SELL", "HOLD")
        async with installation.running():
            fills = await installation.until(2, OrderFilled)
        assert {(fill.moved, fill.commissions, fill.exchange_order) for fill in fills} == {(UNSET, UNSET, UNSET)}
        assert {each.limit for each in await installation.events(OrderPlaced)} == {None}
        assert trading.asked == Counter()
