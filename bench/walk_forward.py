"""Train families walk forward on real bars and keep their probabilities for rows that no fit has seen.

Each fold of each family is trained once and written to a file, so that pools and policies are compared on the same rows
without another fit, and an interrupted run goes on where it ended. ``bench.skill`` compares.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.training import Recipe
from shared.artifacts.calibration import probabilities
from shared.artifacts.scoring import shares
from shared.bars import Bars, gather, open_source
from shared.families import complete, family_named
from shared.families.libraries import library
from shared.features import SETS, FeatureSet
from shared.labels.batch import classes, kappa_for
from shared.labels.parts import HOLD as HOLD_CLASS
from shared.training.fitting import HOLD, HORIZON, Prepared, fit, logits_of
from shared.training.scaling import calibrate
from shared.training.series import Table, assemble, computed
from shared.training.splits import Parts, walk_forward

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS: Final = 6
SEED: Final = 1
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "LINKUSDT", "DOTUSDT")
INTERVALS: Final = {"1h": 3_600_000, "15m": 900_000}
TREES: Final = "core-28"
NETWORKS: Final = {"1h": "window-1h-12", "15m": "window-15m-11"}
WINDOW: Final = 64
KEPT: Final = Path(__file__).parent / "out" / "skill"


class Effort(NamedTuple):
    """How much a fit costs. ``every``: one of so many training rows of trees and linear models is used;
    ``network_every``: of networks. ``params``: parameters that differ from the defaults, by family."""

    every: int
    network_every: int
    params: Mapping[str, Mapping[str, float]]


SMALL: Final = {"mixed": 1, "width": 32, "feedforward": 64}
"""PatchTST with all features in one token, at a tenth of the time."""
WHOLE: Final = Effort(1, 1, {"nhits": {"seeds": 3}, "patchtst": {**SMALL, "seeds": 3}})
QUICK: Final = Effort(6, 12, {"nhits": {"epochs": 3}, "patchtst": {**SMALL, "epochs": 3}})
FAMILIES: Final = ("logistic", "xgboost", "lightgbm", "nhits", "patchtst")
LIBRARIES: Final = ("library logistic", "library lightgbm")
"""scikit-learn and LightGBM as they come, on the same rows: the baselines of the ensemble."""


class Data(NamedTuple):
    """The labelled windows of all symbols of one interval: ``newest`` of one vector, ``windows`` of many, row by row of
    the same bars, of the sets ``trees`` and ``networks``. ``forward`` [N] is the plain return over the horizon."""

    newest: Table
    windows: Table
    forward: Floats
    digest: str
    trees: FeatureSet
    networks: FeatureSet


class Answers(NamedTuple):
    """The probabilities of one family in one fold: ``p`` [N, 3] for the test rows, the mean of p and of log p over the
    calibration part, and the class shares there."""

    p: Floats
    mean: Floats
    mean_log: Floats
    came: Floats


class Fold(NamedTuple):
    """The rows of one test part: open times, symbols, classes, plain returns, number of the fold, the mean return of a
    move in the calibration part; and the class prior of training."""

    time: Ints
    symbol: Ints
    y: Ints
    forward: Floats
    fold: Ints
    reach: Floats
    prior: Floats
    answers: Mapping[str, Answers]


def read(folder: Path, interval: str, symbols: tuple[str, ...] = SYMBOLS) -> dict[str, Bars]:
    """Return the bars of the symbols' files in a folder."""
    bars: dict[str, Bars] = {}
    for symbol in symbols:
        files = sorted(folder.rglob(f"{symbol}-{interval}.*csv*"))
        if not files:
            raise FileNotFoundError(f"no file {symbol}-{interval}.*.csv.gz in {folder} or below it")
        found = gather(open_source(files[-1]).rows(), None)
        bars |= {name: columns for (name, _), columns in found.items()}
    return bars


def load(folder: Path, interval: str, symbols: tuple[str, ...] = SYMBOLS) -> Data:
    """Return the labelled windows of the symbols' files in a folder, of the sets of the comparison of pools."""
    [data] = tables(read(folder, interval, symbols), INTERVALS[interval], [(SETS[TREES], SETS[NETWORKS[interval]])])
    return data


def tables(bars: Mapping[str, Bars], interval_ms: int, pairs: Sequence[tuple[FeatureSet, FeatureSet]]) -> list[Data]:
    """Return the labelled windows of pairs of sets (of trees and linear models, of networks): the same rows of each."""
    made: dict[tuple[str, int], Table] = {}
    for pair in pairs:
        for chosen, length in zip(pair, (1, WINDOW), strict=True):
            if (chosen.name, length) not in made:
                series = computed(bars, chosen, 3)
                made[chosen.name, length] = assemble(series, length, interval_ms=interval_ms, horizon=HORIZON)
    common = reduce(np.intersect1d, [places(table.time, table.symbol) for table in made.values()])
    for name, table in made.items():
        made[name] = table.at(np.flatnonzero(np.isin(places(table.time, table.symbol), common, assume_unique=True)))
    return [_data(bars, trees, networks, made[trees.name, 1], made[networks.name, WINDOW]) for trees, networks in pairs]


def _data(bars: Mapping[str, Bars], trees: FeatureSet, networks: FeatureSet, newest: Table, windows: Table) -> Data:
    forward = np.empty(len(newest.time))
    for number, symbol in enumerate(sorted(bars)):
        rows, columns = newest.symbol == number, bars[symbol]
        first, last = (np.searchsorted(columns.open_time, times[rows]) for times in (newest.time, newest.end))
        forward[rows] = columns.close[last] / columns.close[first] - 1.0
    digest = hashlib.sha256(b"".join(column.tobytes() for column in (newest.time, newest.symbol, newest.z)))
    return Data(newest, windows, forward, digest.hexdigest(), trees, networks)


def places(time: Ints, symbol: Ints) -> Ints:
    """Return the bars of rows as numbers, in the order of time and then of symbols; no two are equal."""
    return time * 64 + symbol


def folds(
    data: Data, interval: str, effort: Effort, families: tuple[str, ...], progress: Callable[[str], None]
) -> list[Fold]:
    """Return every fold with the answers of all families, trained here or read from the files of an earlier run."""
    interval_ms = INTERVALS[interval]
    table = data.newest
    parts = walk_forward(table.time, table.end, folds=FOLDS, embargo_ms=(WINDOW + HORIZON) * interval_ms)
    out = []
    for number, part in enumerate(parts):
        kappa = kappa_for(table.z[part.train], HOLD)
        y = classes(table.z, kappa)
        prior = shares(y[part.train])
        answers = {}
        for family in families:
            path = KEPT / f"{_key(data, family, interval, number, effort)}.npz"
            if not path.exists():
                progress(f"{interval} fold {number + 1} of {FOLDS}: {family}")
                path.parent.mkdir(parents=True, exist_ok=True)
                found = _answers(data, part, kappa, y, prior, family, interval_ms, effort)
                with path.open("wb") as file:
                    np.savez_compressed(file, p=found.p, mean=found.mean, mean_log=found.mean_log, came=found.came)
            with np.load(path) as stored:
                answers[family] = Answers(*(stored[name] for name in Answers._fields))
        test = part.test
        moving = part.calibration[y[part.calibration] != HOLD_CLASS]
        own = np.full(len(test), number), np.full(len(test), np.abs(data.forward[moving]).mean())
        rows = (table.time[test], table.symbol[test], y[test], data.forward[test], *own)
        out.append(Fold(*rows, np.array(prior), answers))
    return out


def _key(data: Data, family: str, interval: str, fold: int, effort: Effort) -> str:
    network = family in effort.params
    every, chosen = (effort.network_every, data.networks) if network else (effort.every, data.trees)
    params = {} if family in LIBRARIES else complete(family_named(family), dict(effort.params.get(family, {})))
    what = [data.digest, family, chosen.digest.hex(), interval, fold, FOLDS, SEED, every, params]
    return f"{interval}-{fold}-{family.replace(' ', '-')}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]}"


def _answers(
    data: Data,
    part: Parts,
    kappa: float,
    y: Ints,
    prior: tuple[float, float, float],
    family: str,
    interval_ms: int,
    effort: Effort,
) -> Answers:
    held = part.calibration
    if family in LIBRARIES:
        p = _library(data.newest, part, y, family, effort)
    else:
        network = family in effort.params
        table, chosen = (data.windows, data.networks) if network else (data.newest, data.trees)
        params = complete(family_named(family), dict(effort.params.get(family, {})))
        prepared = Prepared(
            Recipe(family, chosen.name, params, HORIZON, HOLD, SEED),
            chosen,
            family_named(family),
            interval_ms,
            table.windows.shape[1],
            table,
            part._replace(train=part.train[:: effort.network_every if network else effort.every]),
            kappa,
            y,
            prior,
        )
        fitted = fit(prepared)
        before = logits_of(prepared, fitted, held)
        scaled = calibrate(before, y[held], table.time[held], table.end[held])
        logits = np.concatenate([before, logits_of(prepared, fitted, part.test)])
        p = probabilities(logits, scaled.temperature, scaled.vector)
    calibration, test = p[: len(held)], p[len(held) :]
    came = np.bincount(y[held], minlength=3) / len(held)
    return Answers(test, calibration.mean(axis=0), np.log(np.maximum(calibration, 1e-9)).mean(axis=0), came)


def _library(table: Table, part: Parts, y: Ints, family: str, effort: Effort) -> Floats:
    """Return the probabilities of a library's model for the calibration and the test part. It is fitted on the rows of
    training and validation."""
    rows = np.concatenate([part.train[:: effort.every], part.validation[:: effort.every]])
    x = table.windows[:, -1].astype(np.float64)
    wanted = np.concatenate([part.calibration, part.test])
    model: Any
    linear = library("sklearn.linear_model")  # first: LightGBM's wrapper needs it too, and is imported without it else
    if family == LIBRARIES[0]:
        mean, deviation = x[rows].mean(axis=0), np.maximum(x[rows].std(axis=0), 1e-12)
        x = np.clip((x - mean) / deviation, -8, 8)
        model = linear.LogisticRegression(max_iter=100, tol=1e-3)
    else:
        model = library("lightgbm").LGBMClassifier(
            n_estimators=200,
            learning_rate=0.03,
            num_leaves=15,
            min_child_samples=200,
            random_state=SEED,
            n_jobs=1,
            verbose=-1,
        )
    model.fit(x[rows], y[rows])
    return np.asarray(model.predict_proba(x[wanted]), dtype=np.float64)


def joined(parts: list[Fold]) -> Fold:
    """Return all folds as one, with the prior, the means and the shares repeated for each row."""

    def each(pick: Callable[[Fold], Floats]) -> Floats:
        return np.concatenate([np.tile(pick(fold), (len(fold.y), 1)) for fold in parts])

    def answers(name: str) -> Answers:
        return Answers(
            np.concatenate([fold.answers[name].p for fold in parts]),
            each(lambda fold: fold.answers[name].mean),
            each(lambda fold: fold.answers[name].mean_log),
            each(lambda fold: fold.answers[name].came),
        )

    columns = [np.concatenate([np.asarray(fold[at]) for fold in parts]) for at in range(6)]
    return Fold(
        columns[0],
        columns[1],
        columns[2],
        columns[3],
        columns[4],
        columns[5],
        each(lambda fold: fold.prior),
        {name: answers(name) for name in parts[0].answers},
    )
