"""Markets of exchanges as people name them."""

import pytest

from shared.bars.markets import NamedMarket, named_markets
from shared.bars.rows import SourceError


def test_a_market_has_an_exchange_a_name_and_intervals() -> None:
    assert named_markets(["binance BTC/USDT 1m 15m", "okx BTC/USDT:USDT 1h"]) == (
        NamedMarket("binance", "BTC/USDT", "BTC/USDT", 60_000),
        NamedMarket("binance", "BTC/USDT", "BTC/USDT", 900_000),
        NamedMarket("okx", "BTC/USDT:USDT", "BTC/USDT:USDT", 3_600_000),
    )


def test_a_market_may_have_another_name_on_the_log() -> None:
    assert named_markets(["kraken XBT/EUR 1m as BTCEUR"])[0].symbol == "BTCEUR"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("binance BTC/USDT", "expected an exchange, a market and intervals"),
        ("binance BTC/USDT 1w", "weeks and months"),
        ("binance BTC/USDT 1m as BTC?", "'BTC\\?' is not a symbol"),
        (f"binance {'X' * 40}/USDT 1m", "at most 32"),
    ],
)
def test_what_is_no_market_is_refused_with_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        named_markets([text])
