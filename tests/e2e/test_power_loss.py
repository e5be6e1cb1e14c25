"""The server comes back without its last writes, as after a power failure under ``everysec`` or a failover to a replica
that lagged: it is noticed, nothing is decided twice, a halt halts, and what was lost comes back or is given up."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from bench.installation import Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.operations import LogTruncated
from shared.control import State
from shared.control.issuing import current
from shared.log import StreamKey
from shared.server.embedded import EmbeddedServer

BARS = ("--synthetic", "sequence", "--symbols", "1", "--count", "2000")
WHY = ("--reason", "a test")


class Site:
    """An installation over a server that can be put back to an older append-only file."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder, models=("m",))
        self.data = folder / "var" / "redis"
        self.image = folder / "image"
        self._start()

    def _start(self) -> None:
        self.server = EmbeddedServer(self.data, port=urlsplit(self.installation.url).port or 0, die_with_parent=True)
        self.server.start()

    def remember(self) -> None:
        shutil.copytree(self.data / "appendonlydir", self.image)

    def lose(self) -> None:
        self.server.kill()
        shutil.rmtree(self.data / "appendonlydir")
        shutil.copytree(self.image, self.data / "appendonlydir")
        self._start()

    def feed(self, limit: int) -> None:
        """Feeds, and waits until every bar that there is was decided."""
        self.installation.conclave("feed", *BARS, "--limit", str(limit))
        wait_until(lambda: len({event.open_time for event in self.decisions()}) == limit)

    def decisions(self) -> list[DecisionMade]:
        return self.installation.decisions()

    def alarms(self) -> list[Any]:
        async def read() -> list[Any]:
            log = self.installation.log()
            try:
                return [decode("alarms", entry.data).event for entry in await all_entries(log, StreamKey("alarms"))]
            finally:
                await log.close()

        return anyio.run(read)

    def state(self) -> State:
        async def read() -> State:
            log = self.installation.log()
            try:
                return await current(log)
            finally:
                await log.close()

        return anyio.run(read)

    def recover(self, *words: str, code: int = 0) -> Any:
        done = self.installation.start("recover", *words, "-o", "json")
        out, err = done.communicate(timeout=60)
        assert done.returncode == code, err
        return json.loads(out) if out else err


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        with running(site.installation):
            site.installation.train("m", *BARS, family="logistic")
            site.installation.conclave("policy", "voting", "quorum_count=1", "edge=0.0", *WHY)
            site.feed(400)
            site.remember()
            site.installation.conclave("policy", "voting", "quorum_count=1", "edge=0.01", *WHY)
            site.feed(450)
            yield site
    finally:
        site.server.stop()


def noticed(site: Site, *groups: str) -> None:
    def all_of_them() -> bool:
        return set(groups) <= {alarm.group for alarm in site.alarms() if isinstance(alarm, LogTruncated)}

    wait_until(all_of_them, told=site.alarms())


def decided_once(decisions: Sequence[DecisionMade]) -> None:
    twice = {bar: count for bar, count in Counter(event.open_time for event in decisions).items() if count > 1}
    assert twice == {}


@pytest.mark.long
def test_a_halt_after_the_loss_halts_and_the_loss_is_given_up(site: Site) -> None:
    lost = site.state()
    site.lose()
    site.installation.conclave("halt", "--reason", "exchange outage")
    halted = site.state()
    assert (halted.version, halted.halted) == (lost.version, True)
    noticed(site, "ensemble-voter", "model-worker.m")
    site.feed(600)
    decisions = site.decisions()
    decided_once(decisions)
    after = [event for event in decisions if event.open_time > decisions[399].open_time]
    assert len(after) == 200
    assert "issued" not in {event.intent for event in after}
    assert {(event.control_version, event.control_head) for event in after} == {(halted.version, halted.head)}

    found = site.recover(code=1)
    assert (found["common"], found["replaced"]) == (lost.version - 1, True)
    assert [(row["version"], row["head"]) for row in found["missing"]] == [(lost.version, lost.head)]
    assert found["missing"][0]["held"].endswith("control.entries")
    assert "went on" in site.recover("--append", *WHY, code=1)
    assert "conclave recover" in site.installation.conclave("resume", *WHY, code=1)
    assert site.recover("--accept", *WHY)["done"] == "given up"
    assert site.recover()["missing"] == []
    site.installation.conclave("resume", *WHY)
    site.installation.conclave("down")
    site.installation.conclave("up", "--detach")
    site.feed(620)
    decided_once(site.decisions())


@pytest.mark.long
def test_the_lost_commands_come_back_byte_for_byte(site: Site) -> None:
    lost = site.state()
    site.lose()
    noticed(site, "ensemble-voter")
    assert site.state().version == lost.version - 1
    found = site.recover("--append", *WHY)
    assert found["done"] == "appended"
    assert site.state().head == lost.head
    assert site.recover()["missing"] == []
    site.feed(500)
    decided_once(site.decisions())
    assert site.decisions()[-1].control_version == lost.version
