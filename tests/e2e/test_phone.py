"""A halt from a phone reaches a running installation whose bot is killed on the way."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import anyio
import pytest
from anyio import to_thread

from bench.installation import ONE_PROCESS, Installation, kill, running
from schemas.control import Halt
from shared.control.issuing import history
from shared.log import StreamKey
from shared.settings import PHONE_TOKEN
from tests.services.phone.bot_server import ADA, TOKEN, BotServer, serving

MARKET = ("--synthetic", "sequence", "--symbols", "2")


@contextmanager
def bot(installation: Installation) -> Iterator[Popen[str]]:
    """The process of the bot; it is killed at the end of the block."""
    with (installation.folder / "phone.log").open("a") as file:
        command, environment = installation.command("run", "phone"), installation.environment()
        process = Popen(command, cwd=installation.folder, env=environment, stderr=file, text=True)
        try:
            yield process
        finally:
            kill(process.pid)
            process.communicate()


async def ask(server: BotServer) -> None:
    """Ada asks for a halt, and confirms it."""
    server.message(ADA, "/halt outage")
    await server.until(lambda: any("Halt?" in text for text in server.texts(ADA)))
    server.tap(ADA, server.button("Halt now"))


async def until(true: Callable[[], Any]) -> None:
    with anyio.fail_after(60):
        while not await true():
            await anyio.sleep(0.01)


@pytest.mark.long
@pytest.mark.anyio
async def test_a_halt_from_a_phone_stops_intents_once_though_the_bot_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PHONE_TOKEN, TOKEN)
    async with serving() as server:
        persons = json.dumps([f"{ADA} ada"])
        extra = f'\n[feed]\nspeed = 20.0\n[phone]\npersons = {persons}\napi = "{server.url}"\n'
        installation = Installation(tmp_path, models=("prior",), extra=extra)
        (tmp_path / "var" / "phone").mkdir(parents=True)
        with running(installation, ONE_PROCESS):
            await to_thread.run_sync(prepare, installation)
            log = installation.log()
            feed = installation.start("feed", *MARKET, "--count", "5000")

            async def halts() -> int:
                return sum(isinstance(each.command, Halt) for each in await history(log))

            async def decided() -> bool:
                return (await log.extent(StreamKey("decisions"))).length > 50

            await until(decided)
            with bot(installation):
                await ask(server)
                await until(halts)
            with bot(installation):  # killed in the middle of its answer, or after it: it is the same
                await server.until(lambda: any("HALTED" in text for text in server.texts(ADA)))
                assert await halts() == 1
                recorded = (await history(log))[-1]
                assert (recorded.actor, recorded.key, recorded.reason) == ("ada", "phone-ada", "outage")
                for topic in ("status", "equity", "decisions", "verdicts"):
                    server.message(ADA, f"/{topic}")
                await server.until(lambda: len(server.texts(ADA)) >= 6)
            feed.terminate()
            feed.communicate()
            await log.close()
    assert TOKEN.partition(":")[2] not in (tmp_path / "phone.log").read_text()
    assert os.stat(tmp_path / "var" / "phone.bin").st_mode & 0o077 == 0


def prepare(installation: Installation) -> None:
    """A model that votes, an owner, and a key that the server holds for ada."""
    installation.train("prior", *MARKET, "--count", "2000")
    installation.conclave("policy", "voting", "quorum_count=1", "edge=0", "--reason", "one model votes")
    installation.conclave("keys", "new", "owner.pem")
    installation.conclave("keys", "new", "var/phone/ada.pem")
    installation.conclave("keys", "trust", "owner", "owner.pem", "--holder", "owner", "--reason", "mine")
    installation.conclave(
        "keys", "trust", "phone-ada", "var/phone/ada.pem", "--holder", "ada",
        "--may", "halt", "--may", "resume", "--reason", "ada may halt", "--key", "owner.pem",
    )  # fmt: skip
