"""Retraining as a person meets it: asked for, watched, proved, refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.installation import Installation, running

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "3000", "--source-seed", "2")
WHY = ("--reason", "a test")

pytestmark = pytest.mark.long


def jobs(installation: Installation, *words: str) -> Any:
    return json.loads(installation.conclave("train", "status", *words, "-o", "json"))["jobs"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("retraining")
    made = Installation(folder, models=("m", "other"), extra="\n[training]\nfree_gb = 0.0\n")
    with running(made):
        made.conclave("policy", "training", "on_drift=false", "on_decay=false", *WHY)
        made.train("m", *BARS, family="logistic")
        made.conclave("policy", "voting", "quorum_count=1", *WHY)
        made.conclave("feed", *BARS)
        yield made


def test_a_request_ends_in_shadow_and_can_be_trained_again_to_the_bit(installation: Installation) -> None:
    said = installation.conclave("train", "request", "--model", "m", "--wait", *WHY)
    assert "in shadow; over prior" in said
    [job] = jobs(installation)
    assert (job["state"], job["request"]["cause"], job["request"]["recipe"]["family"]) == (
        "completed", "operator", "logistic",
    )  # fmt: skip
    again = json.loads(installation.conclave("train", "verify", job["ended"]["artifact"], "-o", "json"))
    assert (again["same"], again["bars"], again["vectors"]) == (True, "the same", "the same")
    rebuilt = json.loads(installation.conclave("train", "verify", job["ended"]["artifact"], *BARS, "-o", "json"))
    assert (rebuilt["same"], rebuilt["bars"], rebuilt["vectors"]) == (True, "the same", "the same")
    status = json.loads(installation.conclave("status", "-o", "json"))
    assert job["ended"]["artifact"] in json.dumps(status)
    shown = installation.conclave("train", "status", job["id"][:8])
    assert "3,000" in shown


def test_a_person_may_request_again_at_once_and_a_collapse_is_refused(installation: Installation) -> None:
    blind = ("--family", "lightgbm", "--param", "learning_rate=1e-7")
    installation.conclave("train", "request", "--model", "m", *blind, "--wait", *WHY, code=1)
    newest = jobs(installation)[-1]
    assert (newest["state"], newest["ended"]["reason"]) == ("rejected", "no_information")
    assert list((installation.folder / "var" / newest["ended"]["quarantine"]).iterdir())


def test_a_model_without_a_champion_needs_a_family(installation: Installation) -> None:
    said = installation.conclave("train", "request", "--model", "other", *WHY, code=2)
    assert "--family is needed: 'other' has no champion whose recipe" in said


def test_what_no_job_made_cannot_be_verified(installation: Installation) -> None:
    stored = installation.conclave("artifacts", "list", "-o", "json").splitlines()
    of_jobs = {(job.get("ended") or {}).get("artifact") for job in jobs(installation)}
    others = {json.loads(line)["digest"] for line in stored} - of_jobs
    said = installation.conclave("train", "verify", others.pop(), code=1)
    assert "no job of the trainer made" in said


def test_nothing_to_watch_is_said(installation: Installation) -> None:
    assert "no job runs or waits" in installation.conclave("train", "watch", code=2)
