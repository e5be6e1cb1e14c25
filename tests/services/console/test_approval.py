"""Two persons at the console: one proposes a promotion, another approves it, and everyone sees both names."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.recorded import record, verdict
from shared.control import State
from shared.control.issuing import current
from shared.control.policies import policy_digest
from shared.gates.policies import digest_of
from shared.log import Log
from tests.services.console.conftest import A1, A2
from tests.services.console.test_vote import labelled

SCRIPT = Path(__file__).parents[3] / "deploy" / "proof" / "check_proof.py"
ADA = ("--reason", "better in shadow", "--actor", "ada")
BEN = ("--reason", "read its gates", "--actor", "ben")
RULE = ("policy", "approval", "promote", "--approver", "ben")


def state(desk: Any) -> State:
    found: State = desk.with_log(current)
    return found


@pytest.fixture
def ruled(two: Any) -> Any:
    """A console where ben approves promotions, and A2 is ready and has passed its gates (version 7)."""

    async def judged(log: Log) -> None:
        passed = verdict(model="a", artifact=A2, champion=A1, policy_digest=digest_of(None))
        await record(log, "gates", [passed])

    two.with_log(judged)
    two.say_ready("a", A2)
    assert two(*RULE, *ADA).code == 0
    return two


def test_a_promotion_takes_two_persons_and_both_are_shown(ruled: Any) -> None:
    alone = ruled("promote", "a", A2[:6], *ADA)
    assert alone.code == 1
    assert "conclave propose promote" in alone.err

    proposed = ruled("propose", "promote", "a", A2[:6], *ADA)
    assert (proposed.code, proposed.out[:23]) == (0, "propose: is version 8, ")
    assert "it waits for ben until" in proposed.err
    assert "conclave approve 8" in proposed.err
    shown = ruled("status").out
    assert "a second person is needed to promote: ben" in shown
    assert "proposal 8 by ada" in shown
    assert json.loads(ruled("status", "-o", "json").out)["proposals"]["8"]["by"]["actor"] == "ada"
    assert state(ruled).models["a"].champion == A1

    assert "another person approves it" in ruled("approve", "8", *ADA).err
    looked = ruled("approve", "8", "--dry-run", *BEN)
    assert (looked.code, "a champion" in looked.out) == (0, True)
    assert state(ruled).models["a"].champion == A1
    assert ruled("approve", "8", "--expect", "7", *BEN).code == 1
    assert ruled("approve", "8", "--expect", "8", *BEN).code == 0
    assert state(ruled).models["a"].champion == A2
    assert "no proposal 8 is open" in ruled("approve", "8", *BEN).err

    history = ruled("history").out
    assert "propose command=(promote model=a" in history
    assert "approve proposal=8 command=(promote model=a" in history


def test_an_approval_collects_the_evidence_again(ruled: Any) -> None:
    assert ruled("propose", "promote", "a", A2[:6], *ADA).code == 0

    async def failed(log: Log) -> None:
        await record(log, "gates", [verdict("failed", model="a", artifact=A2, champion=A1)])

    ruled.with_log(failed)
    ended = ruled("approve", "8", *BEN)
    assert ended.code == 1
    assert "no passing gate verdict" in ended.err
    assert "failed after 4800 scores" in ended.err


def test_a_proof_names_both_and_holds(ruled: Any, tmp_path: Path) -> None:
    assert ruled("propose", "promote", "a", A2[:6], *ADA).code == 0
    assert ruled("approve", "8", *BEN).code == 0
    assert ruled("keys", "new", str(tmp_path / "auditor.pem")).code == 0
    made = ruled("proof", "make", "a", "--key", str(tmp_path / "auditor.pem"), "--out", str(tmp_path))
    assert made.code == 0, made.err
    file = next(tmp_path.glob("proof-*.json"))
    pack = json.loads(file.read_text())
    what = pack["body"]["what"]
    assert (what["by"], what["proposed"]["by"], what["proposed"]["version"]) == ("ben", "ada", 8)
    assert [row["what"] for row in pack["body"]["audit_trail"]][-2:] == ["propose", "approve"]
    assert ruled("proof", "check", str(file)).code == 0
    assert "A second person proposed it: ada" in file.with_suffix(".html").read_text()
    words = [sys.executable, "-I", str(SCRIPT), str(file)]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_pack_without_a_signature_is_signed_afterwards(ruled: Any, tmp_path: Path) -> None:
    assert ruled("propose", "promote", "a", A2[:6], *ADA).code == 0
    assert ruled("approve", "8", *BEN).code == 0
    assert ruled("keys", "new", str(tmp_path / "auditor.pem")).code == 0
    assert ruled("proof", "make", "a", "--out", str(tmp_path)).code == 0
    file = next(tmp_path.glob("proof-*.json"))
    assert "the pack is not signed" in ruled("proof", "check", str(file)).out
    assert "Not signed" in file.with_suffix(".html").read_text()
    pack = json.loads(file.read_text())
    signing = ("proof", "sign", str(file), "--key", str(tmp_path / "auditor.pem"))
    file.write_text(json.dumps({**pack, "body": {**pack["body"], "head": "ab" * 32}}))
    assert ruled(*signing).code == 1  # a claim does not hold
    assert "signature" not in json.loads(file.read_text())
    file.write_text(json.dumps(pack))
    assert ruled(*signing).code == 0
    assert ruled("proof", "check", str(file)).code == 0
    assert "Signed by auditor" in file.with_suffix(".html").read_text()
    again = ruled(*signing)
    assert (again.code, "signed before" in again.err) == (2, True)


def test_a_person_withdraws_or_is_refused(ruled: Any) -> None:
    for who in (ADA, BEN):
        assert ruled("propose", "promote", "a", A2[:6], *ADA).code == 0
        number = str(state(ruled).version)
        assert "neither refuse nor withdraw" in ruled("refuse", number, "--reason", "no", "--actor", "dan").err
        assert ruled("refuse", number, *who).code == 0
        assert not state(ruled).proposals


def test_the_rule_is_changed_by_two_persons(ruled: Any) -> None:
    assert "conclave propose approval" in ruled("policy", "approval", *ADA).err
    assert ruled("propose", "approval", *ADA).code == 0
    assert ruled("approve", "8", *BEN).code == 0
    assert not state(ruled).approval.commands
    assert ruled("promote", "a", A2[:6], *ADA).code == 0


def test_weights_are_proposed_where_the_rule_names_them(two: Any) -> None:
    assert two("policy", "approval", "promote", "set_weights", "--approver", "ben", *ADA).code == 0
    assert two("weights", "a=0.9", "b=0.1", *ADA).code == 1
    assert two("propose", "weights", "a=0.9", "b=0.1", "--hours", "2", *ADA).code == 0
    assert two("approve", "8", *BEN).code == 0
    assert state(two).models["a"].weight == 0.9


def test_a_rule_needs_its_approvers_and_its_commands(two: Any) -> None:
    assert "names who approves" in two("policy", "approval", "promote", *ADA).err
    assert two("policy", "approval", "--approver", "ben", *ADA).code == 2
    assert two("policy", "approval", "halt", "--approver", "ben", *ADA).code == 2


def test_an_approval_in_a_file_says_what_it_approves(ruled: Any, tmp_path: Path) -> None:
    promote = {"type": "promote", "model": "a", "artifact": A2, "ford": True}
    file = tmp_path / "command.json"
    issued = {"command": {"type": "propose", "command": promote}, "actor": "ada", "reason": "x", "command_id": "1"}
    file.write_text(json.dumps(issued))
    assert "has no field ford" in ruled("issue", str(file)).err
    del promote["ford"]
    file.write_text(json.dumps(issued))
    assert ruled("issue", str(file)).code == 0


def test_a_voting_policy_takes_two_persons_however_it_is_changed(desk: Any) -> None:
    labelled(desk)
    assert desk("vote", "start", "edge=0.05", *ADA).code == 0
    [digest] = state(desk).policy_shadows
    assert desk("policy", "approval", "promote_policy", "set_ladder", "--approver", "ben", *ADA).code == 0
    for words, way in (
        (("vote", "promote", digest[:6], "--force"), "promote-policy"),
        (("policy", "voting", "edge=0.02"), "voting"),
        (("ladder", "set", "0.01", "0.5"), "ladder"),
    ):
        ended = desk(*words, *BEN)
        assert (ended.code, f"conclave propose {way}" in ended.err) == (1, True)

    refused = desk("propose", "promote-policy", digest[:6], *ADA)
    assert (refused.code, "no passing gate verdict" in refused.err) == (1, True)

    in_force = state(desk).policy

    async def judged(log: Log) -> None:
        passed = verdict(
            model="ensemble",
            artifact=digest,
            champion=policy_digest(in_force),
            policy_digest=digest_of(None),
        )
        await record(log, "gates", [passed])

    desk.with_log(judged)
    assert desk("propose", "promote-policy", digest[:6], *ADA).code == 0
    number = str(state(desk).version)
    assert "proposal " + number + " by ada" in desk("status").out
    assert f"promote_policy policy={digest[:12]}" in " ".join(desk("status").out.split())
    assert "another person approves it" in desk("approve", number, *ADA).err
    looked = desk("approve", number, "--dry-run", *BEN)
    assert (looked.code, "policy edge" in looked.out) == (0, True)
    assert desk("approve", number, *BEN).code == 0
    assert state(desk).policy.edge == 0.05

    for change in (("voting", "edge=0.02"), ("ladder", "0.01", "0.5")):
        assert desk("propose", *change, *ADA).code == 0
        assert desk("approve", str(state(desk).version), *BEN).code == 0
    assert (state(desk).policy.edge, state(desk).ladder.steps) == (0.02, (0.01, 0.5))
