"""All four families trained at their default sizes: time, memory, what they find, and that they find nothing in leaks.

    python -m bench retrain [BTCUSDT-15m.csv.gz ETHUSDT-15m.csv.gz] [--quick]

Each training is a process of its own, lowered as the trainer's are; its peak is what was resident at most. With
files the data are their bars, without a synthetic market of as many. Beside each: the same with labels moved by a
third of the table, in which nothing can be found. On the synthetic market the gain is held against that of the
exact posterior on the same rows: the best that anybody could do.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.harness import Figure
from schemas.training import Recipe
from services.trainer.isolation import isolate, peak_mb
from shared.bars import Bars, gather, open_source
from shared.families import complete, family_named
from shared.features import SETS
from shared.labels import volatility
from shared.scoring import log_losses
from shared.synthetic import SCENARIOS, SyntheticMarket
from shared.synthetic.theory import posterior
from shared.training.fitting import HOLD, HORIZON, Origin, Prepared, cut, fit, measure, prepare
from shared.training.series import Series, computed

FAMILIES = ("xgboost", "lightgbm", "nhits", "patchtst")
SET = SETS["core-28"]
ROWS = 23_500
SYMBOLS = ("SYN1", "SYN2")
MNAT = 1000.0
NOISE = 3.0
"""Gains of moved labels under this are noise (mnat)."""


class Done(NamedTuple):
    """A training: seconds, peak memory (MB), skill in mnat with its interval, rows; of the best there is (share)."""

    seconds: float
    peak: float
    skill: tuple[float, float, float]
    rows: int
    share: float


def recipe(family: str, quick: bool) -> Recipe:
    params = complete(family_named(family), {"epochs": 1} if quick and family in {"nhits", "patchtst"} else {})
    return Recipe(family, SET.name, params, HORIZON, HOLD, 1)


def series_of(files: list[str], rows: int) -> dict[str, Series]:
    bars: dict[str, Bars] = {}
    for file in files:
        found = gather(open_source(Path(file)).rows(), None)
        bars |= {symbol: columns for (symbol, _), columns in found.items()}
    if not files:
        bars = {
            symbol: columns for (symbol, _), columns in SyntheticMarket(SYMBOLS, "sequence", 3, rows).load().items()
        }
    return computed(bars, SET, 3)


def train(family: str, files: list[str], rows: int, quick: bool) -> Done:
    """One family, in this process."""
    import time

    isolate(8192)
    begun = time.monotonic()
    series = series_of(files, rows)
    prepared = prepare(series, SET, recipe(family, quick))
    trained = measure(prepared, fit(prepared), Origin("bench", 3, series))
    seconds = time.monotonic() - begun
    scores = trained.manifest.metrics.test
    share = 0.0 if files else scores.skill.value / best(prepared, rows)
    skill = (scores.skill.value, scores.skill.low, scores.skill.high)
    return Done(seconds, peak_mb(), skill, len(prepared.table.time), share)


def leak(family: str, files: list[str], rows: int, quick: bool) -> Done:
    """The same with labels moved by a third of the table: skill there is a leak."""
    from shared.scoring import score
    from shared.training.fitting import uncalibrated

    isolate(8192)
    series = series_of(files, rows)
    whole = prepare(series, SET, recipe(family, quick))
    moved = whole.table._replace(z=np.roll(whole.table.z, len(whole.table.z) // 3))
    prepared = cut(moved, SET, whole.recipe, whole.interval_ms)
    test = prepared.parts.test
    answers = uncalibrated(prepared, fit(prepared), test)
    found = score(answers, prepared.y[test], prepared.table.time[test], prepared.prior, horizon=HORIZON)
    return Done(0.0, peak_mb(), (found.skill.value, found.skill.low, found.skill.high), len(test), 0.0)


def best(prepared: Prepared, rows: int) -> float:
    """What the exact posterior gains over the prior on the test part (mnat). The label is cut by the volatility
    that is known from bars, the posterior knows the true one: its threshold is scaled by the two."""
    market = SyntheticMarket(SYMBOLS, "sequence", 3, rows)
    bars = {symbol: columns for (symbol, _), columns in market.load().items()}
    test, table = prepared.parts.test, prepared.table
    answers = np.empty((len(test), 3))
    for number, symbol in enumerate(sorted(SYMBOLS)):
        truth, columns = market.truth(symbol, rows), bars[symbol]
        known = volatility(columns.open_time, columns.close, prepared.interval_ms)
        kappa = prepared.kappa * np.sqrt(HORIZON) * known / truth.sigma
        chances = posterior(truth.z, SCENARIOS["sequence"], HORIZON, kappa)
        of_symbol = table.symbol[test] == number
        at = np.searchsorted(columns.open_time, table.time[test[of_symbol]])
        answers[of_symbol] = chances[at]
    y = prepared.y[test]
    base = np.tile(np.array(prepared.prior), (len(y), 1))
    return float(MNAT * (log_losses(base, y) - log_losses(answers, y)).mean())


def apart(
    work: Callable[[str, list[str], int, bool], Done], family: str, files: list[str], rows: int, quick: bool
) -> Done:
    """In a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, family, files, rows, quick).result()


def run(quick: bool, *bars: str) -> dict[str, Figure]:
    """See the module."""
    files = list(bars)
    rows = 4_000 if quick else ROWS
    figures: dict[str, Figure] = {}
    for family in FAMILIES:
        found = apart(train, family, files, rows, quick)
        value, low, high = found.skill
        said = f"{found.rows:,} rows, skill {value:+.1f} [{low:+.1f}, {high:+.1f}] mnat"
        figures[f"{family}_seconds"] = Figure(found.seconds, "s", "< 600", said)
        figures[f"{family}_peak"] = Figure(found.peak, "MB", "", said)
        figures[f"{family}_skill"] = Figure(value, "mnat", "", f"95 %: {low:+.1f} to {high:+.1f}")
        if not files:
            figures[f"{family}_of_the_best"] = Figure(found.share, "", ">= 0.9", "the exact posterior on the same rows")
    for family in FAMILIES[: 2 if quick else 4]:
        value, low, high = apart(leak, family, files, rows, quick).skill
        said = f"skill {value:+.1f} [{low:+.1f}, {high:+.1f}] mnat: the lower end"
        figures[f"{family}_labels_moved"] = Figure(low, "mnat", f"< {NOISE:g}", said)
    return figures
