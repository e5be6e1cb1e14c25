"""The tutorial for a server, followed on a booted systemd (``machine.py``): each block marked ``sh``, in order."""

import json
import re
import time
from functools import reduce

import pytest
from machine import ROOT, booted, say

PAGE = ROOT / "docs" / "tutorial" / "vps.md"
EXAMPLES = {"a71114": r"^([0-9a-f]{6})[0-9a-f]{58}$", "--to 10": r"^promote: is (version \d+), head"}
"""What the page calls the reader's own artifact and version, and how the reader is told of them."""


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.stack
def test_the_tutorial_leads_to_a_promotion_that_gates_allowed_and_back(pytestconfig: pytest.Config) -> None:
    begun, took = time.monotonic(), dict[str, float]()
    own: dict[str, str] = {}
    with booted() as machine:
        for block in blocks():
            told = reduce(lambda text, each: text.replace(*each), own.items(), block)
            said = machine.run("env", "PIP_NO_INDEX=1", "sh", "-ec", told, limit_s=240)
            for example, pattern in EXAMPLES.items():
                for name in re.findall(pattern, said, re.MULTILINE):
                    own[example] = name.replace("version", "--to")
            for what in ("systemd/install.sh", "conclave-feed", "--dry-run", "conclave promote"):
                if what in block:
                    took.setdefault(what, time.monotonic() - begun)
        say(pytestconfig, "tutorial: " + ", ".join(f"{what} after {seconds:.0f} s" for what, seconds in took.items()))
        champions = re.findall(r"xgboost +│[^│]*│ ([0-9a-f]{6})", machine.conclave("status"))
        assert champions == [own["a71114"]]
        history = machine.conclave("history", "-o", "json").splitlines()
        promoted = [one for one in map(json.loads, history) if one["command"]["type"] == "promote"]
        assert [one["command"]["forced"] for one in promoted] == [True, True, False]
        assert machine.decided()
