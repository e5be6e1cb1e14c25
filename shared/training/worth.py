"""The gain of a trained artifact on the untouched test part, over the class prior, a logistic model on the newest
vector, and the champion; and fixed sanity checks of its predictions.

A gain is the log loss saved, in thousandths of a nat for each row, with a block-bootstrap interval
(``shared.artifacts.scoring``).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from schemas.training import Gain, SanityCheck
from shared.artifacts.artifact import Artifact
from shared.artifacts.scoring import block_interval, block_of, log_losses
from shared.families import complete, family_named
from shared.training.fitting import Prepared, fit, uncalibrated
from shared.training.series import SymbolSeries, assemble

Probabilities = NDArray[np.float64]
REFERENCE: Final = "logistic"
MOST_OF_ONE_CLASS: Final = 0.70
LEAST_OF_A_CLASS: Final = 0.10
LEAST_DEVIATION: Final = 0.02
LEAST_WIDTH: Final = 0.05


def gains(
    prepared: Prepared, predicted: Probabilities, series: Mapping[str, SymbolSeries], champion: Artifact | None
) -> tuple[Gain, ...]:
    """Return the gains of ``predicted`` [N, 3] on the test part: over the class prior, over a logistic model on the
    newest vector that is fitted on the same rows, and over the champion if there is one."""
    y = prepared.y[prepared.parts.test]
    base = np.tile(np.array(prepared.prior), (len(y), 1))
    gained = [_gain("prior", prepared, predicted, base)]
    if prepared.family.name != REFERENCE and not prepared.family.constant:
        gained.append(_gain(REFERENCE, prepared, predicted, reference(prepared)))
    if champion is not None:
        gained.append(_over(champion, prepared, predicted, series))
    return tuple(gained)


def reference(prepared: Prepared) -> Probabilities:
    """Return the probabilities [N, 3] for the test part of a logistic model on the newest vector, fitted on the same
    training part. A longer window and a larger architecture have to beat it."""
    family = family_named(REFERENCE)
    recipe = structs.replace(prepared.recipe, family=REFERENCE, params=complete(family, {}), imbalance="none")
    newest = prepared.table._replace(windows=prepared.table.windows.newest(1))
    baseline = prepared._replace(recipe=recipe, family=family, window=1, table=newest)
    return uncalibrated(baseline, fit(baseline), baseline.parts.test)


def _over(champion: Artifact, prepared: Prepared, predicted: Probabilities, series: Mapping[str, SymbolSeries]) -> Gain:
    name = f"champion {champion.digest[:12]}"
    known = champion.manifest
    if known.feature_set.digest != prepared.feature_set.digest.hex() or known.interval_ms != prepared.interval_ms:
        why = f"it takes {known.feature_set.name} of {known.interval_ms} ms bars; these are other vectors"
        return Gain(name, 0.0, 0.0, 0.0, f"not compared: {why}")
    own = assemble(series, champion.window, interval_ms=prepared.interval_ms, horizon=prepared.recipe.horizon)
    test, table = prepared.parts.test, prepared.table
    rows = {key: row for row, key in enumerate(zip(own.time.tolist(), own.symbol.tolist(), strict=True))}
    keys = list(zip(table.time[test].tolist(), table.symbol[test].tolist(), strict=True))
    both = np.array([place for place, key in enumerate(keys) if key in rows], dtype=np.intp)
    if not len(both):
        return Gain(name, 0.0, 0.0, 0.0, "not compared: no row of the test part ends a window of its length")
    compared_rows = np.array([rows[keys[place]] for place in both.tolist()], dtype=np.intp)
    theirs = own.windows.of(compared_rows).each(champion.predict)
    notes = []
    if known.data.last_open_time >= int(table.time[test[0]]):
        notes.append("it was trained on bars of this test part")
    if known.label.horizon != prepared.recipe.horizon or abs(known.label.kappa - prepared.kappa) > 1e-9:
        notes.append(f"its classes are cut at {known.label.kappa:.3f} of {known.label.horizon} bars")
    compared = prepared._replace(parts=prepared.parts._replace(test=test[both]))
    return structs.replace(_gain(name, compared, predicted[both], theirs), note="; ".join(notes))


def _gain(over: str, prepared: Prepared, predicted: Probabilities, others: Probabilities) -> Gain:
    test = prepared.parts.test
    y, time = prepared.y[test], prepared.table.time[test]
    saved = 1000.0 * (log_losses(others, y) - log_losses(predicted, y))
    interval = block_interval(saved, time, block_of(time, prepared.recipe.horizon), prepared.recipe.seed)
    return Gain(over, interval.value, interval.low, interval.high)


def sanity(predicted: Probabilities) -> tuple[SanityCheck, ...]:
    """Return fixed checks of the predictions for the test part: the shares of the most frequent and the second action,
    and the standard deviation and 10-90 % range of the confidence (the largest probability).

    These are no statistical tests. The best possible forecaster of a market that is mostly HOLD fails the first two,
    and that of a weak signal fails the others. So they are reported by default, and refuse an artifact only if the
    training policy says so."""
    actions = np.sort(np.bincount(predicted.argmax(axis=1), minlength=3) / len(predicted))[::-1]
    confidence = predicted.max(axis=1)
    low, high = np.quantile(confidence, [0.1, 0.9]).tolist()
    most, second, deviation = float(actions[0]), float(actions[1]), float(confidence.std())
    return (
        SanityCheck("one_class", most <= MOST_OF_ONE_CLASS, most, MOST_OF_ONE_CLASS),
        SanityCheck("second_class", second >= LEAST_OF_A_CLASS, second, LEAST_OF_A_CLASS),
        SanityCheck("deviation", deviation >= LEAST_DEVIATION, deviation, LEAST_DEVIATION),
        SanityCheck("width", high - low >= LEAST_WIDTH, high - low, LEAST_WIDTH),
    )
