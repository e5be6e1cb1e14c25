"""A voter that cannot read control acts on nothing: shown on the process that runs in production."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from schemas.codec import decode, encode
from schemas.common import ACTIONS
from schemas.control import Command, Found, Halt, Promote, RegisterArtifact
from schemas.decisions import DecisionMade
from schemas.predictions import PredictionMade
from services.console.run.processes import console_command
from shared.control.issuing import issue
from shared.log import Commit, Owner, StreamKey
from shared.log.redis import RedisLog

MINUTE = 60_000
ARTIFACTS = {"a": "aa" * 32, "b": "bb" * 32}
THIRD = (-1.1, -1.1, -1.1)
CONTROL = "conclave:control"


async def _prepare(url: str, *more: Command) -> None:
    """Two voting models, and a bar on which both are sure to buy."""
    log = RedisLog(url)
    commands: list[Command] = [Found(1, "log-of-a-test")]
    for (model, artifact), weight in zip(ARTIFACTS.items(), (1.0, 0.5), strict=True):
        registered = RegisterArtifact(
            model=model,
            artifact=artifact,
            family="prior",
            feature_set="f" * 64,
            feature_set_name="user-8",
            interval_ms=MINUTE,
            classes=ACTIONS,
            centre=THIRD,
            prior=(0.25, 0.5, 0.25),
        )
        commands += [registered, Promote(model, artifact, forced=True, weight=weight)]
    for command in (*commands, *more):
        await issue(log, command, actor="ada", reason="a test")
    claim = await log.claim("test", (), 0, Owner("elsewhere", 1, "test"))
    ballots = [
        PredictionMade(
            symbol="BTC",
            interval_ms=MINUTE,
            open_time=MINUTE,
            origin="replay",
            model=model,
            artifact=bytes.fromhex(artifact),
            probabilities=(0.1, 0.2, 0.7),
            vector=bytes(16),
            control_version=len(commands) + len(more),
        )
        for model, artifact in ARTIFACTS.items()
    ]
    bar = bytes(15) + b"1"
    await log.commit(
        claim, Commit([encode("predictions", each, causation=bar, correlation=bar) for each in ballots], {}, {})
    )
    await log.close()


@pytest.fixture
def voter(empty_redis_url: str, tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts the voter's process; ends it, if it still runs."""
    settings = tmp_path / "conclave.toml"
    settings.write_text(f'[redis]\nurl = "{empty_redis_url}"\nephemeral = true\n')
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        words = ["--settings", str(settings), "run", "ensemble-voter"]
        started.append(
            subprocess.Popen(
                console_command(*words),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def entries(client: "redis.Redis", stream: str) -> int:
    return int(client.xlen(StreamKey(stream).key))


def decisions(client: "redis.Redis") -> list[DecisionMade]:
    rows: Any = client.xrange(StreamKey("decisions").key)
    events = [decode("decisions", fields[b"e"]).event for _, fields in rows]
    return [event for event in events if isinstance(event, DecisionMade)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.01)


def test_a_voter_that_can_read_control_acts(voter: Callable[[], "subprocess.Popen[str]"], empty_redis_url: str) -> None:
    anyio.run(_prepare, empty_redis_url)
    process = voter()
    with redis.Redis.from_url(empty_redis_url) as client:
        until(lambda: entries(client, "intents") == 1)
    process.terminate()
    assert process.wait(20) == 0


def test_a_halted_voter_decides_and_writes_no_intent(
    voter: Callable[[], "subprocess.Popen[str]"], empty_redis_url: str
) -> None:
    anyio.run(_prepare, empty_redis_url, Halt())
    voter()
    with redis.Redis.from_url(empty_redis_url) as client:
        until(lambda: len(decisions(client)) == 1)
        assert entries(client, "intents") == 0


def test_a_voter_that_cannot_read_control_writes_nothing_and_ends_with_2(
    voter: Callable[[], "subprocess.Popen[str]"], empty_redis_url: str
) -> None:
    anyio.run(_prepare, empty_redis_url, Halt())
    with redis.Redis.from_url(empty_redis_url) as client:
        client.xdel(CONTROL, "3-0")
        process = voter()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "control entry 4-0" in said
        assert decisions(client) == []
        assert entries(client, "intents") == 0
