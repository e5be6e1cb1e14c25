"""Run many recipes on walk-forward folds, to see which seeds, parameters and feature sets have skill over time.

    results = list(run(series, feature_set, recipes, folds=4, how=Backend("loky", jobs=2)))
    best, *others = ranked(results)

joblib runs the trials: in this process, in other processes of this machine (loky), or on a Dask or Ray cluster. Recipes
are ranked by their validation loss, never by the test part. The best of many trials is partly luck, so every result is
shown with the number of trials.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from msgspec import UNSET, structs

from schemas.training import Recipe
from shared.artifacts.scoring import Interval, Scores, log_losses, score, shares
from shared.families import complete, family_named
from shared.families.libraries import library
from shared.features import FeatureSet
from shared.labels.batch import classes, kappa_for
from shared.processes import without_ctrl_c
from shared.training.collapse import Watcher
from shared.training.fitting import Prepared, fit, uncalibrated
from shared.training.series import SymbolSeries, assemble, one_interval, require_rows
from shared.training.splits import Parts, walk_forward

Name = Literal["sequential", "loky", "dask", "ray"]
ONE_THREAD: Final = 1


class Backend(NamedTuple):
    """Where trials run: a backend of joblib, how many trials at once (-1: one for each core), and the address of a
    cluster's scheduler (empty: start a cluster on this machine)."""

    name: Name = "loky"
    jobs: int = -1
    address: str = ""


class Trial(NamedTuple):
    """One recipe on one fold. ``held``: mean log loss on the validation part; ``gain``: the gain over the prior there
    (mnat); ``test``: scores on the test part. ``rejected``: why the fit collapsed, empty if it did not."""

    number: int
    fold: int
    recipe: Recipe
    held: float
    gain: float
    steps: int
    test: Scores | None
    rejected: str


class Ranked(NamedTuple):
    """One recipe over its folds. ``skill``: mean and range of the test parts' skill over folds (mnat). ``moves``,
    ``direction``: the means of its parts."""

    recipe: Recipe
    trials: tuple[Trial, ...]
    gain: float
    skill: Interval
    rejected: int
    moves: float = math.nan
    direction: float = math.nan


def grid(base: Recipe, seeds: Sequence[int], params: Mapping[str, Sequence[int | float]]) -> list[Recipe]:
    """Return every combination of values with every seed. Raises ``ValueError`` for a parameter that the family does
    not have, and for values that are not valid."""
    family = family_named(base.family)
    combined = [dict(zip(params, values, strict=True)) for values in product(*params.values())]
    settings = [complete(family, {**base.params, **values}) for values in combined]
    return [structs.replace(base, params=made, seed=seed) for made in settings for seed in seeds]


def run(
    series: Mapping[str, SymbolSeries], feature_set: FeatureSet, recipes: Sequence[Recipe], *, folds: int, how: Backend
) -> Iterator[Trial]:
    """Run every recipe on every fold and yield the trials as they end. Deterministic except for their order. Raises
    ``SplitError`` and ``LibraryMissingError``."""
    with parallel(how):
        yield from run_numbered(series, feature_set, dict(enumerate(recipes)), folds)


@contextmanager
def parallel(how: Backend) -> Iterator[None]:
    """Have ``run_numbered`` use a backend inside the block. Raises ``LibraryMissingError``."""
    joblib = library("joblib")
    with _connected(how), joblib.parallel_config(backend=how.name, n_jobs=how.jobs, **_inner(how)):
        yield


def run_numbered(
    series: Mapping[str, SymbolSeries], feature_set: FeatureSet, recipes: Mapping[int, Recipe], folds: int
) -> Iterator[Trial]:
    """Run recipes, by their number, on every fold, as ``run`` does, on the backend of the ``parallel`` block."""
    joblib = library("joblib")
    with without_ctrl_c():  # the processes start here
        made = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(trial)(series, feature_set, recipe, number, fold, folds)
            for number, recipe in recipes.items()
            for fold in range(folds)
        )
    yield from made


def trial(
    series: Mapping[str, SymbolSeries], feature_set: FeatureSet, recipe: Recipe, number: int, fold: int, folds: int
) -> Trial:
    """Run one recipe on fold ``fold`` of ``folds``, counted from 0."""
    prepared = _cut(series, feature_set, recipe, fold, folds)
    y, parts = prepared.y, prepared.parts
    watcher = Watcher(y[parts.validation], prepared.prior)
    fitted = fit(prepared, watcher)
    base = np.tile(np.array(prepared.prior), (len(parts.validation), 1))
    held = log_losses(uncalibrated(prepared, fitted, parts.validation), y[parts.validation])
    gain = 1000.0 * float((log_losses(base, y[parts.validation]) - held).mean())
    if watcher.collapse is not None:
        return Trial(number, fold, recipe, float(held.mean()), gain, fitted.steps, None, watcher.collapse.reason)
    p, time = uncalibrated(prepared, fitted, parts.test), prepared.table.time[parts.test]
    test = score(p, y[parts.test], time, prepared.prior, horizon=recipe.horizon, seed=recipe.seed)
    return Trial(number, fold, recipe, float(held.mean()), gain, fitted.steps, test, "")


def ranked(trials: Sequence[Trial]) -> list[Ranked]:
    """Return the recipes by number of folds in which they were rejected, then by mean gain on the validation parts,
    best first."""
    recipes = []
    for number in sorted({trial.number for trial in trials}):
        own = sorted((one for one in trials if one.number == number), key=lambda one: one.fold)
        tests = [one.test for one in own if one.test is not None]
        skills = [test.skill.value for test in tests] or [math.nan]
        moves = [test.moves.value for test in tests if test.moves is not UNSET] or [math.nan]
        mean_gain, mean_moves = float(np.mean([one.gain for one in own])), float(np.mean(moves))
        rejected = sum(1 for one in own if one.rejected)
        skill = Interval(float(np.mean(skills)), float(np.min(skills)), float(np.max(skills)))
        direction = skill.value - mean_moves
        recipes.append(Ranked(own[0].recipe, tuple(own), mean_gain, skill, rejected, mean_moves, direction))
    return sorted(recipes, key=lambda one: (one.rejected, -one.gain))


def _cut(
    series: Mapping[str, SymbolSeries], feature_set: FeatureSet, recipe: Recipe, fold: int, folds: int
) -> Prepared:
    interval_ms = one_interval(series)
    family = family_named(recipe.family)
    window = family.window(recipe.params)
    table = assemble(series, window, interval_ms=interval_ms, horizon=recipe.horizon)
    require_rows(table, series, recipe.horizon)
    embargo_ms = (window + recipe.horizon) * interval_ms
    parts: Parts = walk_forward(table.time, table.end, folds=folds, embargo_ms=embargo_ms)[fold]
    kappa = kappa_for(table.z[parts.train], recipe.hold)
    y = classes(table.z, kappa)
    prior = shares(y[parts.train])
    return Prepared(recipe, feature_set, family, interval_ms, window, table, parts, kappa, y, prior)


def _inner(how: Backend) -> dict[str, Any]:
    """Return the option that limits each trial to one thread, for the backends that support it."""
    return {"inner_max_num_threads": ONE_THREAD} if how.name == "loky" else {}


def _connected(how: Backend) -> AbstractContextManager[Any]:
    """Return the client of a cluster, which is open while the trials run."""
    match how.name:
        case "dask":
            client = library("distributed").Client
            local = {
                "n_workers": None if how.jobs < 0 else how.jobs,
                "threads_per_worker": 1,
                "dashboard_address": None,
            }
            cluster: AbstractContextManager[Any] = client(how.address) if how.address else client(**local)
            return cluster
        case "ray":
            library("ray.util.joblib").register_ray()
            return nullcontext()
        case "sequential" | "loky":
            return nullcontext()
