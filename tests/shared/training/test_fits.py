"""Fits of a stacker and the jobs of models: their order, their limits, their states."""

from typing import Any

import pytest
from msgspec import structs

from schemas.codec import encode
from schemas.control import SetTrainingPolicy
from schemas.documentation.examples import examples
from schemas.training import (
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    TrainingEvent,
    TrainingFailed,
    TrainingProgressed,
)
from shared.training.fits import Fit
from shared.training.jobs import HOUR_MS, Jobs, fit_due
from tests.shared.training.test_jobs import NOW, POLICY, asked, ended, id_of, started

[FITTED] = [each.envelope.event for each in examples() if isinstance(each.envelope.event, StackerFitted)]


def wanted(at: int = NOW, **changed: Any) -> StackerRequested:
    return StackerRequested(**{"cause": "operator", "actor": "ada", "reason": "why", "at": at, **changed})


def job_of(request: StackerRequested) -> str:
    return encode("training", request).envelope.id.hex()


def jobs(*events: TrainingEvent) -> Jobs:
    made = Jobs()
    for event in events:
        made.apply(encode("training", event).envelope)
    return made


def begun(request: StackerRequested) -> StackerStarted:
    return StackerStarted(request=job_of(request), attempt=1, control="1-0", ends=(), worker="here", at=NOW)


def rejected(request: StackerRequested) -> StackerRejected:
    return StackerRejected(
        request=job_of(request), reason="too_few_rounds", evidence="3", tried=(), seconds=0.0, at=NOW
    )


def test_a_fit_goes_from_its_request_to_its_end() -> None:
    request = wanted()
    one, job = Jobs(), job_of(request)
    states = []
    stage = TrainingProgressed(request=job, model="ensemble", stage="reading", number=0, of=1, at=NOW)
    for event in (request, begun(request), stage, structs.replace(FITTED, request=job), rejected(request)):
        one.apply(encode("training", event).envelope)
        states.append(one.fits[job].state)
    assert states == ["waiting", "running", "running", "completed", "completed"]
    assert one.fits[job].progress == stage
    assert one.fitted(FITTED.digest[:8]) == one.fits[job]
    assert one.fitted("") is one.fitted("ff") is None
    assert one.find(job[:8]) == one.fits[job]


def test_a_fit_fails_as_any_job_does() -> None:
    request = wanted()
    failed = TrainingFailed(request=job_of(request), model="ensemble", reason="crashed", detail="x", at=NOW)
    assert jobs(request, failed).fits[job_of(request)].state == "failed"


def test_events_of_a_model_do_not_touch_a_fit() -> None:
    request, model = wanted(), asked()
    mixed = jobs(request, model, structs.replace(started(model), request=job_of(request)))
    assert mixed.fits[job_of(request)].state == "waiting"
    mixed = jobs(request, model, structs.replace(begun(request), request=id_of(model)))
    assert mixed[id_of(model)].state == "waiting"


def test_one_job_runs_at_a_time_and_persons_go_first() -> None:
    automatic, person = wanted(NOW, cause="schedule"), asked(at=NOW + 1)
    model = jobs(automatic, person).next()
    assert model is not None
    assert model.model == "m"
    fit = jobs(automatic, person, begun(automatic)).next()
    assert isinstance(fit, Fit)
    assert isinstance(jobs(automatic, person, ended(person)).next(), Fit)


def test_a_second_fit_waits_for_the_first() -> None:
    first = wanted()
    assert jobs().refuses(first, POLICY) is None
    assert "is waiting; wait until it ends" in (jobs(first).refuses(wanted(NOW + 1, forced=True), POLICY) or "")
    assert jobs(first).refuses(asked(), POLICY) is None
    assert jobs(asked()).refuses(first, POLICY) is None


def test_the_cooldown_is_for_automatic_fits_and_the_budget_counts_fits_alone() -> None:
    first = wanted()
    made = jobs(first, rejected(first), *(asked(f"m{number}", NOW) for number in range(9)))
    later = NOW + 23 * HOUR_MS
    assert "1.0 h are left" in (made.refuses(wanted(later, cause="schedule"), POLICY) or "")
    assert made.refuses(wanted(later), POLICY) is None
    assert made.refuses(wanted(NOW + 25 * HOUR_MS, cause="schedule"), SetTrainingPolicy(budget=2)) is None
    small = SetTrainingPolicy(budget=1)
    assert "the budget of the training policy is 1" in (made.refuses(wanted(later), small) or "")
    assert made.refuses(wanted(later, forced=True), small) is None


@pytest.mark.parametrize(
    ("policy", "due"),
    [
        (SetTrainingPolicy(), [False, False, False]),
        (SetTrainingPolicy(stacker_hours=0), [False, False, False]),
        (SetTrainingPolicy(stacker_hours=24), [True, False, True]),
    ],
)
def test_a_schedule_is_off_by_default_and_counts_from_the_last_request(
    policy: SetTrainingPolicy, due: list[bool]
) -> None:
    first = wanted()
    later = NOW + 24 * HOUR_MS
    assert [
        fit_due(jobs(), policy, NOW),
        fit_due(jobs(first, rejected(first)), policy, later - 1),
        fit_due(jobs(first, rejected(first)), policy, later),
    ] == due
