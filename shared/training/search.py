"""Search the parameters of a family: Optuna proposes recipes from what earlier ones gained, joblib runs their trials.

    trials = list(search(series, feature_set, base, {"eta": Range(0.01, 0.3, log=True)}, count=40, folds=4, how=how))
    best, *others = ranked(trials)

Proposals are made in batches of a fixed size, and the results of a batch are given back in the order of its proposals.
So the same seed proposes the same recipes on any backend, with any number of processes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import structs

from schemas.training import Recipe
from shared.families import complete, family_named
from shared.families.libraries import library
from shared.features import FeatureSet
from shared.training.series import SymbolSeries
from shared.training.sweeps import Backend, Trial, parallel, run_numbered

BATCH: Final = 8
"""Recipes that are proposed at once, before the results of any of them are known."""
FIRST: Final = 16
"""Recipes that are drawn at random, before earlier results guide the proposals."""


class Range(NamedTuple):
    """The values of a parameter that may be proposed: all numbers from ``low`` to ``high``, whole ones if both are
    integers. ``log``: evenly by their logarithm, as for learning rates."""

    low: int | float
    high: int | float
    log: bool = False


class RangeError(ValueError):
    """A range that holds no value, or none that the family takes. The message names the parameter."""


def check(base: Recipe, ranges: Mapping[str, Range]) -> None:
    """Raise ``RangeError`` unless the family has each parameter and takes both ends of its range."""
    family = family_named(base.family)
    for name, (low, high, log) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
            least = " and above 0, since its logarithm is taken" if log else ""
            raise RangeError(f"{name}={low:g}..{high:g}: expected LOW..HIGH with LOW below HIGH{least}")
        for end in (low, high):
            try:
                complete(family, {**base.params, name: end})
            except ValueError as error:
                raise RangeError(f"{name}={low:g}..{high:g}: {error}") from None


def search(
    series: Mapping[str, SymbolSeries],
    feature_set: FeatureSet,
    base: Recipe,
    ranges: Mapping[str, Range],
    *,
    count: int,
    folds: int,
    how: Backend,
) -> Iterator[Trial]:
    """Propose ``count`` recipes with parameters in ``ranges``, run each on every fold, and yield the trials as they
    end. A recipe that was proposed before is not run again. The seed of ``base`` is that of the proposals and of the
    fits. Raises ``RangeError``, ``SplitError`` and ``LibraryMissingError``."""
    check(base, ranges)
    study, space = _study(base.seed), _space(ranges)
    family = family_named(base.family)
    gained: dict[tuple[tuple[str, int | float], ...], float] = {}
    number = 0
    with parallel(how):
        for asked in range(0, count, BATCH):
            proposals = [study.ask(space) for _ in range(min(BATCH, count - asked))]
            keys = [tuple(sorted(proposal.params.items())) for proposal in proposals]
            new = dict(enumerate(dict.fromkeys(key for key in keys if key not in gained), number))
            number += len(new)
            recipes = {
                place: structs.replace(base, params=complete(family, {**base.params, **dict(key)}))
                for place, key in new.items()
            }
            made: list[Trial] = []
            for trial in run_numbered(series, feature_set, recipes, folds):
                made.append(trial)
                yield trial
            gained |= {key: objective([one for one in made if one.number == place]) for place, key in new.items()}
            for proposal, key in zip(proposals, keys, strict=True):
                study.tell(proposal, gained[key])


def objective(trials: Sequence[Trial]) -> float:
    """Return the mean gain on the validation parts, which the search maximises. A fold whose fit collapsed counts as no
    gain, or as the loss that it had."""
    ordered = sorted(trials, key=lambda one: one.fold)
    return float(np.mean([min(one.gain, 0.0) if one.rejected else one.gain for one in ordered]))


def _study(seed: int) -> Any:
    optuna = library("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST, multivariate=True, constant_liar=True)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _space(ranges: Mapping[str, Range]) -> dict[str, Any]:
    kinds = library("optuna").distributions
    return {
        name: (kinds.IntDistribution if _whole(each) else kinds.FloatDistribution)(each.low, each.high, log=each.log)
        for name, each in sorted(ranges.items())
    }


def _whole(each: Range) -> bool:
    return isinstance(each.low, int) and isinstance(each.high, int)
