"""What exchanges and programs write is read as it is documented, or asked for: a wrong guess is worse than a question.

Each sample holds the same four hourly bars, in the form and with the quirks of one program.
"""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from shared.bars import Good, LeftOut, RefusedRow, Row, SourceError, open_source
from shared.bars.columns import stated_columns
from shared.bars.files import recognise
from shared.bars.times import parse_zone

HOUR = 3600
START = 1_733_011_200
BARS = [
    (START, 100.25, 103.5, 99.125, 101.0, 7.5),
    (START + HOUR, 101.0, 102.0, 98.5, 99.5, 0.25),
    (START + 2 * HOUR, 99.5, 104.0, 99.5, 103.75, 12.0),
    (START + 3 * HOUR, 103.75, 103.75, 101.5, 102.0, 3.125),
]
EAST = timezone(timedelta(hours=3))


def lines(header: str, row: Callable[..., Any], separator: str = ",", bars: list[Any] = BARS) -> str:
    rows = [separator.join(map(str, row(*bar))) for bar in bars]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def dotted(time: int, form: str = "%Y.%m.%d %H:%M") -> str:
    return datetime.fromtimestamp(time, EAST).strftime(form)


def iso(time: int, zone: Any = UTC) -> str:
    return datetime.fromtimestamp(time, zone).isoformat()


def write(path: Path, content: str | bytes | Any) -> Path:
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".feather":
        feather.write_feather(content, str(path), compression="lz4")
    else:
        pq.write_table(content, path)
    return path


def table(**columns: Any) -> Any:
    names = ("open", "high", "low", "close", "volume")
    return pa.table({**columns, **{name: [bar[at] for bar in BARS] for at, name in enumerate(names, 1)}})


def stamps(unit: str, zone: str | None = None) -> Any:
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    return pa.array([bar[0] * per for bar in BARS], pa.timestamp(unit, tz=zone))


def pandas_table(index: Any, name: str) -> Any:
    described = {"index_columns": [name], "columns": [], "pandas_version": "2.2.0"}
    found = table(**{name: index})
    return found.replace_schema_metadata({b"pandas": json.dumps(described).encode()})


def kline(time: int, first: float, high: float, low: float, last: float, volume: float, unit: int = 1000) -> list[Any]:
    prices = [f"{price:.8f}" for price in (first, high, low, last, volume)]
    return [time * unit, *prices, (time + HOUR) * unit - 1, "1.5", 9, "0.5", "0.25", "0"]


def swapped(time: int, first: float, high: float, low: float, last: float, volume: float) -> list[Any]:
    return [time, low, high, first, last, volume]


FUTURES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
OKX_HEAD = "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm"
CDD = "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD"
KAGGLE = "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price"
MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
ASKED: dict[str, dict[str, Any]] = {
    "zone": {"zone": parse_zone("+03:00")},
    "ticks": {"zone": parse_zone("+03:00"), "columns": stated_columns(["volume=<TICKVOL>"])},
    "symbol": {"symbol": "BTCUSD"},
    "contracts": {"columns": stated_columns(["volume=vol_ccy"])},
}

# program, file name, content, what has to be stated, the symbol that is found
SAMPLES: list[tuple[str, str, Any, str, str]] = [
    ("Binance", "BTCUSDT-1h-2024-12.csv", lines("", kline), "", "BTCUSDT"),
    (
        "Binance",
        "BTCUSDT-1h-2025-01.csv",
        lines("", lambda t, o, h, low, c, v: kline(t, o, h, low, c, v, 10**6)),
        "",
        "BTCUSDT",
    ),
    ("columns by name", "BTCUSDT-1h-2023-01.csv", lines(FUTURES, kline), "", "BTCUSDT"),
    ("Binance", "BTCUSDT-1h.json", json.dumps([kline(*bar) for bar in BARS]), "", "BTCUSDT"),
    (
        "Bybit, for MetaTrader",
        "BTCUSDT_60_2024-12-01_2024-12-31.csv.gz",
        gzip.compress(lines("", lambda time, *rest: (dotted(time), *rest)).encode()),
        "zone",
        "BTCUSDT",
    ),
    (
        "Bybit",
        "answer-1h.json",
        json.dumps(
            {
                "retCode": 0,
                "retMsg": "OK",
                "result": {
                    "symbol": "BTCUSDT",
                    "category": "spot",
                    "list": [[str(bar[0] * 1000), *map(str, bar[1:]), "9.9"] for bar in reversed(BARS)],
                },
                "time": 1,
            }
        ),
        "",
        "BTCUSDT",
    ),
    (
        "OKX",
        "BTC-USDT-candlesticks-2024-12.csv",
        lines(OKX_HEAD, lambda time, *rest: ("BTC-USDT", *rest, 1, 2, time * 1000, 1)),
        "",
        "BTC-USDT",
    ),
    (
        "OKX",
        "swap.csv",
        lines(OKX_HEAD, lambda time, *rest: ("BTC-USDT-SWAP", *rest[:4], 750, rest[4], 2, time * 1000, 1)),
        "contracts",
        "BTC-USDT-SWAP",
    ),
    (
        "OKX",
        "BTC-USDT-1h.json",
        json.dumps(
            {"code": "0", "msg": "", "data": [[str(b[0] * 1000), *map(str, b[1:]), "1", "2", "1"] for b in BARS[::-1]]}
        ),
        "",
        "BTC-USDT",
    ),
    ("Kraken", "XBTUSD_60.csv", lines("", lambda *bar: (*bar, 17)), "", "XBTUSD"),
    (
        "Coinbase Exchange",
        "BTC-USD-1h.json",
        json.dumps([swapped(*bar) for bar in reversed(BARS)]),
        "",
        "BTC-USD",
    ),
    (
        "Coinbase Advanced Trade",
        "BTC-USD-1h.json",
        json.dumps(
            {
                "candles": [
                    dict(zip(("start", "low", "high", "open", "close", "volume"), map(str, swapped(*bar)), strict=True))
                    for bar in reversed(BARS)
                ]
            }
        ),
        "",
        "BTC-USD",
    ),
    (
        "Bitstamp",
        "answer-1h.json",
        json.dumps(
            {
                "data": {
                    "pair": "BTC/USD",
                    "ohlc": [
                        dict(zip(("timestamp", "open", "high", "low", "close", "volume"), map(str, bar), strict=True))
                        for bar in BARS
                    ],
                }
            }
        ),
        "",
        "BTC/USD",
    ),
    (
        "columns by name",
        "Bitstamp_BTCUSD_1h.csv",
        lines(CDD, lambda time, *rest: (time, iso(time)[:19].replace("T", " "), "BTC/USD", *rest, 99.5)),
        "",
        "BTC/USD",
    ),
    (
        "columns by name",
        "bitstampUSD_1-min_data_2012-01-01_to_2021-03-31.csv",
        lines(KAGGLE, lambda *bar: (*bar, 99.5, 100)),
        "symbol",
        "BTCUSD",
    ),
    ("ccxt or freqtrade", "BTC_USDT-1h.json", json.dumps([[b[0] * 1000, *b[1:]] for b in BARS]), "", "BTC_USDT"),
    ("columns by name", "BTC_USDT-1h.feather", table(date=stamps("ms", "UTC")), "", "BTC_USDT"),
    ("columns by name", "BTC_USDT_USDT-1h-futures.feather", table(date=stamps("ns", "UTC")), "", "BTC_USDT_USDT"),
    (
        "columns by name",
        "BINANCE_BTCUSDT, 60.csv",
        lines("time,open,high,low,close,Volume,Volume MA", lambda *bar: (*bar, 5)),
        "",
        "BTCUSDT",
    ),
    (
        "columns by name",
        "BINANCE_BTCUSDT, 60_fe0b8.csv",
        lines("time,open,high,low,close,Volume", lambda time, *rest: (iso(time, EAST), *rest)),
        "",
        "BTCUSDT",
    ),
    (
        "MetaTrader 5",
        "BTCUSD_H1_202412010300_202412010600.csv",
        lines(
            MT5,
            lambda time, *rest: (dotted(time, "%Y.%m.%d"), dotted(time, "%H:%M:%S"), *rest, 0, 17),
            "\t",
        ),
        "ticks",
        "BTCUSD",
    ),
    (
        "MetaTrader 4",
        "BTCUSD-1h.csv",
        lines("", lambda time, *rest: (dotted(time, "%Y.%m.%d"), dotted(time, "%H:%M"), *rest)),
        "zone",
        "BTCUSD",
    ),
    ("columns by name", "bars.parquet", pandas_table(stamps("ns"), "__index_level_0__"), "symbol", "BTCUSD"),
    ("columns by name", "BTCUSDT-1h.parquet", pandas_table(stamps("us", "Asia/Tokyo"), "Date"), "", "BTCUSDT"),
    (
        "columns by name",
        "polars.parquet",
        table(datetime=stamps("us"), ticker=pa.array(["BTC-USD"] * 4, pa.large_string())),
        "",
        "BTC-USD",
    ),
]


# name of the sample, further fields: number of trades, quote volume, taker volume
KEPT: dict[str, tuple[int | None, float | None, float | None]] = {
    "BTCUSDT-1h-2024-12.csv": (9, 1.5, 0.5),
    "BTCUSDT-1h-2025-01.csv": (9, 1.5, 0.5),
    "BTCUSDT-1h-2023-01.csv": (9, 1.5, 0.5),
    "BTCUSDT-1h.json": (9, 1.5, 0.5),
    "BTC-USDT-candlesticks-2024-12.csv": (None, 2.0, None),
    "swap.csv": (None, 2.0, None),
    "BTC-USDT-1h.json": (None, 2.0, None),
    "XBTUSD_60.csv": (17, None, None),
}


@pytest.mark.parametrize(
    ("program", "name", "content", "asked", "symbol"), SAMPLES, ids=[f"{s[0]}:{s[1]}" for s in SAMPLES]
)
def test_a_format_is_read_as_it_is_documented(
    program: str, name: str, content: Any, asked: str, symbol: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    source = open_source(path, **ASKED.get(asked, {}))
    rows = list(source)
    assert [values(row) for row in rows] == [(bar[0] * 1000, *bar[1:]) for bar in BARS]
    assert {(row.bar.symbol, row.bar.interval_ms) for row in rows if isinstance(row, Good)} == {(symbol, HOUR * 1000)}
    assert source.files[0].program == program
    assert {further(row) for row in rows} == {KEPT.get(name, (None, None, None))}


def further(row: Row) -> tuple[int | None, float | None, float | None]:
    assert isinstance(row, Good), row
    return row.bar.trades, row.bar.quote_volume, row.bar.taker_volume


def values(row: Row) -> tuple[Any, ...]:
    assert isinstance(row, Good), row
    bar = row.bar
    return (bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume)


ASKING = [sample[1:4] for sample in SAMPLES if sample[3]]


@pytest.mark.parametrize(("name", "content", "asked"), ASKING, ids=[name for name, *_ in ASKING])
def test_what_a_format_leaves_open_is_asked_for(name: str, content: Any, asked: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    said = {"zone": "--zone", "ticks": "--columns volume=", "contracts": "--columns volume=", "symbol": "symbol"}
    with pytest.raises(SourceError, match=said[asked]):
        open_source(path)


def refusals(path: Path, **stated: Any) -> list[tuple[int, str]]:
    rows = list(open_source(path, **stated))
    return [(at, row.detail) for at, row in enumerate(rows) if isinstance(row, RefusedRow)]


def test_a_bar_that_an_exchange_says_is_open_is_refused(tmp_path: Path) -> None:
    rows = [["BTC-USDT", *bar[1:], 1, 2, bar[0] * 1000, 0 if bar is BARS[-1] else 1] for bar in BARS]
    text = "\n".join([OKX_HEAD, *(",".join(map(str, row)) for row in rows)])
    ((at, detail),) = refusals(write(tmp_path / "okx.csv", text), interval_ms=HOUR * 1000)
    assert (at, "still open" in detail) == (3, True)


def test_the_last_row_of_an_answer_of_kraken_is_never_a_whole_bar(tmp_path: Path) -> None:
    rows = [[bar[0], *map(str, bar[1:5]), "100.7", str(bar[5]), 17] for bar in BARS]
    answer = {"error": [], "result": {"XXBTZUSD": rows, "last": BARS[-2][0]}}
    path = write(tmp_path / "answer.json", json.dumps(answer))
    found = list(open_source(path))
    assert [values(row) for row in found[:3]] == [(bar[0] * 1000, *bar[1:]) for bar in BARS[:3]]
    assert {further(row) for row in found[:3]} == {(17, None, None)}
    assert isinstance(found[3], RefusedRow)
    assert "still open" in found[3].detail


def test_empty_minutes_of_an_export_are_counted(tmp_path: Path) -> None:
    text = lines(KAGGLE, lambda *bar: (*bar, 99.5, 100)) + f"{START + 4 * HOUR},NaN,NaN,NaN,NaN,NaN,NaN,NaN\n"
    left_out = LeftOut()
    for row in open_source(write(tmp_path / "bitstamp.csv", text), symbol="BTCUSD"):
        if isinstance(row, RefusedRow):
            left_out(row)
    assert left_out.sentence().startswith("1 rows left out: 1 not_finite (first at bitstamp.csv:6")


AMBIGUOUS = {
    "two times that differ": (
        lines("date,timestamp,open,high,low,close,volume", lambda time, *rest: (iso(time), time + HOUR, *rest)),
        "date, timestamp|timestamp, date",
    ),
    "two volumes": (
        lines("time,open,high,low,close,Volume Base,Volume Quote", lambda *bar: (*bar, 5)),
        r"--columns volume=volume_base",
    ),
    "volume in another currency": (
        lines("time,open,high,low,close,Volume USD", lambda *bar: bar),
        "--columns volume=",
    ),
    "a column twice": (
        lines("time,open,high,low,close,close,volume", lambda t, o, h, low, c, v: (t, o, h, low, c, c + 1, v)),
        "the header has close more than once",
    ),
    "dates in digits": (
        lines("time,open,high,low,close,volume", lambda time, *rest: (dotted(time, "%Y%m%d%H%M"), *rest)),
        "look like a date in digits",
    ),
    "rows without names": (lines("", lambda t, *rest: (t * 1000, *rest)), "--columns time=1,open=2"),
    "rows of another order": (lines("", lambda t, o, h, low, c, v: (t, o, c, h, low, v, 9)), "--columns time=1"),
    "two symbols": (
        lines("ticker,instrument,time,open,high,low,close,volume", lambda *bar: ("A", "B", *bar)),
        "--columns symbol=",
    ),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused_with_what_to_state(case: str, tmp_path: Path) -> None:
    content, said = AMBIGUOUS[case]
    with pytest.raises(SourceError, match=said):
        open_source(write(tmp_path / "BTCUSDT-1h.csv", content))


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([[b[0] * 1000, b[1], b[4], b[2], b[3], b[5]] for b in BARS], "open, close, high, low, as Bitfinex has them"),
        ([[b[0], *b[1:]] for b in BARS], "seconds, which ccxt never writes"),
        ([[b[0], b[1], b[1], b[1], b[1], 1] for b in BARS], "flat bars, which fit every order"),
        ([[b[0] * 1000, *b[1:], 9] for b in BARS], "seven columns"),
    ],
)
def test_json_rows_are_not_guessed_from_their_number_alone(rows: list[Any], why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.json", json.dumps(rows))
    with pytest.raises(SourceError, match="State the columns by their numbers"):
        open_source(path)


def test_stated_columns_count_before_names_and_places(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", lines("", lambda t, o, h, low, c, v: (v, t, c, o, h, low)))
    columns = stated_columns(["time=2,open=4,high=5", "low=6,close=3,volume=1"])
    assert [values(row) for row in open_source(path, columns=columns)] == [(b[0] * 1000, *b[1:]) for b in BARS]
    header = "Date,Time,Open,High,Low,Last,Vol."
    path = write(
        tmp_path / "BTCUSDT-1h.csv",
        lines(header, lambda t, *rest: (dotted(t, "%Y/%m/%d"), dotted(t, "%H:%M"), *rest)),
    )
    columns = stated_columns(["close=Last,volume=Vol.,time=Date+Time"])
    found = open_source(path, columns=columns, zone=parse_zone("+03:00"))
    assert [values(row) for row in found] == [(b[0] * 1000, *b[1:]) for b in BARS]


def test_a_date_and_a_time_of_day_are_one_time(tmp_path: Path) -> None:
    for form in ("%Y-%m-%d", "%Y%m%d", "%Y.%m.%d"):
        text = lines(
            "Date,Time,Open,High,Low,Close,Volume",
            lambda t, *rest, form=form: (
                datetime.fromtimestamp(t, UTC).strftime(form),
                datetime.fromtimestamp(t, UTC).strftime("%H:%M"),
                *rest,
            ),
        )
        found = open_source(write(tmp_path / "BTCUSDT-1h.csv", text))
        assert [values(row) for row in found] == [(b[0] * 1000, *b[1:]) for b in BARS]


def test_a_zone_that_is_not_needed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", lines("time,open,high,low,close,volume", lambda *bar: bar))
    with pytest.raises(SourceError, match="do not state one"):
        open_source(path, zone=parse_zone("Europe/Athens"))


def test_an_hour_that_a_zone_has_twice_is_refused(tmp_path: Path) -> None:
    hours = ["2024-10-27 02:00", "2024-10-27 03:00", "2024-10-27 04:00", "2024-10-27 05:00"]
    rows = [(hour, *bar[1:]) for hour, bar in zip(hours, BARS, strict=True)]
    text = lines("time,open,high,low,close,volume", lambda *bar: bar, bars=rows)
    ((at, detail),) = refusals(write(tmp_path / "BTCUSDT-1h.csv", text), zone=parse_zone("Europe/Athens"))
    assert (at, "twice or not at all in Europe/Athens" in detail) == (1, True)


@pytest.mark.parametrize("time", ["1972-12-31", "1971-01-01T00:00:00Z", "44197", "1609459"])
def test_a_time_whose_unit_its_size_does_not_show_is_refused(time: str, tmp_path: Path) -> None:
    text = lines("time,open,high,low,close,volume", lambda *bar: bar) + f"{time},10,12,9,11,5\n"
    ((at, detail),) = refusals(write(tmp_path / "BTCUSDT-1h.csv", text))
    assert (at, "1973-03-03" in detail) == (4, True)


def test_timestamps_of_a_table_before_1973_are_refused(tmp_path: Path) -> None:
    times = pa.array([1, *(bar[0] * 10**9 for bar in BARS[1:])], pa.timestamp("ns"))
    ((at, detail),) = refusals(write(tmp_path / "BTCUSDT-1h.parquet", table(date=times)))
    assert (at, "1973-03-03" in detail) == (0, True)


def test_a_null_symbol_is_no_symbol(tmp_path: Path) -> None:
    found = table(time=stamps("ms"), symbol=["A", None, "A", "A"])
    ((at, detail),) = refusals(write(tmp_path / "x.parquet", found), interval_ms=HOUR * 1000)
    assert (at, detail) == (1, "its symbol is null")


@pytest.mark.parametrize("name", ["BTCUSD-1h.parquet", "BTCUSD-1h.feather"])
@pytest.mark.parametrize("kind", ["date32", "string", "float"])
def test_tables_may_write_times_in_other_types(name: str, kind: str, tmp_path: Path) -> None:
    days = [(START // 86_400 + n) for n in range(4)]
    times = {
        "date32": pa.array(days, pa.date32()),
        "string": pa.array([iso(day * 86_400)[:10] for day in days]),
        "float": pa.array([day * 86_400.0 for day in days]),
    }[kind]
    path = write(tmp_path / name.replace("1h", "1d"), table(date=times))
    found = [row.bar.open_time for row in open_source(path) if isinstance(row, Good)]
    assert found == [day * 86_400_000 for day in days]


def test_an_answer_that_is_an_error_is_shown(tmp_path: Path) -> None:
    for answer in ({"retCode": 10001, "retMsg": "no", "result": {}}, {"code": "51001", "data": []}, {"msg": "no"}):
        with pytest.raises(SourceError, match=r"not JSON with bars|holds no rows|a JSON object with msg"):
            recognise(write(tmp_path / "x.json", json.dumps(answer)), "x.json")


def test_rows_that_fit_several_orders_are_read_if_the_name_is_that_of_the_format(tmp_path: Path) -> None:
    text = lines("", lambda t, o, h, low, c, v: (t, o, o, o, o, v, 1))
    assert len(list(open_source(write(tmp_path / "XBTUSD_60.csv", text)))) == 4
    with pytest.raises(SourceError, match="State the columns by their numbers"):
        open_source(write(tmp_path / "XBTUSD-1h.csv", text))
    odd = lines("", lambda t, o, h, low, c, v: (t, o, c, h, low, v, 1))
    with pytest.raises(SourceError, match="State the columns by their numbers"):
        open_source(write(tmp_path / "XBTUSD_60.csv", odd))
