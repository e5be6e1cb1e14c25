"""``conclave money``: the ensemble as recorded, each model and shadow alone."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Encoded, decode, encode
from schemas.predictions import PredictionMade
from services.console.evidence import money, shadow
from services.executor.core import GROUP
from shared.control.issuing import current
from shared.log import Commit, Log, StreamKey
from shared.runtime.process import owner
from tests.services.console.conftest import A1, A2, TWO_MODELS, Desk
from tests.services.executor.world import Run, entries, story

PRICES = (100.0, 100.0, 110.0, 110.0, 121.0)
"""Open and close of each bar."""


def told(state: Any) -> list[Encoded]:
    """Bars that rise; the ensemble and model a buy at the first, the shadow sells."""
    moves = [(price, price, "BUY" if at == 0 else "HOLD") for at, price in enumerate(PRICES)]
    written = story("BTC", moves, version=state.version, head=state.head)
    predicted = []
    for bar in (each for each in written if each.stream == "market"):
        event = bar.envelope.event
        first = event.open_time == written[0].envelope.event.open_time
        for artifact, probabilities in ((A1, (0.1, 0.2, 0.7)), (A2, (0.7, 0.2, 0.1))):
            made = PredictionMade(
                symbol=event.symbol,
                interval_ms=event.interval_ms,
                open_time=event.open_time,
                origin=event.origin,
                model="a",
                artifact=bytes.fromhex(artifact),
                probabilities=probabilities if first else (0.1, 0.8, 0.1),
                vector=bar.envelope.id,
                control_version=state.version,
                control_head=bytes.fromhex(state.head),
            )
            predicted.append(encode("predictions", made, causation=bar.envelope.id, correlation=bar.envelope.id))
    return [*written, *predicted]


@pytest.fixture
def traded(desk: Desk) -> Desk:
    desk.issue(*TWO_MODELS)

    async def write(log: Log) -> None:
        events = told(await current(log))
        run = Run([decode("control", entry.data) for entry in await log.scan(StreamKey("control"))])
        run.take(entries([each for each in events if each.stream != "predictions"]))
        for who, outputs in (("writer", events), (GROUP, run.outputs)):
            claim = await log.claim(who, (), 0, owner("test"))
            await log.commit(claim, Commit(outputs, {}, {}, fence=await log.fence(0)))

    desk.with_log(write)
    return desk


def test_the_ensemble_is_as_recorded_and_each_model_and_shadow_has_a_line(traded: Desk) -> None:
    ended = traded("money", "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    ensemble, model, shadow = json.loads(ended.out)["lines"]
    assert [ensemble["line"], model["line"], shadow["line"]] == ["ensemble", "model a", f"shadow a@{A2[:12]}"]
    quantity, price = 100.0, 100.0 * 1.0003
    net = quantity * (121.0 - price) - 0.0005 * quantity * price
    assert ensemble["net"] == model["net"] == model["buy_and_hold"] == pytest.approx(net, rel=1e-12)
    assert shadow["net"] < -2_100.0
    assert ensemble["trades"] == 0


def test_each_symbol_of_each_line_has_all_figures(traded: Desk) -> None:
    lines = json.loads(traded("money", "-o", "json").out)["lines"]
    for line in lines:
        assert list(line["symbols"]) == ["BTC"]
        of_symbol = line["symbols"]["BTC"]
        assert of_symbol == {
            **line,
            "line": "BTC",
            "symbols": {},
            "net": pytest.approx(line["net"], rel=1e-9),
            "net_share": pytest.approx(line["net_share"], rel=1e-9),
            "buy_and_hold": pytest.approx(line["buy_and_hold"], rel=1e-9),
            "equity": pytest.approx(line["equity"], rel=1e-9),
        }
    shown = traded("money", "--symbols").out
    assert "money by symbol" in shown
    assert "trades by symbol" in shown
    assert "by symbol" not in traded("money").out


def test_a_model_may_be_chosen_and_a_table_is_shown(traded: Desk) -> None:
    assert len(json.loads(traded("money", "--model", "b", "-o", "json").out)["lines"]) == 1
    ended = traded("money", "--since", "2023-11-14T22:16")
    assert ended.code == 0
    assert "model a" in ended.out
    assert "Voting policy in force: 085c1cb3442e (defaults)." in ended.out


@pytest.mark.parametrize("command", [("money",), ("shadow", "report")])
def test_what_is_read_is_counted_while_it_is_read(
    command: tuple[str, ...], traded: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, tuple[int, float]] = {}

    @contextmanager
    def noted(items: AsyncIterator[Any], words: str, _: str, total: float) -> Iterator[AsyncIterator[Any]]:
        taken: list[Any] = []

        async def each() -> AsyncIterator[Any]:
            async for item in items:
                taken.append(item)
                yield item

        yield each()
        before = shown.get(words, (0, 0))
        shown[words] = before[0] + len(taken), before[1] + total

    for module in (money, shadow):
        monkeypatch.setattr(module, "watched_async", noted)
    traded(*command)
    bars = len(PRICES)
    assert (shown["reading predictions"], shown["reading bars"]) == ((2 * bars, 2 * bars), (bars, bars))


def test_without_predictions_and_orders_there_is_nothing_to_show(desk: Desk) -> None:
    desk.issue(*TWO_MODELS)
    assert desk("money").code == 3


def test_a_report_has_the_money_of_the_ensemble_beside_models_shadows_holding_and_staying_flat(
    traded: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    ended = traded("shadow", "report", "-o", "json", "--html", str(file))
    money = json.loads(traded("money", "-o", "json").out)
    assert json.loads(ended.out)["money"] == money
    page = file.read_text()
    for word in (
        "ensemble",
        "model a",
        f"shadow a@{A2[:12]}",
        "buy, hold",
        "flat",
        f"{money['lines'][0]['net']:+,.0f}",
        "Money by symbol",
        "trades by symbol",
    ):
        assert word in page
    assert f"{money['lines'][2]['net']:+,.0f}" in traded("shadow", "report").out


def test_a_report_without_bars_has_no_money(desk: Desk) -> None:
    desk.issue(*TWO_MODELS)
    assert json.loads(desk("shadow", "report", "-o", "json").out)["money"] is None
