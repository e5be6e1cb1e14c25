"""Trains one artifact from bars: features, labels, a purged split in time, fit, calibration, scores.

What is refused is refused here, before anything is stored: a model whose answers do not move with
its input, and one that is worse than knowing nothing by half. Everything else is reported, with the
class prior beside it, and left to the gates.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from schemas.common import ACTIONS
from shared.artifacts.artifact import GOLDEN_ROWS, Artifact, Golden, golden_bytes
from shared.artifacts.manifest import (
    FORMAT,
    GOLDEN,
    CalibrationMetrics,
    FeatureSetRef,
    Manifest,
    Metrics,
    Scaler,
    Source,
    TrainingData,
    processor,
)
from shared.bars import Bars
from shared.calibration import UNCALIBRATED, Calibration, calibrate, error, probabilities
from shared.checks import check_model
from shared.families import Family, Fitted, Params, Sample, Watch, Windows, complete, family_named
from shared.features import BRIDGE, FeatureSet, history
from shared.features import Bars as Columns
from shared.gates import backtest
from shared.labels import DECAY, LabelSpec, classes, kappa_for, moves
from shared.scoring import DISTINCT_AT_LEAST, Scores, log_losses, score, shares
from shared.splits import split

HORIZON: Final = 12
HOLD: Final = 0.55
LIMIT: Final = 8.0
DIVERGED: Final = 1.5
GOLDEN_SYMBOLS: Final = 4
CHUNK: Final = 1024

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]


class Table(NamedTuple):
    """Labelled windows of all symbols on one time axis: [N, T, F] float32, and [N] of the rest."""

    windows: Float32s
    time: Ints
    end: Ints
    z: Floats


class Trained(NamedTuple):
    """What ``Store.save`` takes."""

    manifest: Manifest
    files: dict[str, bytes]


class Given(NamedTuple):
    """A model that is not to be trained: as its family has it, its scaler, where it came from."""

    model: Any
    scaler: Scaler
    source: Source


class RefusedError(ValueError):
    """A model that must not be stored: the reason, and what it scored."""


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
    watch: Watch | None = None,
    given: Given | None = None,
) -> Trained:
    """Trains ``family`` on the bars of one or more symbols, by name. ``source`` says where they come
    from; ``bridge`` is the feature-builder's gap policy, ``horizon`` the label's, in bars. ``watch`` is
    told after each epoch and may end the run by raising. ``given``: a model from elsewhere, which is
    calibrated, measured and checked like one that was trained here.

    Deterministic for the same arguments, libraries and processor. Raises ``RefusedError``,
    ``SplitError``, ``UnknownFamilyError``, and ``ValueError`` on bars that do not fit together."""
    kind = family_named(family)
    settings = complete(kind, params or {})
    interval_ms = _one_interval(bars)
    window = kind.window(settings)
    table = assemble(bars, feature_set, window, interval_ms=interval_ms, bridge=bridge, horizon=horizon)
    parts = split(table.time, table.end, embargo_ms=(window + horizon) * interval_ms)
    kappa = kappa_for(table.z[parts.train], hold)
    y = classes(table.z, kappa)
    prior = shares(y[parts.train])
    scaler = _scaler(table.windows[parts.train]) if kind.scaled else None
    scaler = scaler if given is None else given.scaler
    x = table.windows if scaler is None else _scaled(table.windows, scaler)

    def sample(rows: NDArray[np.intp]) -> Sample:
        # All labels have one length, so all rows are equally unique and weigh the same.
        return Sample(x[rows], y[rows], np.ones(len(rows)))

    if given is None:
        fitted = kind.fit(sample(parts.train), sample(parts.validation), seed, settings, watch)
    else:
        fitted = Fitted(given.model, 0)
    files = kind.save(fitted.model)
    model = kind.load(files, x.shape[2], settings)

    logits = model.logits(x[parts.calibration])
    held = parts.calibration
    # A constant has nothing to calibrate: a temperature would only make it another constant.
    fit = UNCALIBRATED if kind.constant else calibrate(logits, y[held], table.time[held], table.end[held])
    found, calibration = judged(fit, model.logits(x[parts.test]), y[parts.test])
    centre = np.log(probabilities(logits, found.temperature, found.vector)).mean(axis=0).tolist()

    def scored(rows: NDArray[np.intp]) -> Scores:
        p = probabilities(model.logits(x[rows]), found.temperature, found.vector)
        return score(p, y[rows], table.time[rows], prior, horizon=horizon, seed=seed)

    metrics = Metrics(
        test=scored(parts.test),
        validation=scored(parts.validation),
        rows={name: len(rows) for name, rows in parts._asdict().items()},
        steps=fitted.steps,
        fitted_temperature=found.fitted,
        calibration=calibration,
    )
    manifest = Manifest(
        format=FORMAT,
        family=family,
        params=settings,
        feature_set=FeatureSetRef(feature_set.name, feature_set.digest.hex(), feature_set.names),
        interval_ms=interval_ms,
        window=window,
        classes=ACTIONS,
        scaler=scaler,
        temperature=found.temperature,
        centre=(centre[0], centre[1], centre[2]),
        prior=prior,
        label=LabelSpec("vfh1", horizon, DECAY, hold, kappa),
        data=_data(bars, source, bridge, table),
        metrics=metrics,
        seed=seed,
        libraries=kind.libraries(),
        processor=processor(),
        vector=found.vector,
        trained_with=dict(fitted.libraries),
        imported=None if given is None else given.source,
    )
    refuse(kind, metrics)
    chosen = _golden_rows(table.time, parts.test)
    windows = table.windows[chosen]
    predict = Artifact("in training", manifest, model).predict
    seen = backtest.measure(
        predict,
        table.windows[parts.train, -1],
        table.time[parts.train],
        table.windows[parts.test],
        y[parts.test],
        table.time[parts.test],
        prior,
        horizon=horizon,
        interval_ms=interval_ms,
    )
    golden = Golden(windows, predict(windows), table.time[chosen])
    manifest = structs.replace(manifest, backtest=seen)
    report = check_model(Artifact("in training", manifest, model), golden, files)
    if report.failed:
        raise RefusedError(f"it fails the checks that every model must pass: {report}")
    return Trained(manifest, {**files, GOLDEN: golden_bytes(golden)})


def judged(found: Calibration, logits: Floats, y: Ints) -> tuple[Calibration, CalibrationMetrics | None]:
    """What to serve with, and what calibration did: on rows held out from fitting it, which chose it, and
    on the test part, where it is refused if it makes the log loss worse."""
    if math.isnan(found.loss_with):
        return found, None
    tried = found if found.method != "none" else found._replace(temperature=found.fitted)
    before, after = probabilities(logits, 1.0), probabilities(logits, tried.temperature, tried.vector)
    test_before, test_after = (float(log_losses(p, y).mean()) for p in (before, after))
    kept = found if test_after <= test_before else found._replace(temperature=1.0, vector=None)
    return kept, CalibrationMetrics(
        method=kept.method,
        tried="vector" if tried.vector is not None else "temperature",
        held_before=found.loss_without,
        held_after=found.loss_with,
        test_before=test_before,
        test_after=test_after,
        error_before=error(before, y),
        error_after=error(after, y),
    )


def refuse(family: Family, metrics: Metrics) -> None:
    """Raises ``RefusedError`` for a model that must not be stored."""
    test = metrics.test
    if test.log_loss > DIVERGED * test.prior_log_loss:
        raise RefusedError(
            f"diverged: log loss {test.log_loss:.4f} on the test part, the class prior has {test.prior_log_loss:.4f}"
        )
    if not family.constant and test.distinct < DISTINCT_AT_LEAST:
        raise RefusedError(
            f"collapsed: {test.distinct} distinct answers (to 1e-3) over {test.rows} test rows, at least "
            f"{DISTINCT_AT_LEAST} are expected; it answers about the same whatever it is shown. Skill "
            f"{test.skill.value:+.1f} mnat [{test.skill.low:+.1f}, {test.skill.high:+.1f}], stopped after "
            f"{metrics.steps} steps: these features hold no more about this label"
        )


def _golden_rows(time: Ints, test: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of moments spread over the test part, all symbols of a moment together as far as they fit."""
    moments = np.unique(time[test])
    most = max(1, min(GOLDEN_SYMBOLS, int(np.ceil(len(test) / len(moments)))))
    at = moments[np.linspace(0, len(moments) - 1, min(GOLDEN_ROWS // most, len(moments))).astype(int)]
    rows = [test[time[test] == moment][:most] for moment in at]
    return np.concatenate(rows)


def assemble(
    bars: Mapping[str, Bars], feature_set: FeatureSet, window: int, *, interval_ms: int, bridge: int, horizon: int
) -> Table:
    """Windows and labels of all symbols, joined by bar and ordered by (time, symbol)."""
    columns: list[tuple[Float32s, Ints, Ints, Floats]] = []
    for symbol in sorted(bars):
        series = bars[symbol]
        computed = history(feature_set, _columns(series), bridge)
        labelled = moves(series.open_time, series.close, interval_ms, horizon)
        ends = window_ends(computed.open_times, interval_ms, window)
        _, of_vector, of_label = np.intersect1d(
            computed.open_times[ends], labelled.open_time, assume_unique=True, return_indices=True
        )
        rows = ends[of_vector][:, None] + np.arange(1 - window, 1)
        columns.append(
            (computed.vectors[rows], labelled.open_time[of_label], labelled.end[of_label], labelled.z[of_label])
        )
    windows, time, end, z = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.argsort(time, kind="stable")
    return Table(windows[order], time[order], end[order], z[order])


def _columns(bars: Bars) -> Columns:
    return Columns(bars.open_time, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.interval_ms)


def window_ends(open_time: Ints, interval_ms: int, window: int) -> NDArray[np.intp]:
    """Rows that close a window of ``window`` successive vectors without a gap."""
    ends: NDArray[np.intp] = np.arange(window - 1, len(open_time))
    whole = open_time[ends] - open_time[ends - window + 1] == (window - 1) * interval_ms
    return np.compress(whole, ends)


def digest_of_bars(bars: Mapping[str, Bars]) -> str:
    """SHA-256 over symbols in order: name, interval, then the columns as little-endian 8-byte values."""
    digest = hashlib.sha256()
    for symbol in sorted(bars):
        history = bars[symbol]
        digest.update(f"{symbol}\n{history.interval_ms}\n{len(history.open_time)}\n".encode())
        digest.update(history.open_time.astype("<i8").tobytes())
        for column in (history.open, history.high, history.low, history.close, history.volume):
            digest.update(column.astype("<f8").tobytes())
    return digest.hexdigest()


def _one_interval(bars: Mapping[str, Bars]) -> int:
    intervals = {history.interval_ms for history in bars.values()}
    if len(intervals) != 1:
        raise ValueError(
            f"one artifact is trained on bars of one interval; these have {sorted(intervals) or 'none'} ms"
        )
    return intervals.pop()


def _scaler(windows: Float32s) -> Scaler:
    newest = windows[:, -1].astype(np.float64)  # each vector once: windows overlap
    mean, deviation = newest.mean(axis=0), newest.std(axis=0)
    scale = np.where(deviation > 1e-12, deviation, 1.0)
    return Scaler(tuple(mean.tolist()), tuple(scale.tolist()), LIMIT)


def _scaled(windows: Float32s, scaler: Scaler) -> Windows:
    """[N, T, F] scaled. Windows of several vectors as float32, which is what networks compute in, part by
    part: all of them as float64 would be the most memory that training takes."""
    if windows.shape[1] == 1:
        return scaler.apply(windows)
    x = np.empty_like(windows)
    for at in range(0, len(windows), CHUNK):
        x[at : at + CHUNK] = scaler.apply(windows[at : at + CHUNK])
    return x


def _data(bars: Mapping[str, Bars], source: str, bridge: int, table: Table) -> TrainingData:
    return TrainingData(
        source=source,
        bridge=bridge,
        symbols=tuple(sorted(bars)),
        first_open_time=int(min(history.open_time[0] for history in bars.values())),
        last_open_time=int(max(history.open_time[-1] for history in bars.values())),
        bars=sum(len(history.open_time) for history in bars.values()),
        rows=len(table.time),
        digest=digest_of_bars(bars),
    )
