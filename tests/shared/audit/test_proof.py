"""A proof pack holds by itself, is signed, and falls with any change to it; so says a script without Conclave."""

import base64
import copy
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.replayed import Replayed
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof import ProofError, gather, sign_pack
from shared.audit.proof_checks import PROMOTION, check, reservations
from shared.control.signing import generate, load_private
from shared.report.proof import page

SCRIPT = Path(__file__).parents[3] / "deploy" / "proof" / "check_proof.py"


@pytest.fixture(scope="module")
def pack(replayed: Replayed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The candidate's promotion, signed."""
    key = tmp_path_factory.mktemp("keys") / "ada.pem"
    generate(key)
    configurations = Configurations(replayed.source, Findings())
    version = len(configurations.states)
    made = gather(replayed.source, configurations, version, replayed.store)
    return json.loads(json.dumps(sign_pack(made, load_private(key))))  # type: ignore[no-any-return]  # JSON


def scripted(pack: dict[str, Any], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = folder / "pack.json"
    path.write_text(json.dumps(pack))
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(path), *words], capture_output=True, text=True, check=False
    )


def test_a_pack_holds_and_says_what_ran_on_what_evidence(pack: dict[str, Any], replayed: Replayed) -> None:
    assert [one.what for one in check(pack) if not one.good] == []
    body = pack["body"]
    assert body["what"]["artifact"] == replayed.candidate
    assert {file["name"] for file in body["what"]["files"]} >= {"golden.npz"}
    assert body["loaded"]
    (proof,) = body["non_interference"]
    assert proof["decisions_in_shadow"] == proof["equal_without_it"] > 100
    assert proof["checked"] == proof["equal"] > 0
    assert body["behaviour"][0]["shadow"]["scores"] > 0
    assert body["rollback"]["former_champion"] == replayed.champions["logistic"]
    assert [entry["what"] for entry in body["audit_trail"]][-1] == "promote"


def test_a_script_without_conclave_comes_to_the_same(pack: dict[str, Any], tmp_path: Path) -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 250
    done = scripted(pack, tmp_path, pack["signed_by"]["public_key"])
    assert (done.returncode, done.stderr) == (0, "")
    assert scripted(pack, tmp_path, "ab" * 32).returncode == 1


@pytest.mark.parametrize(
    ("forced", "verdicts", "words"),
    [
        (False, ["passed"], ""),
        (False, ["failed", "passed"], "FAILED: 1 of 2 verdicts on it"),
        (True, ["failed"], "FORCED: promoted without a passed verdict; FAILED: 1 of 1 verdicts on it"),
        (True, ["inconclusive"], "FORCED: promoted without a passed verdict; no verdict on it passed"),
        (True, [], "FORCED: promoted without a passed verdict; no verdict on it passed"),
    ],
)
def test_what_speaks_against_a_promotion_comes_first_everywhere(
    pack: dict[str, Any], forced: bool, verdicts: list[str], words: str
) -> None:
    assert reservations(forced, verdicts) == words
    assert runpy.run_path(str(SCRIPT))["reservations"](forced, verdicts) == words
    changed = copy.deepcopy(pack)
    changed["body"]["what"]["forced"] = forced
    changed["body"]["gates"] = [{"overall": overall, "event": "77" * 16} for overall in verdicts]
    first = check(changed)[0]
    assert (first.detail if first.what == PROMOTION else "") == words
    shown = page(changed)
    assert not words or shown.index(words) < shown.index("Promoted by")


def test_a_forced_promotion_holds_and_says_so_first(pack: dict[str, Any], tmp_path: Path) -> None:
    assert pack["body"]["what"]["forced"]
    first = check(pack)[0]
    assert (first.what, first.good, first.detail[:7]) == (PROMOTION, True, "FORCED:")
    assert scripted(pack, tmp_path).stdout.splitlines()[0] == first.detail


def changed_evidence(pack: dict[str, Any], stream: str) -> None:
    for one in pack["evidence"]:
        if one["stream"] == stream:
            data = bytearray(base64.b64decode(one["data"]))
            data[-20] ^= 1
            one["data"] = base64.b64encode(bytes(data)).decode()
            return
    raise AssertionError(stream)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["body"]["what"].__setitem__("by", "mallory"),
        lambda p: p["body"]["what"].__setitem__("artifact", "ab" * 32),
        lambda p: p["body"].__setitem__("head", "ab" * 32),
        lambda p: p["body"]["what"].__setitem__("forced", not p["body"]["what"]["forced"]),
        lambda p: p["body"]["loaded"][0].__setitem__("event", "ab" * 16),
        lambda p: p["body"]["non_interference"][0].__setitem__("checked", 10**6),
        lambda p: p["body"]["non_interference"][0].__setitem__("equal_without_it", 3),
        lambda p: changed_evidence(p, "control"),
        lambda p: changed_evidence(p, "readiness"),
        lambda p: changed_evidence(p, "scores"),
    ],
)
def test_a_pack_that_was_changed_falls_though_it_is_signed_again(
    pack: dict[str, Any], tmp_path: Path, change: Any
) -> None:
    """Signed again by whoever changed it, it contradicts its own evidence; left as signed, its signature is wrong."""
    forged = copy.deepcopy(pack)
    change(forged)
    assert "signature" in [one.what for one in check(forged) if not one.good]
    key = tmp_path / "mallory.pem"
    generate(key)
    bare = {name: forged[name] for name in ("format", "body", "evidence")}
    again = json.loads(json.dumps(sign_pack(bare, load_private(key))))
    wrong = [one.what for one in check(again) if not one.good]
    assert wrong
    assert "signature" not in wrong
    assert scripted(again, tmp_path).returncode == 1
    assert not all(one.good for one in check(again, pack["signed_by"]["public_key"]) if one.what == "signature")


def test_what_is_no_promotion_cannot_be_proved(replayed: Replayed) -> None:
    configurations = Configurations(replayed.source, Findings())
    with pytest.raises(ProofError, match="is a found, not a promotion"):
        gather(replayed.source, configurations, 1)
    with pytest.raises(ProofError, match="there is no version 99"):
        gather(replayed.source, configurations, 99)


def test_what_is_no_pack_is_told_so() -> None:
    assert [one.good for one in check({"some": "thing"})] == [False]
    assert [one.good for one in check(["x"])] == [False]


def test_the_page_stands_alone(pack: dict[str, Any]) -> None:
    shown = page(pack)
    for words in ("What was deployed", "Evidence that it loaded", "The way back", "Audit trail", "conclave rollback"):
        assert words in shown
    assert "http" not in shown
