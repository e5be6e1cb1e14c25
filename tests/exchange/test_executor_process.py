"""``conclave run executor`` at a local exchange: settings, credentials and the desk, in a process of their own."""

import os
import signal
from pathlib import Path

import anyio
import pytest

from schemas.orders import OrderFilled
from shared.exchanges import CREDENTIALS_FILE
from shared.log.redis import RedisLog
from shared.processes import module_command
from tests.exchange.executing import Installation, exchange
from tests.exchange.trading import KEY, SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


async def test_an_executor_process_trades_at_a_local_exchange_and_shows_no_key(
    empty_redis_url: str, tmp_path: Path
) -> None:
    async with exchange("ETH") as trading:
        settings = tmp_path / "conclave.toml"
        settings.write_text(
            f'[redis]\nurl = "{empty_redis_url}"\nephemeral = true\n'
            f'[exchange]\nlocal = "{trading.url}"\nmarkets = ["binance ETH/USDT 1m as ETHUSDT"]\n'
        )
        keys = tmp_path / "keys.toml"
        keys.write_text(f'key = "{KEY}"\nsecret = "{SECRET}"\n')
        log = RedisLog(empty_redis_url)
        installation = Installation(log, trading)
        await installation.found()
        await installation.decide("BUY", symbol="ETHUSDT")
        environ = {**os.environ, "CONCLAVE_SETTINGS": str(settings), CREDENTIALS_FILE: str(keys)}
        command = module_command("services.console.cli", "run", "executor")
        shown = tmp_path / "log"
        with shown.open("wb") as file:
            process = await anyio.open_process(command, env=environ, stdout=file, stderr=file, cwd=tmp_path)
            async with process:
                (filled,) = await installation.until(1, OrderFilled)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        assert KEY not in shown.read_text()
        assert SECRET not in shown.read_text()
        await log.close()
    assert (filled.symbol, filled.venue, filled.moved) == ("ETHUSDT", "binance.sandbox", 10.0)
