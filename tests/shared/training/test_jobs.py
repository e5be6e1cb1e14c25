"""What the stream of training says: given its events, when something is asked for, then it stands or not."""

from typing import Any

import pytest
from msgspec import structs

from schemas.codec import Envelope, encode
from schemas.control import SetTrainingPolicy
from schemas.training import (
    Ends,
    Recipe,
    TrainingEvent,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)
from shared.control.issuing import RefusedError
from shared.log import Log
from shared.training.jobs import HOUR_MS, Jobs, scheduled
from shared.training.ledger import TRAINING, TrainingWriter

NOW = 1_000 * HOUR_MS
RECIPE = Recipe("logistic", "core-28", {"iterations": 20}, 12, 0.55, 1)
POLICY = SetTrainingPolicy()


def asked(model: str = "m", at: int = NOW, **changed: Any) -> TrainingRequested:
    usual: dict[str, Any] = {"cause": "operator", "evidence": None, "actor": "ada", "reason": "why", "window_ms": 1000}
    return TrainingRequested(model=model, recipe=RECIPE, at=at, **{**usual, **changed})


def envelope(event: TrainingEvent) -> Envelope[TrainingEvent]:
    return encode("training", event).envelope


def id_of(request: TrainingRequested) -> str:
    return envelope(request).id.hex()


def started(request: TrainingRequested, attempt: int = 1) -> TrainingStarted:
    return TrainingStarted(
        request=id_of(request),
        model=request.model,
        attempt=attempt,
        first=0,
        last=9,
        ends=(Ends(0, "1-0", "1-0"),),
        worker="here",
        at=NOW,
    )


def ended(request: TrainingRequested) -> TrainingRejected:
    return TrainingRejected(
        request=id_of(request),
        model=request.model,
        reason="constant",
        evidence="one answer",
        quarantine="",
        seconds=1.0,
        at=NOW,
    )


def jobs(*events: TrainingEvent) -> Jobs:
    found = Jobs()
    for event in events:
        found.apply(envelope(event))
    return found


def test_a_job_waits_runs_and_ends() -> None:
    request = asked()
    assert jobs(request)[id_of(request)].state == "waiting"
    assert jobs(request, started(request))[id_of(request)].state == "running"
    assert jobs(request, started(request), ended(request))[id_of(request)].state == "rejected"


def test_nothing_changes_a_job_that_has_ended() -> None:
    request = asked()
    late = TrainingProgressed(request=id_of(request), model="m", stage="fitting", number=3, of=9, at=NOW)
    found = jobs(request, started(request), ended(request), late, started(request, 2))[id_of(request)]
    assert found.progress is None
    assert len(found.began) == 1


def test_what_names_no_request_is_passed_over() -> None:
    assert len(jobs(ended(asked()))) == 0


def test_what_was_running_comes_before_what_waited_longest() -> None:
    first, second = asked("a", NOW), asked("b", NOW + 1)
    assert jobs().next() is None
    following = jobs(first, second).next()
    assert following is not None
    assert following.model == "a"
    interrupted = jobs(first, second, started(second)).next()
    assert interrupted is not None
    assert interrupted.model == "b"


def test_a_storm_of_causes_makes_one_job() -> None:
    found = jobs()
    made = 0
    for number in range(200):
        request = asked(at=NOW + number, cause="drift", evidence=f"{number:032x}")
        if found.refuses(request, POLICY) is None:
            found.apply(envelope(request))
            found.apply(envelope(ended(request)))
            made += 1
    assert made == 1


def test_one_model_is_not_asked_for_twice_at_once_even_by_force() -> None:
    why = jobs(asked()).refuses(asked(at=NOW + 30 * HOUR_MS, forced=True), POLICY)
    assert why is not None
    assert "is waiting; wait until it ends" in why


@pytest.mark.parametrize("cause", ["drift", "decay", "schedule"])
def test_the_cooldown_of_automatic_requests_runs_from_any_request_for_the_model(cause: Any) -> None:
    done = (asked(), ended(asked()))
    why = jobs(*done).refuses(asked(at=NOW + 23 * HOUR_MS, cause=cause), POLICY)
    assert why == "'m' was requested less than 24 h ago (the cooldown of the training policy), 1.0 h are left"
    assert jobs(*done).refuses(asked(at=NOW + 24 * HOUR_MS, cause=cause), POLICY) is None
    assert jobs(*done).refuses(asked("other", at=NOW + 1, cause=cause), POLICY) is None


def test_a_person_may_request_again_as_soon_as_the_job_has_ended() -> None:
    assert jobs(asked(), ended(asked())).refuses(asked(at=NOW + 1), POLICY) is None


def test_the_budget_counts_all_models_over_seven_days() -> None:
    policy = structs.replace(POLICY, budget=2)
    spent = [event for model in ("a", "b") for event in (asked(model), ended(asked(model)))]
    why = jobs(*spent).refuses(asked("c", at=NOW + 1), policy)
    assert why is not None
    assert why.startswith("2 jobs within seven days, the budget of the training policy is 2")
    assert jobs(*spent).refuses(asked("c", at=NOW + 169 * HOUR_MS), policy) is None
    assert jobs(*spent).refuses(asked("c", at=NOW + 1, forced=True), policy) is None


def test_one_cause_makes_one_job_ever() -> None:
    request = asked(cause="decay", evidence="1d" * 16)
    again = asked(at=NOW + 500 * HOUR_MS, cause="decay", evidence="1d" * 16)
    why = jobs(request, ended(request)).refuses(again, POLICY)
    assert why is not None
    assert "because of 1d1d" in why


def test_the_schedule_runs_from_the_last_request_or_from_the_promotion() -> None:
    weekly = 168 * HOUR_MS
    voting = {"a": NOW, "b": NOW - weekly}
    assert scheduled(jobs(), voting, POLICY, NOW) == ["b"]
    assert scheduled(jobs(asked("b", NOW - HOUR_MS)), voting, POLICY, NOW) == []
    assert scheduled(jobs(), voting, POLICY, NOW + weekly) == ["a", "b"]
    assert scheduled(jobs(), voting, structs.replace(POLICY, schedule_hours=0), NOW + 9 * weekly) == []


@pytest.mark.anyio
async def test_of_two_that_ask_at_once_one_is_refused(log: Log) -> None:
    one, two = TrainingWriter(log), TrainingWriter(log)
    await one.read()
    await two.read()
    job = await one.request(asked(), POLICY)
    with pytest.raises(RefusedError, match="is waiting; wait until it ends"):
        await two.request(asked(at=NOW + 1), POLICY)
    assert [found.id for found in two.jobs] == [job]


@pytest.mark.anyio
async def test_events_keep_their_order_when_the_clock_goes_back(log: Log) -> None:
    ledger = TrainingWriter(log)
    request = asked()
    job = await ledger.request(request, POLICY)
    await ledger.append(structs.replace(started(request), at=NOW - 5000))
    await ledger.append(TrainingFailed(request=job, model="m", reason="crashed", detail="it did", at=NOW - 4000))
    assert [entry.id for entry in await log.scan(TRAINING)] == [f"{NOW}-0", f"{NOW}-1", f"{NOW}-2"]
    again = TrainingWriter(log)
    assert (await again.read())[job].state == "failed"


@pytest.mark.anyio
async def test_what_became_of_a_job_descends_from_its_request(log: Log) -> None:
    heard: list[Envelope[TrainingEvent]] = []
    ledger = TrainingWriter(log, heard.append)
    request = asked(cause="drift", evidence="1d" * 16)
    job = await ledger.request(request, POLICY)
    await ledger.append(structs.replace(started(request), request=job))
    first, second = heard
    assert first.causation.hex() == "1d" * 16
    assert (second.causation.hex(), second.correlation.hex()) == (job, job)


@pytest.mark.parametrize("cause", ["drift", "decay", "schedule"])
def test_a_request_of_a_person_is_not_refused_for_automatic_ones_and_goes_before_those_that_wait(cause: Any) -> None:
    evidence = None if cause == "schedule" else "1d" * 16
    automatic, other = asked(cause=cause, evidence=evidence), asked("other", NOW + 1, cause="schedule")
    person = asked(at=NOW + 2)
    policy = structs.replace(POLICY, budget=2)
    for before in ([automatic], [automatic, started(automatic)], [automatic, ended(automatic)], [automatic, other]):
        assert jobs(*before).refuses(person, policy) is None
        assert jobs(*before).refuses(structs.replace(automatic, at=NOW + 3, evidence="2d" * 16), policy) is not None
    following = jobs(other, automatic, person).next()
    assert following is not None
    assert following.request == person
    running = jobs(other, automatic, started(automatic), person).next()
    assert running is not None
    assert running.request == automatic  # what runs is not ended
    assert "is waiting" in (jobs(automatic, person).refuses(asked(at=NOW + 4, forced=True), policy) or "")


def test_a_request_of_a_person_holds_back_automatic_ones() -> None:
    done = (asked(), ended(asked()))
    assert jobs(*done).refuses(asked(at=NOW + 1, cause="schedule"), POLICY) is not None
