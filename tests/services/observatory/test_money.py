"""The screen Money: what ``conclave money`` shows, counted when asked for in a process of its own."""

from pathlib import Path

import msgspec
import pytest

from bench.replayed import Replayed
from services.observatory.computing import AskedMoney, AskedPack
from services.observatory.screens.money import tables
from shared.log.redis import RedisLog
from shared.money.recorded import read_money
from shared.report.money import symbol_tables
from shared.settings import Installation, Redis, Settings
from tests.services.observatory.conftest import Served, more
from tests.services.observatory.test_web import answer, api
from tests.services.observatory.test_whatif import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def counting(served: Served, replayed: Replayed, empty_redis_url: str, tmp_path: Path) -> Served:
    """An observatory whose server has what was recorded."""
    log = RedisLog(empty_redis_url)
    await more(log, replayed, 0.0, 1.0)
    await log.close()
    settings = Settings(
        redis=Redis(url=empty_redis_url, ephemeral=True), installation=Installation(state=str(tmp_path))
    )
    served.site.computations._settings = served.site.settings = settings
    return served


async def test_the_money_of_the_page_is_that_of_the_console_in_all_and_by_symbol(
    counting: Served, empty_redis_url: str
) -> None:
    assert (await api(counting, "money"))["state"] == "none"
    assert "Count it" in (await answer(counting, "/money")).text
    assert (await api(counting, "money?start=true"))["state"] in {"waiting", "running"}
    await until(lambda: counting.site.computations.running is None)
    shown = await api(counting, "money")
    assert (shown["state"], shown["reason"]) == ("done", "")
    log = RedisLog(empty_redis_url)
    found = await read_money(log, 1)
    await log.close()
    assert shown["report"] == msgspec.to_builtins(found)
    assert found.bars == 800
    lines = [each.line for each in found.lines]
    assert len(lines) >= 3

    page = (await answer(counting, f"/money?line={lines[1]}")).text
    _, _, gains, trades = tables(found.lines, lines[1], "")
    assert (gains, trades) == symbol_tables([found.lines[1]])
    for row in (*gains.rows, *trades.rows):
        assert all(cell in page for cell in row)
    of_symbol = (await answer(counting, "/money?symbol=ETHUSDT")).text
    assert "Money of ETHUSDT" in of_symbol
    assert ">BTCUSDT<" not in of_symbol
    assert all(line in of_symbol for line in lines[1:])


async def test_counting_can_be_cancelled_and_is_not_started_by_another_site(counting: Served) -> None:
    for path in ("/money?count=true", "/api/v1/money?start=true", "/money/cancel"):
        assert (await answer(counting, path, headers={"sec-fetch-site": "cross-site"})).status_code == 403
    computations = counting.site.computations
    counted = computations.start(AskedMoney())
    assert (await answer(counting, "/api/v1/money?start=true")).status_code == 200  # the same question
    assert (await answer(counting, "/api/v1/whatif?start=true")).status_code == 409
    assert (await api(counting, "money/cancel"))["state"] == "cancelled"
    assert counted.state == "cancelled"
    pack = computations.start(AskedPack(3))
    assert (await api(counting, "money"))["busy"]
    assert "Something else is computed" in (await answer(counting, "/money")).text
    await answer(counting, "/api/v1/money/cancel")
    assert pack.state in {"waiting", "running"}


async def test_a_symbol_without_money_and_an_address_made_up_are_a_sentence(counting: Served) -> None:
    counted = counting.site.computations.start(AskedMoney())
    await until(lambda: counted.state == "done")
    for query in ("symbol=NONE", "line=none", "symbol=%3Cscript%3E"):
        page = await answer(counting, f"/money?{query}")
        assert page.status_code == 200
        assert "None was traded" in page.text
        assert "<script>" not in page.text
