"""The guard on a log: it reverts once, and logs a refusal once."""

import logging

import anyio
import pytest

from schemas.codec import Encoded
from schemas.common import ACTIONS
from schemas.control import ConfirmPromotion, Found, Promote, RegisterArtifact
from services.guard.main import Guard
from shared.control.issuing import ControlWriter, RefusedError, current, history, issue
from shared.log import Commit, Log, Owner
from tests.services.guard.world import FORMER, ON_PROBATION, decision

pytestmark = pytest.mark.anyio


def artifact(digest: str) -> RegisterArtifact:
    return RegisterArtifact(
        model="a",
        artifact=digest,
        family="prior",
        feature_set="f" * 64,
        feature_set_name="core",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=(-1.1,) * 3,
        prior=(0.3, 0.4, 0.3),
    )


async def on_probation(log: Log) -> None:
    """Version 5 is a promotion that is reverted after three decisions."""
    for command in (
        Found(2, "log-of-a-test"),
        artifact(FORMER),
        artifact(ON_PROBATION),
        Promote("a", FORMER, forced=True, weight=1.0),
        Promote("a", ON_PROBATION, forced=True, probation=3),
    ):
        await issue(log, command, actor="ada", reason="test")


async def decided(log: Log, *decisions: Encoded, partition: int = 0) -> None:
    claim = await log.claim("voter", ("predictions",), partition, Owner("here", 1, "voter"), take_over=True)
    await log.commit(claim, Commit(decisions, {}, {}))


async def test_a_probation_that_nobody_confirms_is_reverted_when_its_decisions_have_passed(log: Log) -> None:
    await on_probation(log)
    guard = Guard(ControlWriter(log))
    await decided(log, decision(1, version=4, artifact=FORMER), decision(2))
    await decided(log, decision(3), partition=1)
    assert await guard.revert() == {}
    await decided(log, decision(4), decision(5), partition=1)
    assert (await guard.revert())["a"].version == 6
    state = await current(log)
    assert (state.models["a"].champion, state.models["a"].shadows) == (FORMER, (ON_PROBATION,))
    assert not state.probations
    assert await guard.revert() == {}


async def test_two_guards_revert_a_probation_once(log: Log) -> None:
    await on_probation(log)
    await decided(log, *(decision(number) for number in range(3)))
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(Guard(ControlWriter(log)).revert)
    assert [entry.version for entry in await history(log)] == [1, 2, 3, 4, 5, 6]


async def test_a_probation_that_was_confirmed_is_left_alone(log: Log) -> None:
    await on_probation(log)
    await decided(log, *(decision(number) for number in range(3)))
    await issue(log, ConfirmPromotion("a", ON_PROBATION), actor="ada", reason="test")
    assert await Guard(ControlWriter(log)).revert() == {}


async def test_a_refusal_is_logged_once_and_tried_again(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    await on_probation(log)
    await decided(log, *(decision(number) for number in range(3)))
    missing: list[str] = ["commands are missing"]
    guard = Guard(ControlWriter(log, missing=lambda _: missing[0] if missing else None))
    with pytest.raises(RefusedError, match="commands are missing"):
        await guard.revert()
    with caplog.at_level(logging.WARNING, "guard"):
        await guard.turn()
        await guard.turn()
        missing.clear()
        await guard.turn()
    assert [record.getMessage() for record in caplog.records] == [
        "a probation is over but could not be reverted: commands are missing",
        "a: its probation was not confirmed; reverted by version 6",
    ]
