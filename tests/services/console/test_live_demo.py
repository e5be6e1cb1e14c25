"""The live demo: what it writes for its installation, and its options."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from services.console.demo import live
from services.console.demo.command import _settings
from shared.bars import load
from shared.families import libraries
from tests.services.console.conftest import Desk


def test_the_settings_name_the_markets_of_the_exchange(tmp_path: Path) -> None:
    settings = _settings(tmp_path, live.MODELS, live.settings_text("http://127.0.0.1:8090"))
    assert settings.exchange.local == "http://127.0.0.1:8090"
    assert settings.exchange.markets == ("binance BTC/USDT 1s as BTCUSDT", "binance ETH/USDT 1s as ETHUSDT")
    assert settings.models.names == tuple(live.MODELS)
    assert sum(slot.weight for slot in live.MODELS.values()) == 1.0


def test_the_models_are_trained_on_bars_of_the_length_of_the_live_ones(tmp_path: Path) -> None:
    option, file = live.write_market(tmp_path / "bars.csv")
    assert option == "--bars"
    found = load(file)
    assert {series: len(bars) for series, bars in found.items()} == {
        (f"{symbol}USDT", live.INTERVAL_MS): live.TRAINED for symbol in live.SYMBOLS
    }


def test_bars_of_files_and_of_an_exchange_exclude_each_other(desk: Desk, tmp_path: Path) -> None:
    ended = desk("demo", "--exchange", "http://127.0.0.1:1", "--bars", str(tmp_path))
    assert ended.code == 2
    assert "--bars and --exchange exclude each other" in ended.err


def test_a_demo_without_its_libraries_names_all_of_them_before_it_starts_anything(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> Any:
        return None if name in {"scipy", "torch", "xgboost"} else find_spec(name)

    monkeypatch.setattr(libraries, "find_spec", found)
    ended = desk("demo")
    assert (ended.code, ended.out) == (2, "")
    assert "this needs scipy and xgboost and torch: pip install" in ended.err
    assert "[ml,train,trees]'" in ended.err
