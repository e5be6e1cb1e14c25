"""A bot on a log, with a chat on loopback and a key for one of its persons."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from schemas.control import Found, TrustKey
from services.observatory.projection import Projection
from services.phone.main import Bot
from services.phone.telegram import Telegram
from shared.control.issuing import ControlWriter, issue
from shared.control.signing import Signer, generate, load_private
from shared.log import Log
from shared.recovery.storage import Storage
from shared.server.held_keys import HeldKeys
from tests.services.phone.bot_server import ADA, BEN, TOKEN, BotServer, serving

ACTORS = {str(ADA): "ada", str(BEN): "ben"}
Started = Callable[[], AbstractAsyncContextManager[Bot]]


@pytest.fixture
async def server() -> AsyncIterator[BotServer]:
    async with serving() as started:
        yield started


@pytest.fixture
async def owner(log: Log, tmp_path: Path) -> Signer:
    """An installation whose owner trusts a key that the server holds for ada."""
    owners, adas = generate(tmp_path / "owner.pem"), generate(tmp_path / "ada.pem")
    signer = load_private(tmp_path / "owner.pem")
    await issue(log, Found(1, "log-of-a-test"), actor="owner", reason="begin")
    await issue(log, TrustKey("owner", owners, "the owner"), actor="owner", reason="mine")
    trusted = TrustKey("phone-ada", adas, "ada", ("halt", "resume"))
    await issue(log, trusted, actor="owner", reason="ada may halt", signer=signer)
    return signer


@pytest.fixture
def started(log: Log, owner: Signer, server: BotServer, tmp_path: Path) -> Started:
    """Start the bot; it ends with the block, and may be started again."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Bot]:
        projection = Projection(log, 1, tmp_path / "projections.bin")
        await projection.begin()
        await projection.turn()
        held = HeldKeys(tmp_path, ACTORS.values())
        async with Telegram(TOKEN, server.url) as chat, anyio.create_task_group() as tasks:
            file, storage = tmp_path / "phone.bin", Storage("phone")
            bot = Bot(chat, projection, ControlWriter(log), held, ACTORS, file, storage, names=("a",))
            tasks.start_soon(bot.receive)
            tasks.start_soon(bot.send)
            yield bot
            tasks.cancel_scope.cancel()

    return start
