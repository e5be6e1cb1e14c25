"""Let the server lose its last writes while a whole installation runs, and compare with an undisturbed run.

Each service is a process under ``conclave up``. The server is killed, the end of its append-only file is cut, as by a
power failure, and it is started again. Or a replica that no longer receives anything takes its place, as in a failover.
Afterwards every bar, feature, prediction, decision, intent and score must be there once, as in the undisturbed run, and
every service must be alive. The time is measured from the start of the server to the next decision.

It runs over ``redis-server`` if there is one, because that leaves a torn transaction in its file
(``shared.log.durability.rewrite_append_only_file``); otherwise over the embedded server.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import redis
from msgspec import structs

from bench.harness import Figure
from bench.installation import Installation, all_entries, wait_until
from schemas.codec import Envelope, decode, encode
from schemas.decisions import FenceClosed, FenceOpened
from schemas.operations import LogTruncated
from schemas.scores import PredictionScored
from shared.log import StreamKey
from shared.server import embedded
from shared.server.embedded import EmbeddedServer

STREAMS: Final = ("market", "features", "predictions", "decisions", "intents", "scores")
BARS: Final = ("--synthetic", "sequence", "--symbols", "4", "--count", "5000")
WHY: Final = ("--reason", "a benchmark")
QUICK_CASES: Final = {"cut 1 byte", "cut six times", "promoted replica"}
PROMOTED: Final = -1
"""Instead of bytes to cut: a replica takes the place of the server."""
CASES: Final = {
    "cut 1 byte": (1,),
    "cut 100 bytes": (100,),
    "cut 5,000 bytes": (5_000,),
    "cut 200,000 bytes": (200_000,),
    "cut six times": (1, 100, 5_000, 200_000, 100, 1),
    "promoted replica": (PROMOTED,),
}
RATE: Final = 200.0
QUIET_S: Final = 10.0
"""Nothing more follows if nothing was written for so long."""
LIMIT, QUICK_LIMIT = 6_000, 2_400
Events = dict[str, Counter[bytes]]


class Site:
    """An installation over a server that can lose its last writes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.installation = Installation(folder, models=("a", "b"))
        self.port = int(self.installation.url.rsplit(":", 1)[1].split("/")[0])
        self.server = EmbeddedServer(folder / "var" / "redis", port=self.port, die_with_parent=True)
        self.server.start()
        self._limit = limit
        self._feed: subprocess.Popen[str] | None = None

    @contextmanager
    def up(self) -> Iterator[None]:
        """Run the services."""
        self.installation.conclave("up", "--detach")
        try:
            yield
        finally:
            self.installation.conclave("down")
            self.server.stop()

    def train(self) -> None:
        """Train and promote the models."""
        for model, names, weight in (("a", "core-28", 1.0), ("b", "user-18", 0.5)):
            self.installation.train(model, *BARS, "--set", names, family="logistic", weight=weight)
        self.installation.retrain_on_request_alone()
        self.installation.conclave("policy", "voting", "quorum_count=1", "edge=0.0", *WHY)

    def count(self, stream: str) -> int:
        """Return the number of entries of a stream."""
        with redis.Redis(port=self.port) as client:
            try:
                return int(client.xinfo_stream(StreamKey(stream).key)["length"])
            except redis.RedisError:
                return 0

    def fed(self) -> bool:
        """Whether the feed has reached its end. It is started again if it ended with an error."""
        words = ("feed", *BARS, "--skip", "8000", "--limit", str(self._limit), "--speed", str(RATE))
        if self._feed is None or self._feed.poll() not in {None, 0}:
            if self._feed is not None:
                self._feed.communicate()
            self._feed = self.installation.start(*words)
        return self._feed.poll() == 0

    def lose(self, size: int) -> float:
        """Lose the last writes, and return how long it took until the next decision."""
        data = self.server.data / "appendonlydir"
        if size == PROMOTED:
            self._take(data)
        else:
            self.server.kill()
            file = max(data.glob("*.incr.aof"), key=lambda file: int(file.name.split(".")[-3]))
            os.truncate(file, max(file.stat().st_size - size, 0))
        started = time.monotonic()
        self.server.start()
        before = self.count("decisions")
        wait_until(lambda: self.fed() or self.count("decisions") > before)
        return time.monotonic() - started

    def _take(self, data: Path) -> None:
        """Put the data of a replica in the place of the master's, without the last second."""
        with EmbeddedServer(self.server.data.with_name("replica"), die_with_parent=True) as replica:
            client = redis.Redis.from_url(replica.url)
            client.replicaof("127.0.0.1", self.port)
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")
            client.replicaof("NO", "ONE")
            client.close()
            time.sleep(1.0)  # the lag of the replica
            self.server.kill()
        shutil.rmtree(data)
        shutil.copytree(replica.data / "appendonlydir", data)

    def alive(self) -> bool:
        """Whether each group but the feed has a living owner."""
        groups = {view.group: view.alive for view in anyio.run(self.installation._groups)}
        return all(lives for group, lives in groups.items() if group != "feed")

    def drain(self) -> None:
        """Wait until the feed has ended and nothing is written any more."""
        wait_until(self.fed, 600)
        still, since = [0], time.monotonic()
        while time.monotonic() - since < QUIET_S:
            now = [self.count(stream) for stream in STREAMS]
            if now != still:
                still, since = now, time.monotonic()
            time.sleep(0.5)

    def events(self) -> Events:
        """Return the ids of all events, by stream."""

        async def read() -> Events:
            log = self.installation.log()
            try:
                found = {}
                for stream in STREAMS:
                    envelopes = [decode(stream, entry.data) for entry in await all_entries(log, StreamKey(stream))]
                    found[stream] = Counter(
                        _identity(each) for each in envelopes if not isinstance(each.event, FenceClosed | FenceOpened)
                    )
                return found
            finally:
                await log.close()

        return anyio.run(read)

    def alarms(self) -> int:
        """Return the number of alarms for a loss."""

        async def read() -> int:
            log = self.installation.log()
            try:
                entries = await all_entries(log, StreamKey("alarms"))
                return sum(isinstance(decode("alarms", entry.data).event, LogTruncated) for entry in entries)
            finally:
                await log.close()

        return anyio.run(read)


def _identity(envelope: Envelope[Any]) -> bytes:
    """Return the id of an event; for a score, the id that it would have without the latency that was measured."""
    event = envelope.event
    if isinstance(event, PredictionScored):
        return encode("scores", structs.replace(event, latency_ms=0)).envelope.id
    return envelope.id


def run(quick: bool) -> dict[str, Figure]:
    """Run every case, ``quick`` three of them over fewer bars, and return what was lost and doubled in each."""
    limit, program = QUICK_LIMIT if quick else LIMIT, shutil.which("redis-server")
    if program is not None:
        embedded.find_program = lambda: Path(program)
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="conclave-") as folder:
        base = Site(Path(folder) / "base", limit)
        with base.up():
            base.train()
        expected, _ = _case(Path(folder), "undisturbed", (), limit)
        for name, cuts in CASES.items():
            if quick and name not in QUICK_CASES:
                continue
            found, figures_of_case = _case(Path(folder), name, cuts, limit)
            lost = sum(sum((expected[stream] - found[stream]).values()) for stream in STREAMS)
            more = sum(sum((found[stream] - expected[stream]).values()) for stream in STREAMS)
            figures[f"{name}: events lost"] = Figure(lost, "", "<= 0")
            figures[f"{name}: events doubled or different"] = Figure(more, "", "<= 0")
            figures |= {f"{name}: {key}": figure for key, figure in figures_of_case.items()}
    return figures


def _case(folder: Path, name: str, cuts: Sequence[int], limit: int) -> tuple[Events, dict[str, Figure]]:
    """Run a copy of the base, and let its server lose its last writes as often as ``cuts`` says."""
    copied = folder / name.replace(" ", "-").replace(",", "")
    shutil.copytree(folder / "base", copied, ignore=shutil.ignore_patterns("conclave.toml", "log", "server.*"))
    site, seconds = Site(copied, limit), list[float]()
    with site.up():
        wait_until(lambda: not site.fed() and site.count("decisions") > 600)
        for size in cuts:
            seconds.append(site.lose(size))
            time.sleep(2.0)
        site.drain()
        wait_until(site.alive, told="a service stays down")
        found, alarms = site.events(), site.alarms()
    shutil.rmtree(copied)
    figures = {"alarms": Figure(alarms, "")}
    if seconds:
        figures["longest time to the next decision"] = Figure(max(seconds), "s", "< 5")
    return found, figures
