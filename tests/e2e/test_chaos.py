"""Kill -9 anything, ten times, while bars stream: the decisions are those of an undisturbed run.

The bars are synthetic; ``CONCLAVE_TEST_BARS=<file or folder>`` runs the same on real ones.
"""

import os
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import anyio
import pytest
import redis

from bench.installation import Installation, all_decisions, all_entries, kill, running, wait_until
from schemas.codec import decode
from schemas.decisions import FenceOpened
from shared.audit.findings import Findings
from shared.audit.known import mark_withdrawn, of_checkpoints, of_server
from shared.audit.live import live
from shared.audit.written import KnownDigest, check_written
from shared.log import StreamKey
from shared.server.embedded import EmbeddedServer

BARS = 8_000
TRAINED = 10_000
"""Rows: with fewer, a model is refused because it learned nothing."""
KILLS = 10
VICTIMS = ("feature-builder", "model-worker.xgboost", "ensemble-voter", "feed", "server", "model-worker.lightgbm")
LIMIT_S = 240.0


def source() -> list[str]:
    real = os.environ.get("CONCLAVE_TEST_BARS")
    if real:
        return ["--bars", real]
    return ["--synthetic", "sequence", "--symbols", "4", "--count", str(TRAINED // 4)]


class Run:
    """Bars through an installation, from an empty log and a given control stream."""

    def __init__(self, installation: Installation, server: EmbeddedServer) -> None:
        self.installation = installation
        self.server = server
        self.words = ["feed", *source(), "--limit", str(BARS)]

    def decisions(self, disturb: Callable[[int], None]) -> tuple[dict[tuple[str, int], bytes], list[bytes]]:
        """Decisions by bar, and intents, of a run that ``disturb`` is told the progress of."""
        client = redis.Redis.from_url(self.installation.url)
        for key in client.scan_iter("conclave:{p0}:*"):
            client.delete(key)
        client.close()
        with running(self.installation):
            self.feed = self.installation.start(*self.words)
            wait_until(lambda: self.progress(disturb), LIMIT_S, 0.05)
            _, said = self.feed.communicate(timeout=30)
            assert self.feed.returncode == 0, said
            return anyio.run(self.outcome)

    def progress(self, disturb: Callable[[int], None]) -> bool:
        """Whether all bars are decided. A feed that was killed is started again, as a supervisor would."""
        if self.feed.poll() not in {None, 0}:
            self.feed.communicate()
            self.feed = self.installation.start(*self.words)
        decided = self.entries()
        if decided < BARS:
            disturb(decided)
        return decided >= BARS and anyio.run(self.decided) >= BARS

    def entries(self) -> int:
        """The length of the stream, which costs the decisions that are being made nothing: no entry is read."""
        with redis.Redis.from_url(self.installation.url) as client:
            length: int = client.xlen(StreamKey("decisions").key)
            return length

    async def decided(self) -> int:
        log = self.installation.log()
        try:
            return len(await all_decisions(log))
        finally:
            await log.close()

    async def outcome(self) -> tuple[dict[tuple[str, int], bytes], list[bytes]]:
        log = self.installation.log()
        try:
            entries = await all_entries(log, StreamKey("decisions"))
            decided = {}
            for entry in entries:
                event = decode("decisions", entry.data).event
                if isinstance(event, FenceOpened):
                    continue  # founding opened it
                assert (event.symbol, event.open_time) not in decided, f"decided twice: {event}"
                decided[event.symbol, event.open_time] = entry.data
            assert len(await all_decisions(log)) == len(decided) == BARS
            return decided, sorted(entry.data for entry in await all_entries(log, StreamKey("intents")))
        finally:
            await log.close()


def with_digests(installation: Installation) -> Findings:
    """The streams against the digests that the server has, and those that processes noted as they started and ended."""

    async def held() -> list[KnownDigest]:
        log = installation.log()
        try:
            return await of_server(log, 1)
        finally:
            await log.close()

    known = anyio.run(held)
    begun = {(each.place, each.group, each.written.since) for each in known}  # of this run, not of the one before
    noted = of_checkpoints(installation.folder / "var" / "checkpoints", 1)
    noted = [each for each in noted if (each.place, each.group, each.written.since) in begun]
    assert len(noted) >= len(known)
    with live(installation.url) as source:
        return check_written(source, mark_withdrawn(noted, known), 0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    installation = Installation(tmp_path)
    port = int(installation.url.rsplit(":", 1)[1].split("/")[0])
    with EmbeddedServer(tmp_path / "var" / "redis", port=port, die_with_parent=True) as server:
        with running(installation):
            installation.train_all(*source(), "--rows", str(TRAINED))
        yield Run(installation, server)


@pytest.mark.long
def test_ten_kills_change_no_byte_of_any_decision(run: Run) -> None:
    expected, expected_intents = run.decisions(lambda _: None)
    victims, killed = cycle(VICTIMS), list[str]()

    def disturb(decided: int) -> None:
        if len(killed) >= KILLS or decided < (len(killed) + 1) * BARS // (KILLS + 2):
            return
        victim = next(victims)
        if victim == "server":
            run.server.kill()
            run.server.start()
        elif victim == "feed":
            run.feed.kill()
            run.feed.wait()
        else:
            wait_until(lambda: victim in run.installation.owners(), LIMIT_S)
            kill(run.installation.owners()[victim])
        killed.append(victim)

    got, intents = run.decisions(disturb)
    assert len(killed) == KILLS
    assert got.keys() == expected.keys()
    differing = [(expected[key], got[key]) for key in expected if got[key] != expected[key]]
    assert differing[:1] == []
    assert intents == expected_intents
    found = with_digests(run.installation)
    assert (found.count, found.unchecked) == (0, {}), found.first
    assert found.checked["written"] > 3 * BARS
