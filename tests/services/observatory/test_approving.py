"""Two persons at the observatory: one proposes, another approves, and each sees first what would change."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from schemas.control import Approve, Promote, Propose, Refuse, SetApprovalRule, TrustKey
from shared.control.issuing import current, history, issue
from shared.control.signing import Signer, sign
from tests.services.observatory.test_acting import WHY, Acted, cheap, csrf, hidden, post_json, running
from tests.shared.control.test_issuing import A1, A2, artifact

pytestmark = pytest.mark.anyio
__all__ = ["cheap"]
FORCED = {"model": "a", "artifact": A2[:4], "forced": "yes", "accept_changes": "yes"}


@pytest.fixture
async def ruled(tmp_path: Path) -> AsyncIterator[Acted]:
    """Ben approves promotions; Ada is an operator, Ben and Cy are approvers of the pages (version 6)."""
    async with running(tmp_path) as made:
        await issue(made.log, SetApprovalRule(("promote",), ("ben",)), actor="ada", reason="two see more")
        made.add("ada", "operator")
        made.add("ben", "approver")
        made.add("cy", "approver")
        made.add("vi", "viewer")
        yield made


async def shown(client: httpx.AsyncClient, form: str, fields: dict[str, str], reason: str) -> httpx.Response:
    """The page that shows what would change, or why not."""
    token = csrf(await client.get("/act"))
    return await client.post(f"/act/{form}", data={**fields, "reason": reason, "_csrf_token": token})


async def confirmed(client: httpx.AsyncClient, form: str, page: httpx.Response) -> httpx.Response:
    return await client.post(f"/act/{form}/issue", data=hidden(page, f'action="/act/{form}/issue"'))


async def proposed(acted: Acted) -> int:
    async with acted.signed_in("ada") as client:
        page = await shown(client, "propose", FORCED, "better in shadow")
        assert page.status_code == 200, page.text
        done = await confirmed(client, "propose", page)
        assert done.status_code == 200, done.text
    return (await current(acted.log)).version


async def test_one_proposes_and_another_approves_what_the_page_shows(ruled: Acted) -> None:
    async with ruled.signed_in("ada") as ada:
        alone = await shown(ada, "promote", FORCED, "alone")
        assert alone.status_code == 409
        assert "conclave propose promote" in alone.text
    number = await proposed(ruled)
    assert number == 7
    async with ruled.signed_in("ben") as ben:
        page = await shown(ben, "approve", {"proposal": str(number)}, "read its gates")
        assert page.status_code == 200
        assert f"<ins>{A2[:12]}</ins>" in page.text
        assert (await current(ruled.log)).models["a"].champion == A1
        assert "is version 8" in (await confirmed(ben, "approve", page)).text
        again = await shown(ben, "approve", {"proposal": str(number)}, "again")
        assert (again.status_code, "no proposal 7 is open" in again.text) == (409, True)
    assert (await current(ruled.log)).models["a"].champion == A2
    entries = (await history(ruled.log))[6:]
    assert [(type(entry.command), entry.actor, entry.reason) for entry in entries] == [
        (Propose, "ada", "better in shadow"),
        (Approve, "ben", "read its gates"),
    ]


async def test_what_waits_is_on_the_pages_of_all_and_its_buttons_are_for_those_who_may(ruled: Acted) -> None:
    number = await proposed(ruled)
    await ruled.site.projection.turn()
    async with ruled.signed_in("vi") as client:
        models = (await client.get("/models")).text
        assert "1 proposal waiting for a second person" in models
        assert "better in shadow" in models
        assert 'class="role-viewer"' in models
        found = (await client.get("/api/v1/proposals")).json()
        assert (found["commands"], found["approvers"]) == (["promote"], ["ben"])
        assert [(one["number"], one["by"], one["expired"]) for one in found["proposals"]] == [(number, "ada", False)]
    async with ruled.signed_in("ben") as client:
        assert f'href="/act/approve?proposal={number}"' in (await client.get("/act")).text
        assert f'value="{number}"' in (await client.get(f"/act/approve?proposal={number}")).text


async def test_the_page_lets_approvers_approve_and_control_only_those_whom_it_names(ruled: Acted) -> None:
    number = await proposed(ruled)
    fields = {"proposal": str(number)}
    async with ruled.signed_in("ada") as ada:
        refused = await shown(ada, "approve", fields, "mine")
        assert (refused.status_code, "--role approver" in refused.text) == (403, True)
        assert "Carry out what another person proposed" not in (await ada.get("/act")).text
        asked = {"values": fields, "reason": "mine", "command_id": "x"}
        assert (await post_json(ada, "/act/approve/draft", asked)).status_code == 403
    async with ruled.signed_in("cy") as cy:
        refused = await shown(cy, "approve", fields, "I would")
        assert (refused.status_code, "cy is no approver" in refused.text) == (409, True)
    async with ruled.signed_in("ada") as ada:
        page = await shown(ada, "refuse", fields, "changed my mind")
        assert (await confirmed(ada, "refuse", page)).status_code == 200
    assert (await history(ruled.log))[-1].command == Refuse(number)


async def test_a_person_with_the_role_of_approver_does_not_approve_a_proposal_of_their_own(ruled: Acted) -> None:
    async with ruled.signed_in("ben") as ben:
        await confirmed(ben, "propose", await shown(ben, "propose", FORCED, "mine"))
        refused = await shown(ben, "approve", {"proposal": "7"}, "mine")
        assert (refused.status_code, "another person approves it" in refused.text) == (409, True)


async def test_an_approval_is_refused_when_another_command_came_first(ruled: Acted) -> None:
    number = await proposed(ruled)
    async with ruled.signed_in("ben") as ben:
        page = await shown(ben, "approve", {"proposal": str(number)}, "read its gates")
        await issue(ruled.log, Refuse(number), actor="ada", reason="faster")
        refused = await confirmed(ben, "approve", page)
        assert (refused.status_code, "no proposal 7 is open" in refused.text) == (409, True)


async def test_programs_of_two_persons_do_the_same_with_keys(ruled: Acted) -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in ("ada", "ben")}
    signers = {name: Signer(name, key) for name, key in keys.items()}
    for name, signer in signers.items():
        await issue(
            ruled.log, TrustKey(name, signer.public_key, name), actor="ada", reason="test", signer=signers["ada"]
        )
    tokens = {"ada": ruled.file.add_token("ada", "operator", WHY), "ben": ruled.file.add_token("ben", "approver", WHY)}

    async def issued(name: str, command: dict[str, object]) -> httpx.Response:
        async with ruled.client(headers={"authorization": f"Bearer {tokens[name]}"}) as client:
            asked = {
                "command": command,
                "reason": "test",
                "command_id": f"{name}-1",
                "public_key": signers[name].public_key,
            }
            drafted = await client.post("/api/v1/acts/draft", json=asked)
            if drafted.status_code != 200:
                return drafted
            entry = drafted.json()["entry"]
            signed = {"entry": entry, "signature": sign(entry.encode(), signers[name])}
            return await client.post("/api/v1/acts/submit", json=signed)

    promote = {"type": "promote", "model": "a", "artifact": A2, "forced": True, "accept_changes": True}
    assert (await issued("ada", {"type": "propose", "command": promote})).status_code == 200
    number = (await current(ruled.log)).version
    approve = {"type": "approve", "proposal": number, "command": promote}
    assert (await issued("ada", approve)).status_code == 403
    other = {**approve, "command": {**promote, "probation": 5}}
    assert "not what proposal" in (await issued("ben", other)).json()["detail"]
    assert (await issued("ben", approve)).status_code == 200
    assert (await current(ruled.log)).models["a"].champion == A2
    newest = (await history(ruled.log))[-1]
    assert isinstance(newest.command, Approve)
    assert isinstance(newest.command.command, Promote)
    assert newest.key == "ben"


async def test_a_voting_policy_is_started_proposed_and_approved_in_forms(tmp_path: Path) -> None:
    async with running(tmp_path) as acted:
        labelled = structs.replace(artifact("a7" * 32), horizon=12, kappa=0.75)
        commands = (
            labelled,
            Promote("a", labelled.artifact, forced=True),
            SetApprovalRule(("promote_policy",), ("ben",)),
        )
        for command in commands:
            await issue(acted.log, command, actor="ada", reason="two see more")
        acted.add("ada", "operator")
        acted.add("ben", "approver")
        async with acted.signed_in("ada") as ada:
            page = await shown(ada, "start_policy_shadow", {"edge": "0.05"}, "it acts too seldom")
            assert "edge=0.05" in page.text
            assert (await confirmed(ada, "start_policy_shadow", page)).status_code == 200
            [digest] = (await current(acted.log)).policy_shadows
            listed = await shown(ada, "promote_policy", {"policy": digest[:6], "forced": "yes"}, "alone")
            assert (listed.status_code, "conclave propose promote-policy" in listed.text) == (409, True)
            assert f'<option value="{digest}">edge=0.05</option>' in listed.text
            page = await shown(ada, "propose_policy", {"policy": digest[:6], "forced": "yes"}, "better")
            assert (await confirmed(ada, "propose_policy", page)).status_code == 200
        number = (await current(acted.log)).version
        async with acted.signed_in("ben") as ben:
            page = await shown(ben, "approve", {"proposal": str(number)}, "read its gates")
            assert "<ins>0.05</ins>" in page.text
            assert (await confirmed(ben, "approve", page)).status_code == 200
        assert (await current(acted.log)).policy.edge == 0.05
