"""Given the configuration, when something happened on gates or time has passed, then these are due."""

from functools import reduce

import pytest
from msgspec import structs

from bench.toy import market
from schemas.common import ACTIONS
from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    Found,
    Promote,
    RegisterArtifact,
    SetTrainingPolicy,
    StartShadow,
)
from schemas.gates import InputsDrifted, SkillDecayed
from schemas.training import TrainingRequested, TrainingStarted
from services.trainer.core import Due, by_schedule, cause_of, promotions, request_of, stacker_by_schedule
from services.trainer.job import describe
from services.trainer.task import Task
from shared.control import EMPTY, State, fold, propose
from shared.features import SETS
from shared.training.fitting import train
from shared.training.jobs import HOUR_MS, Jobs
from shared.training.recipe import recipe_of
from shared.training.recorded import Recorded

A1, A2, B1 = "a1" * 32, "a2" * 32, "b1" * 32
THIRD = (-1.1, -1.1, -1.1)
MADE = train({"AAA": market("AAA", 1500, 0.3, 1)}, "logistic", SETS["core-28"], source="toy", horizon=3).manifest


def register(model: str, artifact: str) -> RegisterArtifact:
    return RegisterArtifact(
        model=model,
        artifact=artifact,
        family="logistic",
        feature_set="f5" * 32,
        feature_set_name="core-28",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=THIRD,
        prior=(0.25, 0.5, 0.25),
    )


BASE = (Found(1, "log-of-a-test"), register("a", A1), register("a", A2), Promote("a", A1, forced=True, weight=1.0))
EVENT = "1d" * 16


def after(state: State, command: Command) -> State:
    entry = propose(state, command, command_id=f"c{state.version}", actor="me", reason="test", at=1)
    assert isinstance(entry, CommandRecorded), entry
    return fold(state, entry)


def given(*commands: Command) -> State:
    return reduce(after, (*BASE, *commands), EMPTY)


def drifted(artifact: str = A1, now: bool = True) -> InputsDrifted:
    return InputsDrifted(
        model="a",
        artifact=artifact,
        drifted=now,
        share=0.3,
        threshold=0.2,
        samples=400,
        detail="rsi_14, PSI 0.3",
        vector="2d" * 16,
    )


DECAYED = SkillDecayed(
    model="a",
    artifact=A1,
    value=120.0,
    threshold=100.0,
    samples=14,
    detail="less than half",
    last_score="3d" * 16,
    control_version=4,
)


def test_drift_and_decay_of_a_champion_are_causes_and_name_their_event() -> None:
    for event, cause in ((drifted(), "drift"), (DECAYED, "decay")):
        due = cause_of(event, EVENT, given())
        assert due is not None
        assert (due.model, due.cause, due.evidence) == ("a", cause, EVENT)
        assert due.reason.startswith(
            f"the {'inputs' if cause == 'drift' else 'skill'} of a1a1a1a1a1a1, the champion of a"
        )


@pytest.mark.parametrize("event", [drifted(A2), drifted(now=False), "something else"])
def test_a_shadow_a_return_to_normal_and_another_event_are_none(event: object) -> None:
    assert cause_of(event, EVENT, given(StartShadow("a", A2))) is None


def test_the_policy_selects_the_causes_that_count() -> None:
    quiet = given(SetTrainingPolicy(on_drift=False, on_decay=False))
    assert cause_of(drifted(), EVENT, quiet) is None
    assert cause_of(DECAYED, EVENT, quiet) is None


def test_a_champion_is_due_a_week_after_its_promotion_by_default() -> None:
    promoted = {"a": 5 * HOUR_MS}
    assert by_schedule(Jobs(), given(), promoted, 172 * HOUR_MS) == []
    [due] = by_schedule(Jobs(), given(), promoted, 173 * HOUR_MS)
    assert (due.model, due.cause, due.evidence) == ("a", "schedule", None)


def test_a_model_without_champion_is_never_due() -> None:
    assert by_schedule(Jobs(), given(register("b", B1)), {}, 10_000 * HOUR_MS) == []


def test_a_stacker_is_due_by_schedule_where_models_vote() -> None:
    policy = SetTrainingPolicy(stacker_hours=24)
    assert stacker_by_schedule(Jobs(), given(), 99 * HOUR_MS) is None
    request = stacker_by_schedule(Jobs(), given(policy), 99 * HOUR_MS)
    assert request is not None
    assert (request.cause, request.actor, request.at, request.base) == ("schedule", "trainer", 99 * HOUR_MS, None)
    assert "24 h since the last request" in request.reason
    assert stacker_by_schedule(Jobs(), after(after(EMPTY, BASE[0]), policy), 99 * HOUR_MS) is None


def test_promotions_are_remembered_by_the_newest() -> None:
    entry = CommandRecorded(
        version=1,
        previous="0" * 64,
        command_id="c",
        at=7,
        actor="me",
        reason="why",
        command=Promote("a", A1, forced=True),
    )
    later = structs.replace(entry, version=2, at=9)
    other = structs.replace(entry, version=3, at=11, command=StartShadow("a", A2))
    assert promotions({}, [entry, later, other]) == {"a": 9}
    approved = structs.replace(entry, version=4, at=13, command=Approve(3, Promote("a", A2)))
    assert promotions({"a": 9}, [approved]) == {"a": 13}


def test_what_is_due_is_made_as_the_champion_was() -> None:
    recipe = recipe_of(MADE)
    assert not isinstance(recipe, str)
    assert (recipe.family, recipe.feature_set, recipe.seed) == ("logistic", "core-28", 1)
    request = request_of(Due("a", "decay", EVENT, "why"), recipe, SetTrainingPolicy(window_days=7), 99)
    assert isinstance(request, TrainingRequested)
    assert (request.window_ms, request.evidence, request.actor) == (7 * 24 * HOUR_MS, EVENT, "trainer")


def test_why_a_recipe_cannot_be_trained_here_is_returned() -> None:
    assert (
        recipe_of(structs.replace(MADE, family="imported-encoder")) == "family 'imported-encoder' is not trained here"
    )
    other = structs.replace(MADE, feature_set=structs.replace(MADE.feature_set, name="user-9"))
    assert recipe_of(other) == "this release has no feature set 'user-9'"


@pytest.mark.parametrize("revised_bars", [False, True])
def test_the_policy_says_which_content_of_revised_bars_labels_use_and_the_manifest_repeats_it(
    revised_bars: bool,
) -> None:
    policy = SetTrainingPolicy(revised_bars=revised_bars)
    recipe = recipe_of(MADE)
    assert not isinstance(recipe, str)
    request = request_of(Due("a", "schedule", None, "a test"), recipe, policy, 1)
    assert request.revised_bars == revised_bars
    started = TrainingStarted(request=EVENT, model="a", attempt=1, first=0, last=1, ends=(), worker="", at=1)
    task = Task(EVENT, request, started, 3, 1000, "report")
    days = "recorded live bars of 30 days"
    revised = ", 3 of them as revised later" if revised_bars else ""
    assert describe(task, Recorded({}, ("live",), 3)) == f"{days}{revised}, job {EVENT[:12]}"
