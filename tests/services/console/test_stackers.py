"""A stacker that the trainer fits, as a person asks for it, reads it, proposes it and fits it again."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from schemas.control import SetTrainingPolicy
from services.trainer.main import READS, Trainer
from shared.control.issuing import current
from shared.log import Log, StreamKey
from shared.runtime.loop import Loop
from shared.runtime.supervision import Supervised
from shared.settings import VARIABLE, load
from shared.training.ledger import TrainingWriter
from tests.services.trainer.votes import found, record

WHY = ("--reason", "a test", "--actor", "ada")


@pytest.fixture
def voting(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A desk on an installation that has voted."""
    monkeypatch.setenv(VARIABLE, str(desk.settings))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    desk.with_log(found)
    return desk


def ended_by_a_trainer(desk: Any) -> None:
    """Run a trainer until every job has ended."""

    async def run(log: Log) -> None:
        stop, loop, ledger = anyio.Event(), Loop(log, "trainer", supervised=Supervised({})), TrainingWriter(log)
        async with loop.owned(1, READS), anyio.create_task_group() as tasks:
            tasks.start_soon(Trainer(load(), loop, None).run, stop)
            with anyio.fail_after(300):
                while (await ledger.read()).next() is not None:
                    await anyio.sleep(0.05)
            stop.set()

    desk.with_log(run)


def test_a_stacker_is_requested_read_proposed_and_fitted_again(voting: Any) -> None:
    voting.issue(SetTrainingPolicy(shadow=False))
    voting.with_log(lambda log: record(log, 1200))
    assert "expected one" in voting("vote", "propose", "--fitted", "ab").err
    job = json.loads(voting("train", "stacker", "--base", "mean", "-o", "json", *WHY).out)["job"]
    assert "is waiting; wait until it ends" in voting("train", "stacker", *WHY).err
    waiting = voting("vote", "propose", "--fitted", job[:8])
    assert (waiting.code, "a stacker on mean, waiting" in waiting.out) == (3, True)
    assert "has no result to compare with" in voting("train", "verify", job).err
    ended_by_a_trainer(voting)

    [row] = json.loads(voting("train", "status", "-o", "json").out)["jobs"]
    assert (row["state"], row["ended"]["shadow"]) == ("completed", False)
    digest = row["ended"]["digest"]
    assert f"{digest[:12]} not in shadow" in voting("train", "status").out
    shown = " ".join(voting("train", "status", job[:8]).out.split())
    assert "used" in shown
    assert "the training policy leaves shadows to people" in shown
    assert f"over the policy in force on {row['ended']['later']['rounds']} later rounds" in shown
    assert voting("train", "watch", job).code == 0

    assert "--shadow needs --reason" in voting("vote", "propose", "--fitted", job, "--shadow").err
    assert "leave --stacker" in voting("vote", "propose", "--fitted", job, "--stacker").err
    proposed = voting("vote", "propose", "--fitted", job[:8], "--shadow", *WHY)
    assert proposed.code == 0, proposed.err
    state = voting.with_log(current)
    assert state.policy_shadows == (digest,)
    assert state.policies[digest].scale == row["ended"]["scale"]

    voting.with_log(lambda log: record(log, 100, first=1200))
    for name in (job[:8], digest[:8]):
        again = voting("train", "verify", name)
        assert (again.code, f"the same: job {job[:12]} gives each number again" in again.out) == (0, True), again.err


def test_a_fit_that_was_rejected_is_shown_and_not_proposed(voting: Any) -> None:
    voting.with_log(lambda log: record(log, 150))
    job = voting("train", "stacker", *WHY).out.split()[-1]
    ended_by_a_trainer(voting)
    watched = voting("train", "watch", job)
    assert (watched.code, "too_few_rounds: 150 rounds have an outcome" in " ".join(watched.out.split())) == (1, True)
    proposed = voting("vote", "propose", "--fitted", job, "--shadow", *WHY)
    assert (proposed.code, voting.with_log(current).policy_shadows) == (3, ())
    assert voting("train", "verify", job).code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--since", "2026-02-01", "--until", "2026-01-01"), "--since 2026-02-01 is not before --until 2026-01-01"),
        (("--since", "1900-01-01"), "'1900-01-01': expected a time from 1970 on"),
        (("--share", "nan"), "nan is not in the range 0<x<1"),
    ],
)
def test_a_range_without_rounds_is_no_job(voting: Any, words: tuple[str, ...], why: str) -> None:
    refused = voting("train", "stacker", *words, *WHY)
    assert (refused.code, why in " ".join(refused.err.split())) == (2, True), refused.err
    assert json.loads(voting("train", "status", "-o", "json").out)["jobs"] == []


def test_a_time_before_1970_is_refused_by_what_reads_rounds(voting: Any) -> None:
    refused = voting("vote", "propose", "--since", "1900-01-01")
    assert (refused.code, "expected a time from 1970 on" in refused.err) == (2, True), refused.err


def test_a_fit_that_is_not_there_is_named(voting: Any) -> None:
    unknown = voting("train", "verify", "ffff")
    assert (unknown.code, "the job or voting policy of one fit of a stacker" in " ".join(unknown.err.split())) == (
        2,
        True,
    ), unknown.err


def test_while_a_stacker_is_fitted_no_epochs_are_shown(voting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.console.progress.SHOW_AFTER_S", -1.0)
    voting.with_log(lambda log: record(log, 150))
    job = voting("train", "stacker", *WHY).out.split()[-1]
    ended_by_a_trainer(voting)
    shown = voting("train", "watch", job).err
    assert ("ensemble: fitting" in shown, "epochs" in shown) == (True, False), shown


def test_a_fit_whose_rounds_are_gone_is_not_called_another_result(voting: Any) -> None:
    voting.with_log(lambda log: record(log, 150))
    job = voting("train", "stacker", *WHY).out.split()[-1]
    ended_by_a_trainer(voting)
    decisions = StreamKey("decisions", 0)

    with redis.Redis.from_url(voting.url) as client:
        client.xtrim(decisions.key, maxlen=50, approximate=False)
    again = voting("train", "verify", job)
    assert (again.code, f"entries of {decisions.key} are missing" in again.out) == (3, True), again.out
    assert json.loads(voting("train", "verify", job, "-o", "json").out)["missing"] == [decisions.key]
