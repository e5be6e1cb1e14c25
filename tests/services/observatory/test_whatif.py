"""The screen What if: recorded ballots counted again, one question at a time, in a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from bench.replayed import Replayed, seal_all
from services.console.audit.computing import compute
from services.observatory.computing import AskedWhatif, BusyError, asked_of
from shared.audit.computing import ComputeProgress, ComputeRequest, WhatifComputed, WhatifWork
from shared.audit.whatif import Changes
from shared.settings import Archive, Installation, Settings
from tests.services.observatory.busy import count_sealed_files
from tests.services.observatory.conftest import Served
from tests.services.observatory.test_web import answer, api

pytestmark = pytest.mark.anyio


def recorded(replayed: Replayed, folder: Path) -> Settings:
    """Settings of an installation that is recorded in an archive."""
    seal_all(replayed, folder / "archive")
    (folder / "artifacts").symlink_to(replayed.store.path)
    return Settings(installation=Installation(state=str(folder)), archive=Archive(path=str(folder / "archive")))


@pytest.fixture
async def counting(served: Served, replayed: Replayed, tmp_path: Path) -> Served:
    """An observatory whose what-ifs read sealed files alone."""
    count_sealed_files(served, recorded(replayed, tmp_path))
    return served


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.02)


def test_the_child_counts_what_the_console_counts_and_reports_how_far_it_is(replayed: Replayed, tmp_path: Path) -> None:
    settings = recorded(replayed, tmp_path)
    reports: list[ComputeProgress] = []
    request = ComputeRequest(
        settings=settings, work=WhatifWork(Changes(weights={"logistic": 0.9})), now=1_800_000_000_000,
        parent=0, archive=settings.archive.path,
    )  # fmt: skip
    line = compute(request, reports.append)
    assert isinstance(line, WhatifComputed)
    assert line.result.rounds > 500
    assert line.result.moved > 0
    assert {report.stage for report in reports} == {"outcomes", "rounds"}
    assert all(0.0 <= report.share <= 1.0 for report in reports)
    same = compute(msgspec.structs.replace(request, work=WhatifWork(Changes())), reports.append)
    assert isinstance(same, WhatifComputed)
    assert same.result.moved == 0


def test_a_question_has_one_name_however_its_values_are_ordered() -> None:
    one = asked_of([("a", "1f")], [("x", "0.5"), ("y", "")], ["z"], [("edge", "0.2"), ("rule", "")])
    assert one == AskedWhatif(Changes({"a": "1f"}, {"x": 0.5, "z": 0.0}, {"edge": "0.2"}))
    assert one.name == asked_of([("a", "1f")], [("z", "0"), ("x", "0.5")], [], [("edge", "0.2")]).name
    assert one.name != asked_of([("a", "1f")], [("x", "0.5")], ["z"], [("edge", "0.2")], since=1).name


async def test_a_what_if_runs_as_a_process_and_its_result_is_kept(counting: Served) -> None:
    begun = await api(counting, "whatif?weight=logistic=0.9&start=true")
    assert begun["trial"]["state"] in {"waiting", "running"}
    await until(lambda: counting.site.computations.running is None)
    shown = await api(counting, "whatif?weight=logistic=0.9")
    assert (shown["trial"]["state"], shown["trial"]["reason"]) == ("done", "")
    assert shown["trial"]["result"]["moved"] > 0
    assert (await api(counting, "whatif?weight=logistic=0.9&start=true"))["trial"] == shown["trial"]
    name = shown["trial"]["name"]
    page = (await answer(counting, f"/whatif?name={name}")).text
    assert "weight of logistic 0.9" in page
    assert "Signed return" in page
    assert "<html" not in (await answer(counting, f"/whatif/result?name={name}")).text
    await api(counting, "whatif?weight=unknown=0.5&start=true")
    await until(lambda: counting.site.computations.running is None)
    refused = (await api(counting, "whatif?weight=unknown=0.5"))["trial"]
    assert refused["state"] == "failed"
    assert "unknown does not vote" in refused["reason"]


async def test_one_runs_at_a_time_and_can_be_cancelled(counting: Served) -> None:
    trials = counting.site.computations
    first = trials.start(AskedWhatif())
    assert trials.start(AskedWhatif()) is first
    with pytest.raises(BusyError):
        trials.start(AskedWhatif(since=1))
    assert (await answer(counting, "/api/v1/whatif?since=1&start=true")).status_code == 409
    await until(lambda: first.state == "running")
    assert (await api(counting, "whatif/cancel"))["trial"]["state"] == "cancelled"
    assert trials.running is None
    second = trials.start(AskedWhatif(since=1))
    await until(lambda: second.state == "done")
    assert first.state == "cancelled"


async def test_a_process_that_is_killed_is_a_result_that_failed(counting: Served) -> None:
    trial = counting.site.computations.start(AskedWhatif())
    await until(lambda: counting.site.computations._process is not None)
    process = counting.site.computations._process
    assert process is not None
    process.kill()
    await until(lambda: trial.state == "failed")
    assert "without a result" in trial.reason


async def test_a_name_that_is_given_twice_or_without_a_value_is_refused(counting: Served) -> None:
    for query, why in (("weight=a=0.1&weight=a=0.2", "a is given twice"), ("policy=edge", "expected NAME=VALUE")):
        found = await answer(counting, f"/api/v1/whatif?{query}")
        assert found.status_code == 400
        assert why in found.json()["detail"]


async def test_a_form_leads_to_the_address_of_its_question(counting: Served) -> None:
    path = "/whatif?weight.logistic=0.8&champion.logistic=&policy.edge=&since=2024-01-01T00:00&until="
    found = await answer(counting, path)
    assert found.status_code == 302
    running: Any = counting.site.computations.running
    assert running.asked == AskedWhatif(Changes(weights={"logistic": 0.8}), since=1_704_067_200_000)
    assert found.headers["location"] == f"/whatif?name={running.asked.name}"
    page = (await answer(counting, found.headers["location"])).text
    assert 'value="0.8"' in page
    assert 'value="2024-01-01T00:00"' in page
    assert (await answer(counting, "/whatif?weight.logistic=much")).status_code == 404


@pytest.mark.parametrize("path", ["/whatif?weight.logistic=0.8", "/whatif/cancel", "/api/v1/whatif?start=true"])
async def test_a_page_of_another_site_starts_and_ends_nothing(counting: Served, path: str) -> None:
    found: httpx.Response = await answer(counting, path, headers={"sec-fetch-site": "cross-site"})
    assert found.status_code == 403
    assert counting.site.computations.running is None
