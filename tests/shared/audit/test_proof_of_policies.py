"""A proof pack of a voting policy: its content, its verdict, and the scores from which both checkers count again."""

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bench.recorded_rounds import Control
from bench.replayed import Replayed, record
from schemas.codec import decode, encode
from schemas.control import PromotePolicy, Rollback, SetVotingPolicy, StartPolicyShadow
from services.console.audit.judging import judged_again
from shared.audit import proof_scores
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof import gather, sign_pack
from shared.audit.proof_checks import PROMOTION, SIGNATURE, check
from shared.audit.proof_subject import provable
from shared.control.policies import policy_digest, policy_text
from shared.control.signing import generate, load_private
from shared.report.proof import page
from tests.shared.audit.test_proof import scripted

IN_FORCE = SetVotingPolicy(quorum_count=1, edge=0.05)
SHARP = SetVotingPolicy(rule="mean", quorum_count=1, edge=0.02, temperature=0.8)
DIGEST = policy_digest(SHARP)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The policy is in shadow from the beginning; it is promoted half way, by force."""
    promoted = PromotePolicy(DIGEST, forced=True)
    folder, start = tmp_path_factory.mktemp("artifacts"), StartPolicyShadow(SHARP)
    return record(folder, ("logistic",), fed=2400, more=[start], halfway=[promoted])


@pytest.fixture(scope="module")
def configurations(judged: Replayed) -> Configurations:
    return Configurations(judged.source, Findings())


@pytest.fixture(scope="module")
def pack(judged: Replayed, configurations: Configurations, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return signed(gather(judged.source, configurations, len(configurations.states)), tmp_path_factory.mktemp("keys"))


def signed(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A pack as it is read from its file."""
    key = folder / "ada.pem"
    generate(key)
    return json.loads(json.dumps(sign_pack(made, load_private(key))))  # type: ignore[no-any-return]  # JSON


def wrong(pack: dict[str, Any]) -> list[str]:
    return [one.what for one in check(pack, judge=judged_again) if not one.good]


def test_a_pack_of_a_policy_holds_for_both_checkers(pack: dict[str, Any], tmp_path: Path) -> None:
    assert wrong(pack) == []
    found = {one.what: one.detail for one in check(pack, judge=judged_again)}
    assert found[PROMOTION].startswith("FORCED")
    assert "gates follow from the scores" in found["verdict reached again"]
    done = scripted(pack, tmp_path, pack["signed_by"]["public_key"])
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ensemble {DIGEST[:12]} by ada" in done.stdout


def test_it_says_what_the_policy_is_and_on_what_evidence_it_came_into_force(pack: dict[str, Any]) -> None:
    body = pack["body"]
    assert body["what"]["content"] == policy_text(SHARP)
    assert set(body["what"]["differences"]) == {"rule=mean", "edge=0.02", "temperature=0.8"}
    (scores,) = body["scores"]
    carried = [one for one in pack["evidence"] if one["stream"] == "scores"]
    assert scores["scores"] == len(carried) >= 500
    assert scores["in_force"] == policy_digest(IN_FORCE) == body["rollback"]["former_champion"]
    (shadow,) = body["non_interference"]
    assert shadow["decisions_in_shadow"] == shadow["equal_without_it"] > 1000
    assert [(row["what"], row["artifact"]) for row in body["audit_trail"]] == [
        ("set_voting_policy", policy_digest(IN_FORCE)),
        ("start_policy_shadow", DIGEST),
        ("promote_policy", DIGEST),
    ]
    assert body["loaded"] == []
    shown = page(pack)
    for words in ("Scores of the verdict", "mean", "conclave rollback --model ensemble"):
        assert words in shown


def changed_score(pack: dict[str, Any]) -> None:
    """One score with another outcome, and the id of what it is now."""
    item = next(one for one in pack["evidence"] if one["stream"] == "scores")
    envelope = decode("scores", base64.b64decode(item["data"]))
    score = envelope.event
    forged = structs.replace(score, outcome="BUY" if score.outcome != "BUY" else "SELL")
    data = encode("scores", forged, causation=envelope.causation, correlation=envelope.correlation).data
    item["data"] = base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["body"]["what"].__setitem__("content", p["body"]["what"]["content"].replace("0.02", "0.03")),
        lambda p: p["body"]["scores"][0].__setitem__("gain", 0.5),
        lambda p: p["body"]["scores"][0].__setitem__("return", 0.5),
        lambda p: p["body"]["scores"][0].__setitem__("acts", 3),
        lambda p: p["evidence"].remove(next(one for one in p["evidence"] if one["stream"] == "scores")),
        changed_score,
    ],
)
def test_a_pack_of_a_policy_that_was_changed_falls_for_both_checkers(
    pack: dict[str, Any], tmp_path: Path, change: Any
) -> None:
    forged = copy.deepcopy(pack)
    change(forged)
    again = signed({name: forged[name] for name in ("format", "body", "evidence")}, tmp_path)
    assert wrong(again)
    assert SIGNATURE not in wrong(again)
    assert scripted(again, tmp_path).returncode == 1


def test_a_pack_that_would_be_too_long_says_so_and_holds(
    judged: Replayed, configurations: Configurations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_scores, "MOST", 100)
    short = signed(gather(judged.source, configurations, len(configurations.states)), tmp_path)
    assert "at most 100" in short["body"]["scores"][0]["left_out"]
    assert wrong(short) == []
    assert scripted(short, tmp_path).returncode == 0


def test_a_rollback_leads_to_the_pack_of_the_policy_that_is_in_force_again(judged: Replayed) -> None:
    source = type(judged.source)()
    source.places = {place: list(entries) for place, entries in judged.source.places.items()}
    control = Control(source)
    control.state, control.envelopes = Configurations(source, Findings()).newest, []
    promoted = control.state.version
    control.issue(SetVotingPolicy(quorum_count=1, edge=0.3), Rollback())
    found = Configurations(source, Findings())
    assert provable(found, promoted) == (promoted,)
    assert provable(found, promoted + 1) == ()
    assert provable(found, promoted + 2) == (promoted,)
