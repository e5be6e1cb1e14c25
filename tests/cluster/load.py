"""An installation that decides under load, while its servers fail."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from bench.installation import Installation, all_decisions, all_entries, wait_until
from bench.servers import Node, until
from schemas.catalogue import partition_of
from schemas.codec import decode
from schemas.decisions import DecisionMade
from services.console.sources import symbol_names
from shared.log import StreamKey

SYMBOLS: Final = 8
SPEED: Final = 100
"""Bars a second over all symbols."""
MARKET: Final = ("--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", "2000")
TRAINED: Final = ("--synthetic", "sequence", "--symbols", "2", "--count", "2000")
WHY: Final = ("--reason", "a test")
FOLLOWED_S: Final = 2.0
"""The longest time from the end of a failover to the next decision."""


class Load:
    """An installation whose services are tasks of one process, and its feed."""

    def __init__(self, folder: Path, url: str, *, partitions: int = 4) -> None:
        self.installation = Installation(folder, models=("prior",), partitions=partitions, url=url)
        self.bars = 0

    def decided(self, partition: int) -> list[DecisionMade]:
        """All decisions of a partition."""

        async def read() -> list[DecisionMade]:
            log = self.installation.log()
            try:
                return [envelope.event for envelope in await all_decisions(log, partition)]
            finally:
                await log.close()

        return anyio.run(read)

    def checks(self) -> dict[str, dict[str, str]]:
        """What ``doctor`` found at the servers, by subject."""
        report = json.loads(self.installation.run("doctor", "-o", "json").stdout)
        return {check["what"]: check for check in report["in force"]}

    def counts(self) -> Counter[int]:
        """How many decisions each partition has. Raises ``AssertionError`` if a bar was decided twice."""
        counts = Counter[int]()
        for partition in range(self.installation.partitions):
            decisions = self.decided(partition)
            counts[partition] = len(decisions)
            assert len({(each.symbol, each.open_time) for each in decisions}) == len(decisions)
        return counts

    def expected(self, limit: int) -> Counter[int]:
        """How many decisions each partition has after ``limit`` bars: the market has a bar of each symbol in turn."""
        names = symbol_names(SYMBOLS)
        return Counter(partition_of(names[number % SYMBOLS], self.installation.partitions) for number in range(limit))

    @contextmanager
    def fed(self, limit: int, *, again: bool = False) -> Iterator[None]:
        """Feed ``limit`` bars meanwhile, and wait until each was decided once. ``again``: start the feed again
        if it ends because the server lost its last writes."""
        words = ("feed", *MARKET, "--limit", str(limit), "--speed", str(SPEED))
        feed = self.installation.start(*words)
        try:
            yield
            output, errors = feed.communicate(timeout=120)
            while again and "lost its last writes" in errors:
                feed = self.installation.start(*words)
                output, errors = feed.communicate(timeout=120)
            assert feed.returncode == 0, output + errors
            wait_until(lambda: self.counts() == self.expected(limit), told=self.counts)
        finally:
            feed.kill()
            feed.communicate()

    def alarms(self, partition: int) -> list[Any]:
        """The events in ``alarms`` of a partition."""

        async def read() -> list[Any]:
            log = self.installation.log()
            try:
                entries = await all_entries(log, StreamKey("alarms", partition))
                return [decode("alarms", entry.data).event for entry in entries]
            finally:
                await log.close()

        return anyio.run(read)


@contextmanager
def loaded(folder: Path, url: str, *, partitions: int = 4) -> Iterator[Load]:
    """Services that are up, with a model that votes."""
    load = Load(folder, url, partitions=partitions)
    here = load.installation
    here.conclave("found", *WHY)
    process = here.start("up", "--one-process")
    try:
        wait_until(lambda: "ensemble-voter" in here.owners())
        here.train("prior", *TRAINED)
        here.retrain_on_request_alone()
        yield load
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=60)
        (folder / "up.log").write_text(output + errors)


def measured(master: Node, key: str) -> float:
    """Return how long it takes until the next entry of a stream."""
    begun, before = time.monotonic(), master.client.xlen(key)
    until(lambda: master.client.xlen(key) > before)
    return time.monotonic() - begun
