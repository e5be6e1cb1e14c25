"""The screen Training: jobs with their cause, progress, losses and result."""

from pathlib import Path

import msgspec
import pytest

from bench.replayed import Replayed
from schemas.codec import encode
from schemas.documentation.examples import examples
from schemas.training import TrainingEvent
from services.observatory import core
from services.observatory.core import State
from services.observatory.jobs import JOBS, STEPS
from services.observatory.screens import training
from shared.control.state import State as Control
from shared.log import StreamKey
from tests.services.observatory.busy import RECIPE, completed, make_busy, rejected, request, started, step
from tests.services.observatory.conftest import Served
from tests.services.observatory.events import BEGIN, A
from tests.services.observatory.test_web import answer, api

pytestmark = pytest.mark.anyio


def job_of(state: State, *events: TrainingEvent) -> str:
    """The id of the job that the first event requests."""
    first = encode("training", events[0]).envelope.id.hex()
    for number, event in enumerate(events):
        core.apply(state, StreamKey("training"), f"{BEGIN + number}-0", encode("training", event).envelope)
    return first


def test_a_job_is_followed_from_its_request_to_its_end() -> None:
    state = State()
    asked = request(BEGIN, cause="drift")
    job = job_of(state, asked)
    assert [one.state for one in training.screen(state, Control()).jobs] == ["waiting"]
    job_of(state, started(job, BEGIN + 1), *(step(job, n, 9, BEGIN + n) for n in range(1, 4)))
    (shown,) = training.screen(state, Control()).jobs
    assert (shown.state, shown.stage, shown.step, shown.steps) == ("running", "fitting", 3, 9)
    assert (shown.cause, shown.evidence, shown.actor) == ("drift", "ab" * 16, "ada")
    assert [point.number for point in shown.curve] == [1, 2, 3]
    assert shown.curve[0].prior == pytest.approx(1.0986)
    job_of(state, completed(job, BEGIN + 9, A, "nhits"))
    (shown,) = training.screen(state, Control()).jobs
    assert shown.end is not None
    assert (shown.state, shown.end.artifact, shown.end.outside) == ("completed", A, ["spread"])
    job_of(state, step(job, 9, 9, BEGIN + 20))  # of an attempt that was given up
    assert len(state.jobs[job].steps) == 3


def test_a_rejection_is_shown_with_its_evidence() -> None:
    state = State()
    asked = request(BEGIN)
    job = job_of(state, asked)
    job_of(state, started(job, BEGIN + 1), rejected(job, BEGIN + 2))
    (shown,) = training.screen(state, Control()).jobs
    assert shown.end is not None
    assert (shown.state, shown.end.reason) == ("rejected", "constant")
    assert "HOLD in 100 %" in shown.end.evidence


def test_a_second_attempt_begins_its_losses_again() -> None:
    state = State()
    job = job_of(state, request(BEGIN))
    job_of(state, started(job, BEGIN + 1), step(job, 1, 9, BEGIN), step(job, 2, 9, BEGIN))
    job_of(state, started(job, BEGIN + 2, attempt=2), step(job, 1, 9, BEGIN))
    assert [point.number for point in state.jobs[job].steps] == [1]


def test_jobs_and_losses_are_bounded_and_the_newest_is_always_there() -> None:
    state = State()
    names = [job_of(state, request(BEGIN + n)) for n in range(JOBS + 5)]
    assert list(state.jobs) == names[5:]
    job_of(state, started(names[-1], BEGIN), *(step(names[-1], n, 5_000, BEGIN) for n in range(1, 1_000)))
    steps = state.jobs[names[-1]].steps
    assert len(steps) <= STEPS
    assert steps[-1].number == 999
    again = core.initial(core.snapshot(state))
    assert again.jobs == state.jobs


def test_fits_of_a_stacker_are_shown_with_their_ends() -> None:
    state = State()
    events = [each.envelope for each in examples() if type(each.envelope.event).__name__.startswith("Stacker")]
    [asked, began, fitted, refused] = events
    for number, each in enumerate((asked, began)):
        core.apply(state, StreamKey("training"), f"{BEGIN + number}-0", each)
    [shown] = training.screen(state, Control()).fits
    assert (shown.state, shown.base, shown.actor, shown.tried) == ("running", "mean", "ada", ())
    again = core.initial(core.snapshot(state))
    core.apply(state, StreamKey("training"), f"{BEGIN + 3}-0", fitted)
    [shown] = training.screen(state, Control()).fits
    assert shown.later is not None
    assert (shown.state, shown.policy, shown.later.value, shown.penalty) == ("completed", "3c" * 32, 0.5, 1.0)
    core.apply(again, StreamKey("training"), f"{BEGIN + 3}-0", refused)
    [shown] = training.screen(again, Control()).fits
    assert (shown.state, shown.reason, len(shown.tried)) == ("rejected", "no_certain_gain", 1)
    assert state.jobs == {}


def test_recipes_are_compared_by_name() -> None:
    other = msgspec.structs.replace(RECIPE, seed=2, params={"epochs": 40, "batch": 64})
    found = {one.what: (one.champion, one.job) for one in training.differences(other, RECIPE)}
    assert found == {"seed": ("2", "1"), "batch": ("64", "32"), "dropout": ("not set", "0.1")}


async def test_a_job_is_compared_with_the_champion_of_its_model(
    served: Served, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path)
    screen = await api(served, "training")
    assert [job["state"] for job in screen["jobs"]] == ["waiting", "running", "rejected", "completed"]
    shown = await api(served, f"training/{screen['jobs'][3]['id'][:8]}")
    assert shown["champion"] == shown["job"]["end"]["artifact"]
    assert {"family", "feature set"} <= {one["what"] for one in shown["differences"]}
    page = (await answer(served, f"/training/{screen['jobs'][3]['id']}")).text
    for words in ("the champion", "outside", "Loss by step", "BTCUSDT"):
        assert words in page
    assert [fit["state"] for fit in screen["fits"]] == ["rejected", "completed"]
    jobs = (await answer(served, "/training")).text
    for words in ("Stackers", "no certain gain", "Fitted voting policy", "Penalties tried (2)"):
        assert words in jobs
    assert "HOLD in 100 %" in (await answer(served, "/training")).text
    assert (await answer(served, "/training/00000000")).status_code == 404
    drawn = (await answer(served, f"/training/{screen['jobs'][1]['id']}/curve")).text
    assert 'hx-trigger="every 3s"' in drawn
    assert "<svg" in drawn
