"""Fit one artifact on labelled windows: purged parts in time order, fit, calibration, scores and checks.

A model is refused here, before anything is stored, if its predictions do not depend on its input, or if its log loss is
above 1.5 times that of the class prior. Everything else is reported next to the class prior, and judged by the gates.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType, structs
from numpy.typing import NDArray

from schemas.common import ACTIONS, Probabilities
from schemas.training import Imbalance, Recipe, Rejection
from shared.artifacts.artifact import GOLDEN_ROWS, Artifact, Golden, golden_bytes
from shared.artifacts.calibration import UNCALIBRATED, Calibration, VectorScaling, error, probabilities
from shared.artifacts.checks import check_model
from shared.artifacts.manifest import (
    FORMAT,
    GOLDEN,
    CalibrationMetrics,
    FeatureSetRef,
    ImportedFrom,
    Manifest,
    Metrics,
    Scaler,
    TrainingData,
    processor,
)
from shared.artifacts.scoring import DISTINCT_AT_LEAST, Scores, log_losses, score, shares, spread
from shared.bars import Bars
from shared.families import Family, Fitted, Params, Sample, Watch, Windows, complete, family_named
from shared.families.base import shifted
from shared.families.libraries import Library, library
from shared.families.windows import CutWindows
from shared.features import BRIDGE, FeatureSet
from shared.gates import backtest
from shared.labels.batch import DECAY, LabelSpec, classes, kappa_for
from shared.labels.parts import HOLD as HOLD_CLASS
from shared.training.imbalance import fitting_offset, offset, weights
from shared.training.scaling import calibrate
from shared.training.series import (
    SymbolSeries,
    Table,
    assemble,
    computed,
    digest_of_bars,
    digest_of_vectors,
    one_interval,
    require_rows,
    returns_of,
)
from shared.training.splits import Parts, require_all_classes, split

HORIZON: Final = 12
HOLD: Final = 0.55
LIMIT: Final = 8.0
DIVERGED: Final = 1.5
GOLDEN_SYMBOLS: Final = 4
NEEDED: Final[tuple[Library, ...]] = ("scipy.optimize", "sklearn.linear_model")
"""Libraries of calibration and of the logistic baseline, which follow a fit that may take hours."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Trained(NamedTuple):
    """The arguments of ``ArtifactStore.save``."""

    manifest: Manifest
    files: dict[str, bytes]


class Given(NamedTuple):
    """A model that was trained elsewhere: the family's model, its scaler, and its source."""

    model: Any
    scaler: Scaler
    source: ImportedFrom


class NotStoredError(ValueError):
    """The model must not be stored. Holds the reason by name, and the artifact that was refused."""

    def __init__(self, message: str, *, reason: Rejection, trained: Trained) -> None:
        super().__init__(message)
        self.reason: Rejection = reason
        self.trained = trained


def train(
    bars: Mapping[str, Bars],
    family: str,
    feature_set: FeatureSet,
    *,
    source: str,
    bridge: int = BRIDGE,
    horizon: int = HORIZON,
    hold: float = HOLD,
    seed: int = 1,
    params: Params | None = None,
    imbalance: Imbalance = "none",
    watch: Watch | None = None,
    given: Given | None = None,
) -> Trained:
    """Train ``family`` on the bars of one or more symbols.

    ``source``: where the bars are from, in words. ``bridge``: the longest gap in bars that the feature-builder fills.
    ``horizon``: bars of the label. ``hold``: the share of HOLD. ``watch``: called after each epoch; may end the fit.
    ``given``: a model from elsewhere, which is calibrated, scored and checked like one that was trained here.

    Deterministic for the same arguments, libraries and processor. Raises ``NotStoredError``, ``SplitError``,
    ``UnknownFamilyError``, ``LibraryMissingError``, and ``ValueError`` for bars of several intervals."""
    recipe = Recipe(
        family, feature_set.name, complete(family_named(family), params or {}), horizon, hold, seed, imbalance
    )
    series = computed(bars, feature_set, bridge)
    prepared = prepare(series, feature_set, recipe)
    origin = Origin(source, bridge, series)
    _require_all_classes(prepared)
    return measure(prepared, fit(prepared, watch) if given is None else Fitted(given.model, 0), origin, given)


class Origin(NamedTuple):
    """The origin of a data set: its source in words, its gap policy, and the series."""

    source: str
    bridge: int
    series: Mapping[str, SymbolSeries]


class Prepared(NamedTuple):
    """A data set prepared for a recipe: labelled windows, their parts, the classes ``y`` [N] with their threshold
    ``kappa``, and the class shares of the training part."""

    recipe: Recipe
    feature_set: FeatureSet
    family: Family
    interval_ms: int
    window: int
    table: Table
    parts: Parts
    kappa: float
    y: Ints
    prior: Probabilities


def _require_all_classes(prepared: Prepared) -> None:
    train = prepared.parts.train
    require_all_classes(prepared.y[train], prepared.table.time[train])


def prepare(series: Mapping[str, SymbolSeries], feature_set: FeatureSet, recipe: Recipe) -> Prepared:
    """Return windows, labels and parts of a data set. Raises ``SplitError``, ``UnknownFamilyError``, and ``ValueError``
    for bars of several intervals."""
    interval_ms = one_interval(series)
    window = family_named(recipe.family).window(recipe.params)
    table = assemble(series, window, interval_ms=interval_ms, horizon=recipe.horizon)
    require_rows(table, series, recipe.horizon)
    return cut(table, feature_set, recipe, interval_ms)


def cut(table: Table, feature_set: FeatureSet, recipe: Recipe, interval_ms: int) -> Prepared:
    """Return a table in parts in time order, with purge and embargo. ``kappa`` and prior depend on the training part
    alone."""
    window = table.windows.shape[1]
    parts = split(table.time, table.end, embargo_ms=(window + recipe.horizon) * interval_ms)
    kappa = kappa_for(table.z[parts.train], recipe.hold)
    y = classes(table.z, kappa)
    family = family_named(recipe.family)
    return Prepared(recipe, feature_set, family, interval_ms, window, table, parts, kappa, y, shares(y[parts.train]))


def fit(prepared: Prepared, watch: Watch | None = None) -> Fitted:
    """Fit on the training part; the validation part decides when to stop. A policy for imbalance affects training rows
    alone. Raises ``LibraryMissingError`` before the fit where a library of the fit or of the steps after it is not
    installed, and ``SplitError`` where the training part lacks a class."""
    _require_all_classes(prepared)
    if not prepared.family.constant:  # a constant is neither calibrated nor compared with the logistic baseline
        for name in NEEDED:
            library(name)
    recipe, parts, y, prior = prepared.recipe, prepared.parts, prepared.y, prepared.prior
    x = _inputs(prepared, _scaler_of(prepared))
    policy = recipe.imbalance
    # All labels have the same length, so all rows are equally unique and have the same weight.
    train, held = parts.train, parts.validation
    weight, ahead = weights(policy, y[train], prior), prepared.table.ahead[train]
    learned = Sample(_sampled(x, train), y[train], weight, fitting_offset(policy, prior), ahead)
    watched = Sample(_sampled(x, held), y[held], np.ones(len(held)), offset(policy, prior))
    return prepared.family.fit(learned, watched, recipe.seed, recipe.params, watch)


def uncalibrated(prepared: Prepared, fitted: Fitted, rows: NDArray[np.intp]) -> Floats:
    """Return the uncalibrated probabilities [N, 3] of a fitted model for ``rows``."""
    return probabilities(logits_of(prepared, fitted, rows), 1.0)


def logits_of(prepared: Prepared, fitted: Fitted, rows: NDArray[np.intp]) -> Floats:
    """Return the logits [N, 3] of a fitted model for ``rows``, before any calibration."""
    x = _inputs(prepared, _scaler_of(prepared)).of(rows)
    return shifted(x.each(fitted.model.logits), offset(prepared.recipe.imbalance, prepared.prior))


def measure(prepared: Prepared, fitted: Fitted, origin: Origin, given: Given | None = None) -> Trained:
    """Calibrate a fitted model, score it on the untouched test part and check it; return the artifact. Raises
    ``NotStoredError``, which holds the refused artifact."""
    recipe, kind, parts, y, table = prepared.recipe, prepared.family, prepared.parts, prepared.y, prepared.table
    scaler = _scaler_of(prepared) if given is None else given.scaler
    x = _inputs(prepared, scaler)
    files = kind.save(fitted.model)
    model = kind.load(files, x.shape[2], recipe.params)
    start = offset(recipe.imbalance, prepared.prior)

    def logits(rows: NDArray[np.intp]) -> Floats:
        return x.of(rows).each(model.logits)

    held = parts.calibration
    # A constant is not calibrated: a temperature would only give another constant.
    calibration = (
        UNCALIBRATED
        if kind.constant
        else calibrate(shifted(logits(held), start), y[held], table.time[held], table.end[held])
    )
    effect = effect_of(calibration, shifted(logits(parts.test), start), y[parts.test])
    served = _served(calibration, start)

    def served_probabilities(rows: NDArray[np.intp]) -> Floats:
        return probabilities(logits(rows), served.temperature, served.vector)

    def scored(rows: NDArray[np.intp]) -> Scores:
        seed, horizon = recipe.seed, recipe.horizon
        p = served_probabilities(rows)
        return score(p, y[rows], table.time[rows], prepared.prior, horizon=horizon, seed=seed)

    over_held = served_probabilities(held)
    centre = np.log(over_held).mean(axis=0).tolist()
    metrics = Metrics(
        test=scored(parts.test),
        validation=scored(parts.validation),
        rows={name: len(rows) for name, rows in parts._asdict().items()},
        steps=fitted.steps,
        fitted_temperature=calibration.fitted,
        calibration=effect,
    )
    feature_set = prepared.feature_set
    manifest = Manifest(
        format=FORMAT,
        family=recipe.family,
        params=dict(recipe.params),
        feature_set=FeatureSetRef(feature_set.name, feature_set.digest.hex(), feature_set.names),
        interval_ms=prepared.interval_ms,
        window=prepared.window,
        classes=ACTIONS,
        scaler=scaler,
        temperature=served.temperature,
        centre=(centre[0], centre[1], centre[2]),
        prior=prepared.prior,
        label=LabelSpec("vfh1", recipe.horizon, DECAY, recipe.hold, prepared.kappa),
        data=_data(origin, table),
        metrics=metrics,
        seed=recipe.seed,
        libraries=kind.libraries(),
        processor=processor(),
        vector=served.vector,
        trained_with=dict(fitted.libraries),
        imported=None if given is None else given.source,
        imbalance=recipe.imbalance,
        spread=spread(over_held),
        reach=_reach(prepared, origin),
    )
    refuse(kind, metrics, Trained(manifest, files))
    chosen = _golden_rows(table.time, parts.test)
    windows = table.windows[chosen]
    artifact = Artifact("in training", manifest, model)

    def predict(windows: NDArray[np.float32] | CutWindows) -> Floats:
        return windows.each(artifact.predict) if isinstance(windows, CutWindows) else artifact.predict(windows)

    seen = backtest.measure(
        predict,
        table.windows[parts.train, -1],
        table.time[parts.train],
        table.windows.of(parts.test),
        y[parts.test],
        table.time[parts.test],
        prepared.prior,
        horizon=recipe.horizon,
        interval_ms=prepared.interval_ms,
        calendar=[number for number, feature in enumerate(feature_set.features) if feature.calendar],
    )
    golden = Golden(windows, predict(windows), table.time[chosen])
    manifest = structs.replace(manifest, backtest=seen)
    trained = Trained(manifest, {**files, GOLDEN: golden_bytes(golden)})
    report = check_model(Artifact("in training", manifest, model), golden, files)
    if report.failed:
        raise NotStoredError(
            f"it fails checks that every model must pass: {report}", reason="failed_checks", trained=trained
        )
    return trained


def _served(calibration: Calibration, start: Floats | None) -> Calibration:
    """Return the calibration of a model's own logits, given one that was fitted on logits with ``start`` added."""
    if start is None:
        return calibration
    known = calibration.vector or VectorScaling((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    bias = (np.array(known.scale) * start + np.array(known.bias)).tolist()
    return calibration._replace(vector=VectorScaling(known.scale, (bias[0], bias[1], bias[2])))


def effect_of(calibration: Calibration, logits: Floats, y: Ints) -> CalibrationMetrics | None:
    """Return the effect of a calibration on the log loss: on the held-out rows, which chose it or refused it, and on
    the test part, which decides nothing. None if none was tried."""
    if math.isnan(calibration.loss_with):
        return None
    tried = calibration if calibration.method != "none" else calibration._replace(temperature=calibration.fitted)
    before, after = probabilities(logits, 1.0), probabilities(logits, tried.temperature, tried.vector)
    test_before, test_after = (float(log_losses(p, y).mean()) for p in (before, after))
    return CalibrationMetrics(
        method=calibration.method,
        tried="vector" if tried.vector is not None else "temperature",
        held_before=calibration.loss_without,
        held_after=calibration.loss_with,
        test_before=test_before,
        test_after=test_after,
        error_before=error(before, y),
        error_after=error(after, y),
    )


def refuse(family: Family, metrics: Metrics, trained: Trained) -> None:
    """Raise ``NotStoredError`` for a model that must not be stored."""
    test = metrics.test
    if test.log_loss > DIVERGED * test.prior_log_loss:
        raise NotStoredError(
            f"diverged: log loss {test.log_loss:.4f} on the test part, the class prior has {test.prior_log_loss:.4f}",
            reason="diverged",
            trained=trained,
        )
    if not family.constant and test.distinct < DISTINCT_AT_LEAST:
        raise NotStoredError(
            f"collapsed: {test.distinct} distinct predictions (to 1e-3) over {test.rows} test rows, at least "
            f"{DISTINCT_AT_LEAST} are expected; it predicts about the same for every input. Skill "
            f"{test.skill.value:+.1f} mnat [{test.skill.low:+.1f}, {test.skill.high:+.1f}], stopped after "
            f"{metrics.steps} steps: these features have no more information about this label",
            reason="collapsed",
            trained=trained,
        )


def _reach(prepared: Prepared, origin: Origin) -> float | UnsetType:
    """Return the mean absolute return of the moving rows of the calibration part."""
    rows = prepared.parts.calibration
    moving = rows[prepared.y[rows] != HOLD_CLASS]
    if not len(moving):
        return UNSET
    return float(np.abs(returns_of(prepared.table, origin.series, moving)).mean())


def _golden_rows(time: Ints, test: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return rows at times spread over the test part, with up to ``GOLDEN_SYMBOLS`` symbols at each time."""
    moments = np.unique(time[test])
    most = max(1, min(GOLDEN_SYMBOLS, int(np.ceil(len(test) / len(moments)))))
    at = moments[np.linspace(0, len(moments) - 1, min(GOLDEN_ROWS // most, len(moments))).astype(int)]
    rows = [test[time[test] == moment][:most] for moment in at]
    return np.concatenate(rows)


def _scaler_of(prepared: Prepared) -> Scaler | None:
    """Return the scaler of the training part, or None for a family whose input is not scaled."""
    if not prepared.family.scaled:
        return None
    # The newest vector of each window, since windows overlap: each vector once.
    newest = prepared.table.windows[prepared.parts.train, -1].astype(np.float64)
    mean, deviation = newest.mean(axis=0), newest.std(axis=0)
    scale = np.where(deviation > 1e-12, deviation, 1.0)
    return Scaler(tuple(mean.tolist()), tuple(scale.tolist()), LIMIT)


def _inputs(prepared: Prepared, scaler: Scaler | None) -> CutWindows:
    """Return the family's input [N, T, F]. Windows of several vectors are scaled to float32, the type that networks
    compute in."""
    windows = prepared.table.windows
    if scaler is None:
        return windows
    scaled = scaler.apply(windows.vectors)
    return replace(windows, vectors=scaled if windows.length == 1 else scaled.astype(np.float32))


def _sampled(x: CutWindows, rows: NDArray[np.intp]) -> Windows | CutWindows:
    return x.of(rows) if x.length > 1 else x[rows]


def _data(origin: Origin, table: Table) -> TrainingData:
    bars = {symbol: one.bars for symbol, one in origin.series.items()}
    return TrainingData(
        source=origin.source,
        bridge=origin.bridge,
        symbols=tuple(sorted(bars)),
        first_open_time=int(min(one.open_time[0] for one in bars.values())),
        last_open_time=int(max(one.open_time[-1] for one in bars.values())),
        bars=sum(len(one) for one in bars.values()),
        rows=len(table.time),
        digest=digest_of_bars(bars),
        vectors=digest_of_vectors(origin.series),
    )
