"""The tutorial for a server, followed on a booted systemd (``machine.py``): each block marked ``sh``, in order."""

import re
import time

import pytest
from machine import ROOT, booted, say

PAGE = ROOT / "docs" / "tutorial" / "vps.md"
EXAMPLE = "a71114"
"""The artifact's name in the page; a reader has another."""


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.stack
def test_the_tutorial_leads_to_a_promotion_that_gates_allowed_and_back(pytestconfig: pytest.Config) -> None:
    begun, candidate = time.monotonic(), ""
    took: dict[str, float] = {}
    with booted() as machine:
        for block in blocks():
            said = machine.run("env", "PIP_NO_INDEX=1", "sh", "-ec", block.replace(EXAMPLE, candidate[:6] or EXAMPLE))
            candidate = (re.findall(r"^[0-9a-f]{64}$", said, re.MULTILINE) or [candidate])[-1]
            for what in ("systemd/install.sh", "conclave-feed", "conclave gates", "conclave promote"):
                if what in block:
                    took.setdefault(what, time.monotonic() - begun)
        say(pytestconfig, "tutorial: " + ", ".join(f"{what} after {seconds:.0f} s" for what, seconds in took.items()))
        champions = re.findall(r"xgboost +│[^│]*│ ([0-9a-f]{12}) ", machine.conclave("status"))
        assert champions == [candidate[:12]]
        assert '"forced":false' in machine.conclave("history", "-o", "json").replace(" ", "")
        assert machine.decided()
