"""Voting policies on the screen Models: side by side, judged, and in which rounds they would have acted otherwise."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import UNSET

from bench.replayed import Replayed, record
from schemas.codec import decode
from schemas.control import (
    PromotePolicy,
    Rollback,
    SetApprovalRule,
    SetVotingPolicy,
    StackedMember,
    Stacker,
    StartPolicyShadow,
    StopPolicyShadow,
)
from services.observatory.computing import AskedPack
from services.observatory.journal import DIFFERENT
from services.observatory.screens import models
from services.observatory.screens.votes import VoteShown
from shared.control.issuing import current, issue
from shared.control.policies import policy_digest
from shared.control.stream import CONTROL
from shared.log import StreamKey
from tests.services.observatory.busy import count_sealed_files
from tests.services.observatory.conftest import Opened, Served, showing
from tests.services.observatory.test_browser import AXE, CHROMIUM, browsing
from tests.services.observatory.test_web import answer, api
from tests.services.observatory.test_whatif import recorded, until

pytestmark = pytest.mark.anyio
IN_FORCE = SetVotingPolicy(quorum_count=1, edge=0.05)
SHARP = SetVotingPolicy(rule="mean", quorum_count=1, edge=0.02, temperature=0.8)
SHADOW = policy_digest(SHARP)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    return record(
        tmp_path_factory.mktemp("artifacts"), ("logistic",), fed=2600, more=[StartPolicyShadow(SHARP, scale=0.01)]
    )


@pytest.fixture
async def voting(judged: Replayed, opened: Opened) -> AsyncIterator[Served]:
    async with showing(judged, opened) as running:
        yield running


def vote(served: Served) -> VoteShown:
    projection = served.site.projection
    return models.screen(projection.state, projection.newest).vote


async def test_the_policies_are_side_by_side_with_what_differs(voting: Served) -> None:
    shown = vote(voting)
    assert [(one.role, one.digest) for one in shown.policies] == [
        ("in force", policy_digest(IN_FORCE)),
        ("shadow", SHADOW),
    ]
    fields = {field.name: field for field in shown.fields}
    assert (fields["edge"].values, fields["edge"].differs) == (("0.05", "0.02"), (False, True))
    assert not any(fields["quorum_count"].differs)
    assert "cost" not in fields
    page = (await answer(voting, "/models")).text
    assert "<ins>0.02</ins>" in page
    assert "rule=mean, edge=0.02, temperature=0.8" in page


async def test_evidence_is_against_the_policy_in_force_and_its_e_value_against_its_line_over_time(
    voting: Served,
) -> None:
    _, one = vote(voting).policies
    assert one.scored > 500
    assert one.over_in_force is not None
    assert len(one.e_values) > 1
    assert one.line == pytest.approx(2.9957, abs=0.1)
    assert one.verdict is not None
    assert {"improvement", "incumbent", "skill"} <= {gate.name for gate in one.verdict.gates}
    page = (await answer(voting, "/models")).text
    assert f'id="g-{SHADOW[:12]}"' in page
    assert "ln E over the policy in force after" in page
    found = (await api(voting, "models"))["vote"]["policies"][1]
    assert (found["digest"], found["verdict"]["id"]) == (SHADOW, one.verdict.id)


async def test_the_rounds_that_would_differ_are_counted_and_the_last_are_listed(
    voting: Served, judged: Replayed
) -> None:
    decisions = [decode("decisions", entry.data) for entry in judged.source.places[StreamKey("decisions")]]
    differ = []
    for made in decisions:
        assert made.event.candidates is not UNSET
        if made.event.candidates[0].action != made.event.action:
            differ.append(made.id.hex())
    rounds = vote(voting).policies[1].rounds
    assert rounds is not None
    assert (rounds.rounds, rounds.differ) == (2600, len(differ))
    assert len(differ) > DIFFERENT
    assert [one.decision for one in rounds.last] == differ[: -DIFFERENT - 1 : -1]
    page = (await answer(voting, "/models")).text
    assert f'href="/decision/{differ[-1]}"' in page
    assert f"{len(differ):,} of 2,600 rounds differ" in page


async def test_a_decision_shows_what_the_policy_in_shadow_would_have_decided(voting: Served) -> None:
    rounds = vote(voting).policies[1].rounds
    assert rounds is not None
    one = rounds.last[0]
    page = (await answer(voting, f"/decision/{one.decision}")).text
    assert f"Voting policy <code>{SHADOW[:12]}</code>, in shadow" in page
    assert '<span class="tag">differs</span>' in page
    [shown] = (await api(voting, f"decisions/{one.decision}"))["policies"]
    assert (shown["artifact"], shown["action"]) == (SHADOW[:12], one.other)


async def test_after_a_promotion_only_rounds_against_the_new_policy_count(voting: Served) -> None:
    log = voting.site.projection.log
    await issue(log, PromotePolicy(SHADOW, forced=True, probation=50), actor="ada", reason="better")
    await voting.turn()
    first, former = vote(voting).policies
    assert (first.digest, first.probation, former.digest) == (SHADOW, 50, policy_digest(IN_FORCE))
    assert former.rounds is None
    assert first.scored == 0
    await issue(log, Rollback(model="ensemble"), actor="ada", reason="worse")
    await voting.turn()
    _, back = vote(voting).policies
    assert back.rounds is not None
    assert back.rounds.rounds == 2600


async def test_history_makes_the_pack_of_a_promoted_policy_and_its_verdict_is_reached_again(
    voting: Served, judged: Replayed, tmp_path: Path
) -> None:
    verdict = vote(voting).policies[1].verdict
    assert verdict is not None
    log, computations = voting.site.projection.log, voting.site.computations
    issued = await issue(log, PromotePolicy(SHADOW, verdict=verdict.id), actor="ada", reason="its gates")
    await voting.turn()
    [*_, entry] = await log.scan(CONTROL)
    source = type(judged.source)()
    source.places = {place: list(entries) for place, entries in judged.source.places.items()}
    source.write("control", entry.data)
    count_sealed_files(voting, recorded(judged._replace(source=source), tmp_path))
    assert f'href="/history/{issued.version}/proof"' in (await answer(voting, "/history")).text
    pack = computations.start(AskedPack(issued.version))
    await until(lambda: pack.state not in {"waiting", "running"})
    checks = {one["what"]: one for one in (await api(voting, f"versions/{issued.version}/proof"))["checks"]}
    assert all(one["good"] for one in checks.values()), checks
    assert "gates follow from the scores" in checks["verdict reached again"]["found"]


async def test_a_stacker_is_shown_with_its_numbers_and_a_rule_of_two_persons_leads_to_a_proposal(
    voting: Served,
) -> None:
    log = voting.site.projection.log
    model, artifact = next((name, each.champion) for name, each in (await current(log)).models.items() if each.champion)
    rows = ((0.5, 0.0, -0.5), (0.0, 0.25, 0.0), (-0.5, 0.0, 0.5))
    stacker = SetVotingPolicy(
        rule="stacker", quorum_count=1, stacker=Stacker("mean", (StackedMember(model, artifact or "", rows),))
    )
    await issue(log, stacker, actor="ada", reason="try it")
    await issue(log, SetApprovalRule(("promote_policy",), ("ben",)), actor="ada", reason="two see more")
    await voting.turn()
    shown = vote(voting)
    [member] = shown.members
    assert (member.model, member.rows) == (model, rows)
    assert shown.held
    page = (await answer(voting, "/models")).text
    assert f"{model} in the stacker of {policy_digest(stacker)[:12]}" in page
    assert "+0.250" in page


async def test_without_policies_in_shadow_the_one_in_force_is_shown(voting: Served) -> None:
    await issue(voting.site.projection.log, StopPolicyShadow(SHADOW), actor="ada", reason="enough seen")
    await voting.turn()
    [one] = vote(voting).policies
    assert (one.role, one.over_in_force, one.rounds) == ("in force", None, None)
    assert "none in shadow" in (await answer(voting, "/models")).text


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
async def test_the_screen_fits_desk_and_phone_without_a_serious_fault_of_access(voting: Served) -> None:
    axe, folder = AXE.read_text(encoding="utf-8"), os.environ.get("SCREENSHOTS")
    async with browsing(voting.url) as browser:
        for size, scheme in (("desk", "light"), ("desk", "dark"), ("phone", "light"), ("phone", "dark")):
            page = await browser.page(size, scheme)
            await page.goto(f"{voting.url}/models")
            await page.get_by_text("live", exact=True).wait_for()
            for each in await page.locator("section[aria-labelledby='m-vote'] details > summary").all():
                await each.click()
            if folder:
                await page.screenshot(path=Path(folder) / f"votes-{size}-{scheme}.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
            await page.evaluate(axe)
            found = await page.evaluate("axe.run({resultTypes: ['violations']})")
            serious = [each["id"] for each in found["violations"] if each["impact"] in {"serious", "critical"}]
            assert serious == []
            await page.context.close()
