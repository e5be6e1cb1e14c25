import re
from typing import Any

import pytest

from bench.toy import market
from schemas.training import Recipe
from shared.distribution import install_command
from shared.families import complete, family_named
from shared.families.libraries import LibraryMissingError
from shared.features import SETS
from shared.training.series import computed
from shared.training.sweeps import Backend, Name, Trial, grid, ranked, run

SET = SETS["user-8"]
SERIES = computed({name: market(name, 1500, 0.5, seed) for seed, name in enumerate(("AAA", "BBB"))}, SET, 3)
BASE = Recipe("xgboost", SET.name, complete(family_named("xgboost"), {"rounds": 40, "patience": 10}), 3, 0.5, 1)
RECIPES = grid(BASE, [1, 2], {"max_depth": [2, 3]})


def key(trial: Trial) -> tuple[int, int]:
    return trial.number, trial.fold


def trials(backend: Name, **how: Any) -> list[Trial]:
    return sorted(run(SERIES, SET, RECIPES, folds=2, how=Backend(backend, **how)), key=key)


@pytest.fixture(scope="module")
def here() -> list[Trial]:
    return trials("sequential")


def test_every_combination_is_tried_with_every_seed_on_every_fold(here: list[Trial]) -> None:
    assert [(one.params["max_depth"], one.seed) for one in RECIPES] == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert [key(one) for one in here] == [(number, fold) for number in range(4) for fold in range(2)]
    assert all(one.test is not None and one.test.skill.value > 0 for one in here)


def test_processes_of_this_machine_find_the_same(here: list[Trial]) -> None:
    assert trials("loky", jobs=2) == here


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::ResourceWarning", "ignore::UserWarning")
def test_a_dask_cluster_finds_the_same(here: list[Trial]) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        assert trials("dask", address=cluster.scheduler_address) == here


def test_a_backend_that_is_not_installed_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray.util.joblib", None)
    with pytest.raises(LibraryMissingError, match=re.escape(install_command("ray"))):
        next(run(SERIES, SET, RECIPES[:1], folds=1, how=Backend("ray")))


def test_recipes_are_ranked_by_their_held_out_gain_and_never_by_the_test_part(here: list[Trial]) -> None:
    found = ranked(here)
    assert [one.gain for one in found] == sorted((one.gain for one in found), reverse=True)
    best_last = [one._replace(gain=float(-one.number)) for one in here]
    assert [one.recipe for one in ranked(best_last)] == RECIPES


def test_a_recipe_that_was_rejected_comes_behind_those_that_were_not(here: list[Trial]) -> None:
    fallen = [one._replace(rejected="constant", gain=99.0) if one.number == 0 else one for one in here]
    assert ranked(fallen)[-1].recipe == RECIPES[0]
    assert ranked(fallen)[-1].rejected == 2


def test_a_value_that_gives_no_model_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="no parameter depth"):
        grid(BASE, [1], {"depth": [1]})
