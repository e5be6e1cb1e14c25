"""A halt of the voter that runs in production, suspended in the middle of its work."""

from pathlib import Path

import anyio

from bench.halt import Operator, Round, trading
from schemas.codec import decode
from schemas.decisions import DecisionMade, FenceClosed, FenceOpened
from shared.control.issuing import history
from shared.log import StreamKey
from shared.log.redis import RedisLog

ROUNDS = 5


def test_after_an_accepted_halt_a_voter_that_was_suspended_writes_no_intent(tmp_path: Path) -> None:
    async def act(url: str, operator: Operator) -> tuple[list[Round], list[object]]:
        rounds = [await operator.round(suspended=True) for _ in range(ROUNDS)]
        entries = await operator.log.scan(StreamKey("decisions"), count=1_000_000)
        return rounds, [decode("decisions", entry.data).event for entry in entries]

    async def run(url: str) -> None:
        log = RedisLog(url)
        try:
            rounds, events = await act(url, Operator(log, floor.voter))
            assert [each.after for each in rounds] == [0] * ROUNDS
            assert all(each.halted >= 20 for each in rounds)
            commands = {entry.command_id: entry.command for entry in await history(log)}
        finally:
            await log.close()
        closed = True
        for event in events:
            match event:
                case FenceClosed(command_id=name) | FenceOpened(command_id=name):
                    closed = isinstance(event, FenceClosed)
                    assert type(commands[name]).__name__ in ("Halt", "Resume", "Found")
                case DecisionMade(intent=intent):
                    assert intent == ("halted" if closed else "issued")
                case _:
                    raise AssertionError(event)

    with trading(tmp_path) as floor:
        anyio.run(run, floor.url)
