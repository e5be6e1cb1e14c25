import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bars import SourceError, interval_text, parse_interval
from shared.bars.names import from_name

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("name", "symbol", "interval_ms"),
    [
        ("BTCUSDT-15m.csv.gz", "BTCUSDT", HOUR // 4),
        ("BTCUSDT-15m.binance-spot.csv.gz", "BTCUSDT", HOUR // 4),
        ("spot_BTCUSDT-1h-2024-12.csv.gz", "BTCUSDT", HOUR),
        ("um_FILUSDT-1m-2023-04.first2000.csv.gz", "FILUSDT", 60_000),
        ("api_BTCUSDT-1h-2023-03.json.gz", "BTCUSDT", HOUR),
        ("1000PEPEUSDT-1s-2024-12-01.zip", "1000PEPEUSDT", 1000),
        ("BTC-USDT-1d.parquet", "BTC-USDT", 24 * HOUR),
        ("ETHUSDT_5m.csv", "ETHUSDT", 300_000),
        ("BTC_USDT_USDT-1h-futures.csv.gz", "BTC_USDT_USDT", HOUR),
        ("BTC-USDT-SWAP-1h.csv.gz", "BTC-USDT-SWAP", HOUR),
        ("binance_1000SHIB_USDT_USDT-4h-mark.csv", "1000SHIB_USDT_USDT", 4 * HOUR),
        ("BTC-USDT-SWAP-PERP-X-1h.csv", None, None),  # more parts than any symbol
        ("BTC-USD-240628-1h.csv", None, None),
        ("2024-12-BTCUSDT-1h.csv", None, None),
        ("BTCUSDT_250328-4h.csv", None, None),  # a delivery date: which symbol must be stated
        # Of a name with a separator that is not known, the last part would be one series for many markets.
        ("BTC_USDT:USDT-1h.csv", None, None),
        ("BTCUSDT.P_1h.csv", None, None),
        ("BTC%2FUSDT-1h.csv", None, None),
        ("BTC USDT-1h.csv", None, None),
        ("BTC - USDT-1h.csv", None, None),
        ("copy of BTCUSDT-1h (1).csv", "BTCUSDT", HOUR),
        ("btcusdt.csv", None, None),
        ("2024-12-01.csv", None, None),
        ("BTCUSDT-15minutes.csv", None, None),
    ],
)
def test_a_file_name_says_symbol_and_interval_or_nothing(
    name: str, symbol: str | None, interval_ms: int | None
) -> None:
    assert from_name(name) == (symbol, interval_ms)


@given(st.text("BTC-_.:%+&@ /~", min_size=1, max_size=6))
def test_markets_whose_names_differ_are_never_one_series(between: str) -> None:
    first, second = (from_name(f"{base}{between}USDT-1h.csv").symbol for base in ("ETH", "XRP"))
    assert first is None or first != second


@pytest.mark.parametrize("name", ["BTCUSDT-1M-2024.csv", "BTCUSDT-1mo-2024.csv", "BTCUSDT-1w.csv"])
def test_an_interval_without_a_fixed_grid_is_refused(name: str) -> None:
    with pytest.raises(SourceError, match="no fixed grid"):
        from_name(name)


@pytest.mark.parametrize("text", ["1s", "1m", "15m", "1h", "4h", "1d", "31d"])
def test_an_interval_reads_as_it_is_written(text: str) -> None:
    assert interval_text(parse_interval(text)) == text


@pytest.mark.parametrize("text", ["", "m", "0m", "1.5h", "15", "32d", "1M", "-1h", "1 h"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="interval"):
        parse_interval(text)
