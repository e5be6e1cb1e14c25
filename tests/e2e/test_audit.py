"""An installation that really ran is verified, asked, blamed and proved, by the commands a person types."""

import json
from pathlib import Path

import pytest

from bench.installation import ONE_PROCESS, Installation, running

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "2500")
WHY = ("--reason", "a test")


@pytest.mark.long
def test_what_ran_is_the_same_again_and_can_be_proved(tmp_path: Path) -> None:
    installation = Installation(tmp_path, models=("m",))
    with running(installation, ONE_PROCESS):
        installation.train("m", *BARS, family="logistic")
        installation.conclave("policy", "voting", "quorum_count=1", *WHY)
        installation.conclave("feed", *BARS, "--limit", "1200")
        decided = [
            json.loads(line) for line in installation.conclave("decisions", "-n", "5", "-o", "json").splitlines()
        ]
        assert decided
        found = json.loads(installation.conclave("verify", "-o", "json"))
        assert found["verdict"] == "same"
        assert found["checked"]["features"] == found["equal"]["features"] == 1200
        assert found["equal"]["predictions"] == found["checked"]["predictions"] > 0
        asked = json.loads(installation.conclave("whatif", "-o", "json"))
        assert asked["rounds"] > 0
        assert asked["moved"] == 0
        installation.conclave("keys", "new", "ada.pem")
        installation.conclave("proof", "m", "--key", "ada.pem", "--out", "proofs")
        (pack,) = (tmp_path / "proofs").glob("*.json")
        installation.conclave("proof", "check", str(pack))
        public = json.loads(pack.read_text())["signed_by"]["public_key"]
        installation.conclave("proof", "check", str(pack), "--public", "ab" * 32, code=1)
        installation.conclave("proof", "check", str(pack), "--public", public)
