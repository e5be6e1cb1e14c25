"""What ``verify`` finds in the log of a simulation: nothing in an honest one, and every forgery in a forged one."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.omissions import FORGERIES, Record, Taken
from bench.omissions import scores as forged_scores
from bench.recorded_rounds import Recorded
from schemas.catalogue import STREAMS
from services.console.audit.verify import audited
from shared.audit.findings import Findings
from shared.audit.known import of_server
from shared.audit.source import RecordedExtent
from shared.audit.written import check_written
from shared.log import Entry, StreamKey
from shared.log.memory import MemoryLog
from tests.simulation.artifacts import bar_number, worker_of
from tests.simulation.invariants import ViolationError, require, run

NOWHERE: Final = Path("nowhere")
FEWEST: Final = 12
"""A record with fewer decisions is not forged: there is too little to choose from."""


class MemorySource:
    """A log in memory as ``shared.audit`` reads it."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log

    def entries(self, place: StreamKey, after: str = "0-0", until: str = "+") -> Iterator[Entry]:
        """See ``Recording``."""
        return iter(run(self.log.scan, place, after=after, until=until, count=1_000_000))

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        return True

    def extent(self, place: StreamKey) -> RecordedExtent:
        """See ``CountedSource``."""
        extent = run(self.log.extent, place)
        return RecordedExtent(extent.last, extent.added, 0, extent.deleted)


def verify(log: MemoryLog) -> None:
    """Recompute all that was recorded. Raises ``ViolationError`` with the first difference."""
    source = MemorySource(log)
    for findings in (
        audited(source, NOWHERE, worker=worker_of),
        check_written(source, run(of_server, log, 1), 0),
    ):
        require(not findings.count, f"verify: {_words(findings)}")


def verify_forged(log: MemoryLog, draw: random.Random) -> str:
    """Forge a copy of the record in one way, as somebody could who may write what a service writes, and return which;
    '' if there was nothing to forge. Raises ``ViolationError`` if ``verify`` does not find it, at its bar and layer."""
    source = _recorded(log)
    if len(source.places.get(StreamKey("decisions"), ())) < FEWEST:
        return ""
    forge = draw.choice((*FORGERIES, forged_scores))
    cases = list(forge(Record(source), draw, 1)) if _fits(source) else []
    if not cases:
        return ""
    taken, forged = draw.choice(cases)
    findings = audited(forged, NOWHERE, worker=worker_of)
    require(taken.located(findings), f"forged: {_name(taken)} is not found; verify says: {_words(findings)}")
    return taken.name


def _fits(source: Recorded) -> bool:
    return all(len(source.places.get(StreamKey(stream), ())) >= FEWEST for stream in ("features", "predictions"))


def _recorded(log: MemoryLog) -> Recorded:
    """Return a copy of a log that can be forged."""
    made = Recorded()
    for stream in STREAMS:
        place = StreamKey(stream)
        entries = run(log.scan, place, count=1_000_000)
        if entries:
            made.places[place] = entries
    return made


def _name(taken: Taken) -> str:
    return f"{taken.name} at bar {bar_number(taken.bar[1])} of {taken.bar[0]}" if taken.bar else taken.name


def _words(findings: Findings) -> str:
    first = findings.first
    if first is None:
        return "nothing"
    bar = f" at bar {bar_number(first.open_time)} of {first.symbol}" if first.open_time is not None else ""
    return f"{first.layer}{bar}, {first.stream}@{first.entry}: {first.detail}"


__all__ = ["ViolationError", "verify", "verify_forged"]
