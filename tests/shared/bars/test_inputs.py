"""What exchanges publish besides bars is read as it is documented; what is not known is asked for."""

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.market import BookSampled, FundingPublished, OpenInterestSampled, PriceSampled
from shared.bars import Good, LeftOut, RefusedRow, SourceError, load, open_source
from shared.bars.input_checking import check_inputs
from shared.bars.input_source import WithInputs, open_inputs, with_inputs
from shared.bars.rows import InputRow

HOUR = 3_600_000
START = 1_733_011_200_000
FUNDING = "calc_time,funding_interval_hours,last_funding_rate\n"
METRICS = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio\n"
)
BOOK = "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,"
    "ignore\n"
)
WHERE: dict[str, Any] = {"symbol": "BTCUSDT", "origin": "replay"}


def events(path: Path) -> list[Any]:
    return [row.event for _, row in open_inputs(path).rows() if isinstance(row, InputRow)]


def refused(path: Path) -> list[RefusedRow]:
    return [row for _, row in open_inputs(path).rows() if isinstance(row, RefusedRow)]


def bars(folder: Path, count: int = 4, name: str = "BTCUSDT-1h.csv") -> Path:
    folder.mkdir(exist_ok=True)
    rows = [f"{START + number * HOUR},10,12,9,11,5" for number in range(count)]
    (folder / name).write_text("\n".join(["open_time,open,high,low,close,volume", *rows]) + "\n")
    return folder


def kline(number: int, volume: str = "0") -> str:
    opened = START + number * HOUR
    return f"{opened},100.5,200,99,{101 + number}.25,{volume},{opened + HOUR - 1},0,3600,0,0,0\n"


def test_funding_rates_of_binance_have_their_symbol_in_the_name(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-fundingRate-2024-12.csv"
    path.write_text(FUNDING + f"{START + 3},8,0.00010000\n{START + 8 * HOUR},4,-0.00025\n")
    assert events(tmp_path) == [
        FundingPublished(at=START + 3, rate=0.0001, interval_ms=8 * HOUR, **WHERE),
        FundingPublished(at=START + 8 * HOUR, rate=-0.00025, interval_ms=4 * HOUR, **WHERE),
    ]


def test_open_interest_is_read_of_metrics_in_the_order_of_time_also_where_ratios_are_blank(tmp_path: Path) -> None:
    text = METRICS + "2024-12-01 00:05:00,BTCUSDT,81.5,8150000,,,,\n2024-12-01 00:00:00,BTCUSDT,80.5,,1,1,1,1\n"
    with zipfile.ZipFile(tmp_path / "BTCUSDT-metrics-2024-12-01.zip", "w") as archive:
        archive.writestr("BTCUSDT-metrics-2024-12-01.csv", text)
    assert events(tmp_path) == [
        OpenInterestSampled(at=START, amount=80.5, **WHERE),
        OpenInterestSampled(at=START + 300_000, amount=81.5, value=8_150_000.0, **WHERE),
    ]


@pytest.mark.parametrize(("folder", "field"), [("markPriceKlines", "mark"), ("indexPriceKlines", "index")])
@pytest.mark.parametrize("header", ["", KLINES])
def test_mark_and_index_klines_are_told_by_their_folder(tmp_path: Path, folder: str, field: str, header: str) -> None:
    inner = tmp_path / folder / "BTCUSDT" / "1h"
    inner.mkdir(parents=True)
    with gzip.open(inner / "BTCUSDT-1h-2024-12.csv.gz", "wt") as file:
        file.write(header + kline(0) + kline(1))
    prices: list[dict[str, Any]] = [{field: 101.25 + n, "at": START + (n + 1) * HOUR} for n in range(2)]
    expected = [PriceSampled(**WHERE, **each) for each in prices]
    assert events(tmp_path) == expected
    assert events(inner) == expected


def test_klines_with_a_volume_are_bars_wherever_they_are(tmp_path: Path) -> None:
    inner = tmp_path / "markPriceKlines"
    inner.mkdir()
    (inner / "BTCUSDT-1h-2024-12.csv").write_text(KLINES + kline(0, "2.5") + kline(1))
    with pytest.raises(SourceError, match="in a folder markPriceKlines, but its rows have a volume: these are bars"):
        events(tmp_path)


def test_of_a_book_the_last_row_up_to_each_minute_is_read(tmp_path: Path) -> None:
    times = (START - 59_999, START, START + 1, START + 30_000, START + 60_000, START + 60_001)
    rows = [f"{n},{100 + n}.5,{n + 1},{101 + n}.5,2,{time},{time + 5}\n" for n, time in enumerate(times)]
    (tmp_path / "BTCUSDT-bookTicker-2024-12-01.csv").write_text(BOOK + "".join(rows))
    found = events(tmp_path)
    assert [event.at for event in found] == [START, START + 60_000, START + 60_001]
    assert found[0] == BookSampled(at=START, bid=101.5, bid_size=2.0, ask=102.5, ask_size=2.0, **WHERE)


def test_a_table_of_ones_own_may_have_several_inputs_in_a_row(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "timestamp,symbol,funding_rate,open_interest,mark_price,index_price\n"
        f"{START // 1000},BTCUSDT,0.0001,5,101,\n2024-12-01T01:00:00Z,BTC/USDT,,,,99\n"
    )
    assert events(tmp_path) == [
        FundingPublished(at=START, rate=0.0001, **WHERE),
        OpenInterestSampled(at=START, amount=5.0, **WHERE),
        PriceSampled(at=START, mark=101.0, **WHERE),
        PriceSampled(symbol="BTC/USDT", at=START + HOUR, origin="replay", index=99.0),
    ]


def test_rows_that_cannot_be_read_are_refused_by_line_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-fundingRate-2024-12.csv"
    path.write_text(FUNDING + f"{START},8,0.0001\nyesterday,8,0.0001\n{START},8\n{START + 1},8,x\n{START + 2},8,11\n\n")
    assert len(events(tmp_path)) == 1
    found = {(row.where.rpartition(":")[2], row.detail.partition(" - ")[0]) for row in refused(tmp_path)}
    assert found == {
        ("3", "'yesterday' is not a time"),
        ("4", "expected 3 columns, found 2"),
        ("5", "funding_rate is 'x', expected a number"),
        ("6", "rate is 11.0: Expected `float` < 10.0"),
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("BTCUSDT-bookDepth-2024-12-01.csv", "timestamp,percentage,depth,notional\n", "not a file of inputs"),
        ("funding.csv", FUNDING, "expected a column symbol, or a name such as BTCUSDT-fundingRate-2024-01.csv"),
        ("empty.csv", "", "not a file of inputs"),
    ],
)
def test_a_file_that_is_not_known_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        open_inputs(tmp_path)


def test_files_are_merged_by_time_and_the_identity_is_that_of_their_content(tmp_path: Path) -> None:
    for number, name in enumerate(("BTCUSDT-fundingRate-2024-12.csv", "ETHUSDT-fundingRate-2024-12.csv")):
        rows = [f"{START + (2 * n + number) * HOUR},8,0.000{n}1\n" for n in range(3)]
        (tmp_path / name).write_text(FUNDING + "".join(rows))
    source = open_inputs(tmp_path)
    times = [at for at, _ in source.rows()]
    assert times == sorted(times)
    assert len(times) == 6
    assert open_inputs(tmp_path).identity == source.identity
    (tmp_path / "ETHUSDT-fundingRate-2024-12.csv").write_text(FUNDING)
    assert open_inputs(tmp_path).identity != source.identity


def test_inputs_come_before_the_first_bar_that_closes_at_or_after_their_time(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    times = (START, START + HOUR, START + HOUR + 1, START + 9 * HOUR)
    (inputs / "BTCUSDT-fundingRate-2024-12.csv").write_text(FUNDING + "".join(f"{at},8,0.0001\n" for at in times))
    source = WithInputs(open_source(bars(tmp_path / "bars")), open_inputs(inputs))

    def shown(rows: Sequence[Any]) -> list[int]:
        return [row.event.at - START if isinstance(row, InputRow) else -(row.bar.open_time - START) for row in rows]

    whole = list(source.rows())
    assert shown(whole) == [0, HOUR, 0, HOUR + 1, -HOUR, -2 * HOUR, -3 * HOUR]
    assert list(source.rows(3)) == whole[3:]
    assert all(isinstance(row, Good) for row in whole[4:])


def test_bars_get_the_inputs_of_their_symbol(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    rows = FUNDING + f"{START},8,0.0001\n{START},8,0.0002\n{START + 1},8,x\n"
    (inputs / "BTCUSDT-fundingRate-2024-12.csv").write_text(rows)
    by_symbol = {symbol: one for (symbol, _), one in load(bars(tmp_path / "bars")).items()}
    left_out = LeftOut()
    found = with_inputs(by_symbol, open_inputs(inputs), left_out)
    assert found["BTCUSDT"].inputs["funding"].values.tolist() == [[0.0001]]
    assert left_out.counts.total() == 1
    others = {"ETHUSDT": by_symbol["BTCUSDT"]}
    with pytest.raises(SourceError, match="inputs of BTCUSDT, and the bars are of ETHUSDT"):
        with_inputs(others, open_inputs(inputs))


def test_a_check_shows_what_there_is_and_what_is_repeated(tmp_path: Path) -> None:
    times = (START, START, START + 8 * HOUR, START + 24 * HOUR)
    (tmp_path / "BTCUSDT-fundingRate-2024-12.csv").write_text(
        FUNDING + "".join(f"{at},8,0.0001\n" for at in times) + "x,8,1\n"
    )
    found = check_inputs(open_inputs(tmp_path), {"BTCUSDT"})
    assert found.unused == ()
    [series] = found.series
    assert (series.symbol, series.kind, series.samples, series.repeated) == ("BTCUSDT", "funding", 4, 1)
    assert (series.first, series.last, series.longest_ms) == (START, START + 24 * HOUR, 16 * HOUR)
    assert found.left_out.counts == {"bad_row": 1}
    assert not found.clean


def bybit(rows: list[Any], **result: Any) -> str:
    """An answer of Bybit, as its documentation shows them."""
    content = {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", **result, "list": rows}}
    return json.dumps({**content, "retExtInfo": {}, "time": START + 2 * HOUR})


def okx(rows: list[Any]) -> str:
    """An answer of OKX, as its documentation shows them."""
    return json.dumps({"code": "0", "msg": "", "data": rows})


def okx_rate(at: int, rate: str, realized: str) -> dict[str, str]:
    where = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "method": "current_period", "formulaType": "withRate"}
    return {**where, "fundingRate": rate, "realizedRate": realized, "fundingTime": str(at)}


def test_funding_rates_and_open_interest_of_bybit_are_read_as_its_rest_interface_answers(tmp_path: Path) -> None:
    rate = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(START + HOUR)}
    earlier = {"symbol": "BTCUSDT", "fundingRate": "-0.0002", "fundingRateTimestamp": str(START)}
    (tmp_path / "rates.json").write_text(bybit([rate, earlier]))
    interest = {"openInterest": "461134.384", "timestamp": str(START + 300_000)}
    (tmp_path / "interest.json").write_text(bybit([interest], symbol="BTCUSDT", nextPageCursor=""))
    assert events(tmp_path) == [
        FundingPublished(at=START, rate=-0.0002, **WHERE),
        OpenInterestSampled(at=START + 300_000, amount=461134.384, **WHERE),
        FundingPublished(at=START + HOUR, rate=0.0001, **WHERE),
    ]


def test_of_okx_the_rate_that_was_settled_is_read_and_the_open_interest_in_contracts(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(okx([okx_rate(START, "0.00018", "0.00017")]))
    sample = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "oi": "2125419", "oiCcy": "21254.19", "oiUsd": "5"}
    (tmp_path / "interest.json").write_text(okx([{**sample, "ts": str(START + 969)}]))
    where: dict[str, Any] = {"symbol": "BTC-USDT-SWAP", "origin": "replay"}
    assert events(tmp_path) == [
        FundingPublished(at=START, rate=0.00017, **where),
        OpenInterestSampled(at=START + 969, amount=2125419.0, **where),
    ]


@pytest.mark.parametrize(("folder", "field"), [("markPriceKlines", "mark"), ("indexPriceKlines", "index")])
def test_candles_of_bybit_and_okx_are_told_by_their_folder_and_open_ones_are_refused(
    tmp_path: Path, folder: str, field: str
) -> None:
    inner = tmp_path / folder
    inner.mkdir()
    rows = [[str(START + n * HOUR), "10", "12", "9", f"{n + 11}.5"] for n in (2, 1, 0)]
    (inner / "BTCUSDT-1h.json").write_text(bybit(rows, symbol="BTCUSDT"))
    confirmed = [[*row, "0" if row is rows[0] else "1"] for row in rows]
    (inner / "BTC-USDT-SWAP-1h.json").write_text(okx(confirmed))
    for symbol in ("BTCUSDT", "BTC-USDT-SWAP"):
        found = [event for event in events(tmp_path) if event.symbol == symbol]
        prices: list[dict[str, Any]] = [{field: n + 11.5, "at": START + (n + 1) * HOUR} for n in (0, 1)]
        assert found == [PriceSampled(symbol=symbol, origin="replay", **each) for each in prices]
    assert {row.detail for row in refused(tmp_path)} == {"incomplete candle: it was still open"}
    assert len(refused(tmp_path)) == 2


OF_BYBIT = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(START)}
REFUSED_BY_BYBIT = json.dumps({**json.loads(bybit([OF_BYBIT])), "retCode": 10006, "retMsg": "Too many visits!"})
HOURLY = [[str(START + n * HOUR), *"1111", "1"] for n in range(9)]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (
            "a.json",
            okx([{"instId": "A", "fundingRate": "1", "fundingTime": "1"}]),
            "rows with fundingTime, re",
        ),
        ("a.json", bybit([{"symbol": "BTCUSDT", "openInterest": "5"}]), "answer of Bybit without inputs that are read"),
        ("a.json", bybit([{"openInterest": "5", "timestamp": str(START)}]), "no symbol; state the symbol"),
        ("a.json", okx([["1", "2", "3", "4"]]), "of 6 cells, are read from a folder markPriceKlines"),
        ("markPriceKlines/a.json", okx([[str(START), "1", "1", "1", "1", "1"]]), "name the file like"),
        ("markPriceKlines/A-1h.json", okx([[str(START), *"111111"]]), "of 6 cells, are read from a folder"),
        ("markPriceKlines/A-1h.json", bybit([[str(START), *"1111"]]).replace("time", "now"), "not known"),
        ("a.json", okx([]), "OKX answered with an empty list.*ask again for another symbol or other times"),
        ("a.json", bybit([OF_BYBIT]) + "\n" + bybit([OF_BYBIT]), "save each answer as a file of its own"),
        ("a.json", REFUSED_BY_BYBIT, "Bybit answered with an error, retCode 10006: 'Too many visits!'; expected"),
        ("a.json", '{"code": "50011", "msg": "Too Many Requests"}', "OKX answered with an error, code 50011: 'Too M"),
        ("markPriceKlines/A-15m.json", okx(HOURLY), "candles of 15m, as the name states, but they are 1h apart"),
        ("markPriceKlines/A-4h.json", okx(HOURLY), "candles of 4h, as the name states, but they are 1h apart"),
        ("a.json", "{}", "holds no rows of inputs; expected the answer"),
        ("a.json", "[1]", "holds no rows of inputs"),
        ("a.json", '{"code": ', "cannot be read as JSON"),
    ],
)
def test_an_answer_that_leaves_doubt_is_refused_with_what_was_expected(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(SourceError, match=why):
        events(tmp_path)


def test_a_row_of_an_answer_that_cannot_be_read_is_refused_and_others_are_not(tmp_path: Path) -> None:
    rows = [okx_rate(START, "1", "x"), {"instId": "A"}, okx_rate(START, "1", "11"), okx_rate(START, "1", "0.1")]
    (tmp_path / "rates.json").write_text(okx(rows))
    assert [event.rate for event in events(tmp_path)] == [0.1]
    assert sorted(row.where.rpartition(":")[2] for row in refused(tmp_path)) == ["1", "2", "3"]


def test_a_row_is_refused_with_its_field_and_a_symbol_is_not_made_up(tmp_path: Path) -> None:
    rows = [{**OF_BYBIT, "fundingRate": "abc"}, *({**OF_BYBIT, "symbol": each} for each in (None, 5))]
    (tmp_path / "rates.json").write_text(bybit(rows))
    (tmp_path / "interest.json").write_text(bybit([{"openInterest": "-1", "timestamp": str(START)}], symbol="BTCUSDT"))
    assert events(tmp_path) == []
    assert [row.detail for row in sorted(refused(tmp_path), key=lambda row: row.where)] == [
        "amount is -1.0: Expected `float` >= 0.0",
        "funding_rate is 'abc', expected a number",
        "symbol is null, expected a symbol",
        "symbol is 5, expected a symbol",
    ]


def test_inputs_of_symbols_without_bars_are_noted(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(bybit([OF_BYBIT, {**OF_BYBIT, "symbol": "ETHUSDT"}]))
    found = check_inputs(open_inputs(tmp_path), {"BTCUSDT"})
    assert (found.unused, found.clean) == (("ETHUSDT",), False)
