"""The guard on a log: it halts once for an account that differs, and a person resumes."""

import logging

import anyio
import pytest

from schemas.control import CommandRecorded, Halt, Resume, SetExecutionPolicy
from services.guard.main import Guard
from shared.control.issuing import ControlWriter, current, history
from shared.log import Log
from shared.log.leases import is_open
from tests.services.guard.world import SIGNER, WHY, compared, differs, reconciled, trading

pytestmark = pytest.mark.anyio


def guard(log: Log) -> Guard:
    return Guard(ControlWriter(log, SIGNER))


async def halts(log: Log) -> list[CommandRecorded]:
    return [entry for entry in await history(log) if isinstance(entry.command, Halt)]


async def test_a_difference_halts_every_partition_with_its_words(log: Log) -> None:
    await trading(log)
    await compared(log, reconciled(), differs("the account holds 2 BTC, and 1 follow from the log"), partition=1)
    await guard(log).turn()
    (halt,) = await halts(log)
    assert (halt.actor, halt.reason) == (
        "guard",
        "the account at binance.sandbox differs from the log: the account holds 2 BTC, and 1 follow from the log",
    )
    assert [is_open(await log.fence(partition)) for partition in range(2)] == [False, False]


async def test_a_difference_halts_once_whoever_starts_and_after_a_person_has_resumed(log: Log) -> None:
    await trading(log)
    await compared(log, differs())
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(guard(log).turn)
    first = guard(log)
    await first.turn()
    await ControlWriter(log, SIGNER).issue(Resume(), **WHY)
    await first.turn()
    await guard(log).turn()
    assert len(await halts(log)) == 1
    assert not (await current(log)).halted


async def test_the_next_difference_halts_again(log: Log) -> None:
    await trading(log)
    running, person = guard(log), ControlWriter(log, SIGNER)
    await compared(log, differs("a deposit"))
    await running.turn()
    await person.issue(SetExecutionPolicy(venue="binance", fee=0.001), **WHY)
    await compared(log, reconciled(version=5))
    await person.issue(Resume(), **WHY)
    await running.turn()
    assert not (await current(log)).halted
    await compared(log, differs("a withdrawal", version=5))
    await running.turn()
    assert [halt.reason.rpartition(": ")[2] for halt in await halts(log)] == ["a deposit", "a withdrawal"]


async def test_a_difference_found_during_a_halt_of_a_person_halts_again_if_it_stands_at_the_resume(log: Log) -> None:
    await trading(log)
    running, person = guard(log), ControlWriter(log, SIGNER)
    await person.issue(Halt(), **WHY)
    await compared(log, differs())
    await running.turn()
    assert len(await halts(log)) == 1
    await person.issue(Resume(), **WHY)
    await running.turn()
    assert len(await halts(log)) == 2


@pytest.mark.parametrize("policy", [SetExecutionPolicy(), SetExecutionPolicy(venue="binance", sandbox=False)])
async def test_a_difference_of_an_account_to_which_no_orders_go_halts_nothing(
    log: Log, policy: SetExecutionPolicy
) -> None:
    await trading(log)
    await ControlWriter(log, SIGNER).issue(policy, **WHY)
    await compared(log, differs())
    await guard(log).turn()
    assert not (await current(log)).halted


async def test_without_a_key_the_refusal_is_logged_once_and_probations_go_on(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    await trading(log)
    await compared(log, differs())
    unsigned = Guard(ControlWriter(log))
    with caplog.at_level(logging.WARNING, "guard"):
        await unsigned.turn()
        await unsigned.turn()
    (record,) = caplog.records
    assert record.getMessage().startswith("an account differs from the log, but not everything could be halted: ")
    assert not (await current(log)).halted
