"""A search proposes recipes from what earlier ones gained, the same ones wherever they run."""

import re
import sys
from typing import Any

import pytest
from msgspec import structs

from bench.toy import market
from schemas.training import Recipe
from shared.distribution import install_command
from shared.families import complete, family_named
from shared.families.libraries import LibraryMissingError
from shared.features import SETS
from shared.training import search as searching
from shared.training.search import BATCH, Range, RangeError, check, objective, search
from shared.training.series import computed
from shared.training.sweeps import Backend, Name, Trial, ranked

SET = SETS["user-8"]
SERIES = computed({name: market(name, 1500, 0.5, seed) for seed, name in enumerate(("AAA", "BBB"))}, SET, 3)
BASE = Recipe("xgboost", SET.name, complete(family_named("xgboost"), {"rounds": 20, "patience": 10}), 3, 0.5, 1)
RANGES = {"eta": Range(0.01, 0.5, log=True), "max_depth": Range(1, 4)}


def searched(backend: Name = "sequential", base: Recipe = BASE, count: int = BATCH + 2, **how: Any) -> list[Trial]:
    made = search(SERIES, SET, base, RANGES, count=count, folds=2, how=Backend(backend, **how))
    return sorted(made, key=lambda one: (one.number, one.fold))


@pytest.fixture(scope="module")
def here() -> list[Trial]:
    return searched()


def test_each_proposal_lies_in_its_ranges_and_runs_on_every_fold(here: list[Trial]) -> None:
    assert [(one.number, one.fold) for one in here] == [(number, fold) for number in range(10) for fold in range(2)]
    for one in here:
        assert 0.01 <= one.recipe.params["eta"] <= 0.5
        assert one.recipe.params["max_depth"] in {1, 2, 3, 4}
        assert isinstance(one.recipe.params["max_depth"], int)
        assert {**one.recipe.params, "eta": 0, "max_depth": 0} == {**BASE.params, "eta": 0, "max_depth": 0}
    assert len(ranked(here)) == 10


def test_processes_of_this_machine_search_the_same(here: list[Trial]) -> None:
    assert searched("loky", jobs=2) == here


def test_another_seed_searches_elsewhere(here: list[Trial]) -> None:
    other = searched(base=structs.replace(BASE, seed=2))
    assert not {one.recipe.params["eta"] for one in here} & {one.recipe.params["eta"] for one in other}


def gains(peak: float) -> Any:
    """Trials that need no fit: a recipe gains the more, the nearer its eta is to ``peak``."""

    def run(series: Any, feature_set: Any, recipes: dict[int, Recipe], folds: int) -> Any:
        for number, recipe in recipes.items():
            gain = -abs(recipe.params["eta"] - peak)
            yield from (Trial(number, fold, recipe, 1.0, gain, 1, None, "") for fold in reversed(range(folds)))

    return run


def test_proposals_come_closer_to_what_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "run_numbered", gains(0.2))
    tried = searched(count=64)
    distance = [abs(one.recipe.params["eta"] - 0.2) for one in tried]
    early, late = distance[: 2 * 16], distance[-2 * 16 :]
    assert sum(late) < 0.6 * sum(early)


def test_a_recipe_that_was_proposed_before_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "run_numbered", gains(0.2))
    made = list(search(SERIES, SET, BASE, {"max_depth": Range(1, 2)}, count=24, folds=1, how=Backend("sequential")))
    assert sorted(one.recipe.params["max_depth"] for one in made) == [1, 2]
    assert sorted(one.number for one in made) == [0, 1]


def test_a_fold_that_collapsed_is_worth_nothing_at_best() -> None:
    made = [Trial(0, fold, BASE, 1.0, 4.0, 1, None, "constant" if fold else "") for fold in range(2)]
    assert objective(made) == 2.0
    assert objective([made[1]._replace(gain=-3.0)]) == -3.0


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"depth": Range(1, 2)}, "no parameter depth"),
        ({"eta": Range(0.3, 0.1)}, "eta=0.3..0.1: expected LOW..HIGH with LOW below HIGH"),
        ({"eta": Range(0.0, 0.1, log=True)}, "above 0, since its logarithm is taken"),
        ({"eta": Range(0.1, float("inf"))}, "eta=0.1..inf"),
    ],
)
def test_a_range_that_gives_no_model_is_refused_before_any_work(ranges: dict[str, Range], words: str) -> None:
    with pytest.raises(RangeError, match=re.escape(words)):
        check(BASE, ranges)


def test_a_missing_library_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(LibraryMissingError, match=re.escape(install_command("search"))):
        next(search(SERIES, SET, BASE, RANGES, count=1, folds=1, how=Backend("sequential")))
