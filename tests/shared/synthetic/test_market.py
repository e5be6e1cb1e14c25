"""The synthetic market is a source like any other: valid bars, one order, the same from any row on."""

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.market import BarClosed
from shared.bars import BarSource, Good, SourceError, gather, misplaced
from shared.bars.formats import FURTHER
from shared.synthetic import LEADER, SCENARIOS, START_MS, SYMBOLS, SyntheticMarket
from shared.synthetic.market import BLOCK, STATES
from shared.synthetic.theory import PERSISTENCE

MARKET = SyntheticMarket(seed=3, bars=BLOCK + 40)
ROWS = list(MARKET.rows())
RECORDED = [
    ("SYN1", 1704277200000, 101.336029, 102.150675, 101.336029, 102.150675, 403.75942),
    ("SYN2", 1704277200000, 103.85159, 104.204667, 103.85159, 103.908552, 203.85332),
]


def test_every_bar_is_one_that_readers_accept() -> None:
    for row in ROWS:
        assert isinstance(row, Good)
        bar = row.bar
        encode("market", bar)
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.volume > 0
        assert bar.origin == "synthetic"
    assert len({row.where for row in ROWS}) == len(ROWS)


def test_bars_come_in_the_order_of_close_and_symbol_without_a_gap() -> None:
    source: BarSource = MARKET
    order = [(row.bar.open_time, row.bar.symbol) for row in source.rows() if isinstance(row, Good)]
    times = [START_MS + n * 300_000 for n in range(BLOCK + 40)]
    assert order == [(time, symbol) for time in times for symbol in SYMBOLS]


def test_a_bar_opens_where_the_one_before_it_closed() -> None:
    for bars in gather(ROWS).values():
        np.testing.assert_array_equal(bars.open[1:], bars.close[:-1])


def test_columns_are_the_rows() -> None:
    loaded, gathered = MARKET.load(), gather(ROWS)
    assert loaded.keys() == gathered.keys() == set(MARKET.series)
    for series, bars in loaded.items():
        for field in ("open_time", "open", "high", "low", "close", "volume"):
            np.testing.assert_array_equal(getattr(bars, field), getattr(gathered[series], field))


@settings(max_examples=15)
@given(st.integers(0, len(ROWS) + 3))
def test_the_market_goes_on_behind_any_row(skip: int) -> None:
    assert list(MARKET.rows(skip)) == ROWS[skip:]


def test_a_symbol_does_not_depend_on_its_neighbours_or_on_the_end() -> None:
    endless = SyntheticMarket(("SYN3",), seed=3).rows()
    alone = [row.bar for row in islice(endless, BLOCK + 40) if isinstance(row, Good)]
    assert alone == [row.bar for row in ROWS if isinstance(row, Good) and row.bar.symbol == "SYN3"]


def test_seed_scenario_and_symbol_each_make_another_market() -> None:
    def closes(scenario: str, seed: int, symbol: str) -> tuple[float, ...]:
        market = SyntheticMarket((symbol,), scenario, seed, bars=5)
        return tuple(row.bar.close for row in market.rows() if isinstance(row, Good))

    markets = [closes(scenario, seed, symbol) for scenario in SCENARIOS for seed in (1, 2) for symbol in ("A", "B")]
    assert len(set(markets)) == len(markets) == 4 * len(SCENARIOS)


def test_identity_is_of_the_law_not_of_the_length() -> None:
    identity = SyntheticMarket().identity
    assert SyntheticMarket(bars=10).identity == identity
    assert SyntheticMarket(SYMBOLS[::-1]).identity == identity
    others = [
        SyntheticMarket(seed=2),
        SyntheticMarket(scenario="null"),
        SyntheticMarket(("SYN1",)),
        SyntheticMarket(interval_ms=60_000),
    ]
    assert len({identity, *(other.identity for other in others)}) == 5


def test_bars_show_the_hidden_returns() -> None:
    bars = MARKET.load()["SYN2", 300_000]
    truth = MARKET.truth("SYN2", len(bars))
    np.testing.assert_allclose(np.log(bars.close / bars.open), truth.z * truth.sigma, atol=1e-7)


def test_volatility_has_three_states_under_a_daily_season() -> None:
    truth = SyntheticMarket().truth("SYN1", 20_000)
    season = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(20_000) % 288) / 288)
    levels, counts = np.unique((truth.sigma / season).round(10), return_counts=True)
    assert levels.tolist() == [level for level, _ in STATES]
    assert counts.min() > 500


@pytest.mark.parametrize("scenario", ["flow", "flow-null"])
def test_takers_show_the_hidden_signal_to_the_last_digits_of_the_volume(scenario: str) -> None:
    market = SyntheticMarket(scenario=scenario, bars=BLOCK + 40)
    bars, truth = market.load()["SYN2", 300_000], market.truth("SYN2", BLOCK + 40)
    assert bars.taker_volume is not None
    np.testing.assert_allclose(bars.taker_volume / bars.volume, 0.5 + truth.u / 10, atol=1e-4)
    gathered = gather(market.rows())["SYN2", 300_000]
    for field in FURTHER:
        np.testing.assert_array_equal(getattr(bars, field), getattr(gathered, field))
    assert all(getattr(MARKET.load()["SYN2", 300_000], field) is None for field in FURTHER)


def test_order_flow_predicts_returns_only_where_it_is_planted() -> None:
    for scenario, beta in (("flow", 0.15), ("flow-null", 0.0)):
        truth = SyntheticMarket(scenario=scenario).truth("SYN1", 40_000)
        slope = float(truth.u[:-1] @ truth.z[1:] / (truth.u[:-1] @ truth.u[:-1]))
        assert abs(slope - beta) < 4 / np.sqrt(40_000)


def test_the_leader_predicts_returns_of_the_others_only_where_that_is_planted_and_shows_the_hidden_signal() -> None:
    for scenario, beta in (("lead", 0.15), ("lead-null", 0.0)):
        market = SyntheticMarket(scenario=scenario)
        leader, other = market.truth(LEADER, 40_000), market.truth("SYN3", 40_000)
        shown = other.u[1:] - PERSISTENCE * other.u[:-1]
        np.testing.assert_allclose(shown, math.sqrt(1 - PERSISTENCE**2) * leader.z[1:], atol=1e-9)
        for truth, expected in ((other, beta), (leader, 0.0)):
            slope = float(other.u[:-1] @ truth.z[1:] / (other.u[:-1] @ other.u[:-1]))
            assert abs(slope - expected) < 4 / np.sqrt(40_000)
        assert abs(np.corrcoef(leader.z, other.z)[0, 1]) < 4 / np.sqrt(40_000)


def test_the_leader_need_not_be_among_the_symbols() -> None:
    both, alone = (SyntheticMarket(symbols, "lead", bars=BLOCK + 40) for symbols in ((LEADER, "SYN3"), ("SYN3",)))
    np.testing.assert_array_equal(both.load()["SYN3", 300_000].close, alone.load()["SYN3", 300_000].close)


def test_innovations_correlate_across_symbols() -> None:
    market = SyntheticMarket(scenario="null")
    first, second = (market.truth(symbol, 40_000).z for symbol in ("SYN1", "SYN2"))
    assert abs(np.corrcoef(first, second)[0, 1] - 0.3) < 4 * (1 - 0.09) / 200
    assert abs(first.std() - 1) < 4 / np.sqrt(80_000)


def test_the_market_of_a_seed_stays_the_same() -> None:
    """Recorded. If it changes, artifacts and figures made on the synthetic market are of another one."""
    rows = [row.bar for row in islice(SyntheticMarket(seed=1).rows(4 * 700), 2) if isinstance(row, Good)]
    found = [(bar.symbol, bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in rows]
    assert found == RECORDED


def test_rows_hold_their_place() -> None:
    last: dict[str, BarClosed] = {}
    for row in ROWS:
        assert isinstance(row, Good)
        assert misplaced(last.get(row.bar.symbol), row.bar) is None
        last[row.bar.symbol] = row.bar


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"scenario": "bull"},
            "no synthetic scenario 'bull'; expected one of null, medium, sequence, flow, flow-null, lead",
        ),
        ({"symbols": ()}, "one or more different symbols"),
        ({"symbols": ("A", "A")}, "one or more different symbols"),
        ({"symbols": ("A B",)}, "one or more different symbols"),
        ({"interval_ms": 7 * 60_000}, "a divisor of a day"),
        ({"seed": -1}, "expected 0 or more"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        SyntheticMarket(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_an_endless_market_is_not_loaded() -> None:
    with pytest.raises(SourceError, match="has no end"):
        SyntheticMarket().load()
