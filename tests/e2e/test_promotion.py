"""Promote, roll back and halt on a running installation, by the commands a person types."""

import json
import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from bench.installation import Installation, all_entries, running, wait_until
from bench.recorded import record, verdict
from schemas.codec import decode
from schemas.decisions import DecisionMade
from shared.control import State
from shared.control.issuing import current
from shared.gates.policies import digest_of
from shared.log import StreamKey

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "6000")
FED = (*BARS[:-1], "60000")
"""The same market, going on for twenty minutes: the stream must not end before the last test on a slow machine."""
WHY = ("--reason", "a test")
PROMOTE = ("promote", "m")
NOT_PASSED = "no passing gate verdict"

pytestmark = pytest.mark.long


class Site:
    """A running installation under bars, with one voting artifact and a rival of it."""

    def __init__(self, installation: Installation) -> None:
        self.conclave = installation.conclave
        self.installation = installation
        train = ("train", "files", "--model", "m", "--family", "logistic", *BARS, "--rows", "6000", *WHY)
        self.champion = _digest(self.conclave(*train, "--promote", "--weight", "1"))
        self.rival = _digest(self.conclave(*train, "--horizon", "5", "--register"))
        self.conclave("policy", "voting", "quorum_count=1", "edge=0", *WHY)
        # On a slow machine the bars drift far enough for a training, which would add a shadow of its own.
        self.conclave("policy", "training", "schedule_hours=0", "on_drift=false", "on_decay=false", *WHY)

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.conclave("status", "-o", "json"))
        return found

    def state(self) -> State:
        """The configuration, read here: a command for every look would take the time of the services."""

        async def read() -> State:
            log = self.installation.log()
            try:
                return await current(log)
            finally:
                await log.close()

        return anyio.run(read)

    def judge(self, overall: str) -> None:
        """The gates say this of the rival, beside the champion."""

        async def write() -> None:
            log = self.installation.log()
            try:
                said = {"model": "m", "artifact": self.rival, "champion": self.champion}
                await record(log, "gates", [verdict(overall, **said, policy_digest=digest_of(None))])
            finally:
                await log.close()

        anyio.run(write)

    def decisions(self) -> list[DecisionMade]:
        return self.installation.decisions()

    def intents(self) -> list[int]:
        """The control versions of all intents."""

        async def read() -> list[int]:
            log = self.installation.log()
            try:
                found = await all_entries(log, StreamKey("intents"))
                return [decode("intents", entry.data).event.control_version for entry in found]
            finally:
                await log.close()

        return anyio.run(read)


def _digest(shown: str) -> str:
    return str(re.findall(r"^[0-9a-f]{64}$", shown, re.MULTILINE)[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    installation = Installation(tmp_path_factory.mktemp("site"), models=("m",))
    with running(installation):
        found = Site(installation)
        installation.conclave("feed", *FED, "--skip", "4000", "--limit", "1500")
        feed = installation.start("feed", *FED, "--skip", "4000", "--speed", "100")
        try:
            wait_until(lambda: bool(found.decisions() and found.decisions()[-1].counted))
            yield found
        finally:
            feed.kill()
            feed.communicate()


def ready(site: Site) -> bool:
    """Whether the rival would be promoted now. The gates are made to pass it again, since the evaluator writes a
    verdict of its own every so many scores; where it does so in between, the answer is no."""
    site.judge("passed")
    process = site.installation.start(*PROMOTE, site.rival[:8], "--dry-run", *WHY)
    _, said = process.communicate()
    if process.returncode == 0:
        return True
    assert process.returncode == 1
    assert "partition 0: not loaded; start it in shadow first" in said or NOT_PASSED in said, said
    return False


def promoted(site: Site, *words: str) -> dict[str, Any]:
    """Promote the rival once it is ready. Tried again where the evaluator wrote a verdict of its own meanwhile."""
    shown = ""

    def accepted() -> bool:
        nonlocal shown
        site.judge("passed")
        process = site.installation.start(*PROMOTE, site.rival[:8], *words, "-o", "json", *WHY)
        shown, refused = process.communicate()
        assert process.returncode == 0 or NOT_PASSED in refused, refused
        return process.returncode == 0

    wait_until(lambda: ready(site), every_s=0.5)
    wait_until(accepted)
    return json.loads(shown)  # type: ignore[no-any-return]  # an object


def test_a_rival_is_promoted_when_it_is_ready_and_taken_back_without_the_store(site: Site) -> None:
    assert not ready(site)
    site.conclave("shadow", "start", "m", site.rival[:8], *WHY)
    said = promoted(site, "--wait")
    first = said["first_decision"]
    assert first["event"]["control_version"] == said["version"]
    assert [ballot["artifact"] for ballot in first["event"]["counted"]] == [site.rival]
    assert first["ms"] > 0

    store = site.installation.folder / "var" / "artifacts"
    store.rename(store.with_name("elsewhere"))
    shown = site.conclave("rollback", "--wait", *WHY)
    store.with_name("elsewhere").rename(store)
    assert re.search(r"first decision under version \d+: [0-9a-f]{32} \(", shown)

    decisions = site.decisions()
    assert {ballot.artifact for ballot in decisions[-1].counted} == {site.champion}
    assert [ballot.artifact for ballot in decisions[-1].shadow] == [site.rival]
    served = {said["version"]: site.rival}
    for decision in decisions:
        expected = served.get(decision.control_version, site.champion)
        assert [ballot.artifact for ballot in decision.counted] in ([expected], [])


def test_a_halt_stops_intents_at_once_and_decisions_go_on(site: Site) -> None:
    wait_until(lambda: bool(site.intents()))
    said = json.loads(site.conclave("halt", "--wait", "-o", "json", *WHY))
    version = said["version"]
    seen = len(site.decisions())
    wait_until(lambda: len(site.decisions()) > seen + 20)
    assert max(site.intents()) < version
    site.conclave("resume", "--wait", *WHY)
    wait_until(lambda: max(site.intents()) > version)


def test_a_command_for_another_version_is_refused_with_1(site: Site) -> None:
    assert "version" in site.conclave("halt", "--expect", "1", *WHY, code=1)
    assert site.status()["halted"] is False


def test_a_probation_that_nobody_confirms_reverts_by_itself(site: Site) -> None:
    said = promoted(site, "--probation", "30")

    wait_until(lambda: site.state().models["m"].champion == site.champion)
    models = site.status()["models"]
    assert isinstance(models, dict)
    assert models["m"]["champion"] == site.champion
    [*_, last] = site.conclave("history", "-o", "json").splitlines()
    assert json.loads(last)["actor"] == "guard"
    assert json.loads(last)["command"]["type"] == "revert_probation"
    assert json.loads(last)["command"]["artifact"] == site.rival
    under = [decision for decision in site.decisions() if decision.control_version == said["version"]]
    assert len(under) >= 30
