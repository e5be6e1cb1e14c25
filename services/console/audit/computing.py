"""What a page asks for, computed as a child process of the observatory: a what-if, a proof pack, the money. A request
on standard input, lines of JSON on standard output.

The first lines report progress; the last one is the result, or why there is none. It runs at a low priority, and
ends with its parent."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio
import msgspec

from services.console.audit.judging import judged_again
from services.console.audit.tasks import source_of, where_of
from services.console.research.whatif import whatif_result
from shared.archive import CorruptError, LostError, StoreError
from shared.archive.location import open_archive
from shared.artifacts import ArtifactError, ArtifactStore
from shared.audit.computing import (
    ComputeFailed,
    ComputeLine,
    ComputeProgress,
    ComputeRequest,
    MoneyCounted,
    MoneyWork,
    PackWritten,
    ProofWork,
    WhatifComputed,
    WhatifWork,
)
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof import gather
from shared.audit.proof_checks import SIGNATURE, check
from shared.audit.source import END, EntryRange, Recording
from shared.audit.whatif import ChangesError
from shared.control import ControlError
from shared.log import START, Entry, StreamKey, UnavailableError
from shared.log.connection import ServerError
from shared.log.leases import id_order
from shared.money.recorded import MoneyReport, read_money
from shared.report.proof import write_pack
from shared.runtime.process import die_with_parent, reached_log
from shared.settings import Settings

T = TypeVar("T")
EVERY: Final = 500
"""Entries between two reports."""
Report = Callable[[ComputeProgress], None]


class Watched:
    """A recording that reports how far it is read."""

    def __init__(self, source: Recording, report: Report, last: int) -> None:
        self._source, self._report, self._last = source, report, last
        self._read = 0

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Recording``."""
        first = 0
        for entry in self._source.entries(place, after, until):
            at = id_order(entry.id)[0]
            first = first or at
            self._read += 1
            if self._read % EVERY == 0 and place.stream in {"scores", "decisions"}:
                end = self._last if until == END else id_order(until)[0]
                share = (at - first) / (end - first) if end > first else 0.0
                stage = "outcomes" if place.stream == "scores" else "rounds"
                self._report(ComputeProgress(stage, place.partition, self._read, min(max(share, 0.0), 1.0)))
            yield entry

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        return self._source.whole(place)


def compute(request: ComputeRequest, report: Report) -> WhatifComputed | PackWritten | MoneyCounted | ComputeFailed:
    """Compute what was requested."""
    try:
        match request.work:
            case WhatifWork() | ProofWork():
                return _of_recording(request, request.work, report)
            case MoneyWork():
                return MoneyCounted(anyio.run(_money, request.settings, report))
    except (
        ArtifactError,
        ChangesError,
        ControlError,
        CorruptError,
        LostError,
        OSError,
        ServerError,
        StoreError,
        UnavailableError,
        ValueError,
    ) as error:
        return ComputeFailed(str(error))


def _of_recording(
    request: ComputeRequest, work: WhatifWork | ProofWork, report: Report
) -> WhatifComputed | PackWritten:
    where = where_of(request.settings, request.archive or None)
    store = ArtifactStore(Path(where.artifacts))
    with source_of(where) as source:
        watched = Watched(source, report, request.now)
        configurations = Configurations(watched, Findings())
        match work:
            case WhatifWork(changes=changes, since=since, until=until):
                span = EntryRange(f"{since}-0" if since else START, f"{until}-0" if until else END)
                return WhatifComputed(whatif_result(watched, configurations, changes, store, span))
            case ProofWork(version=version, folder=folder):
                pack = gather(watched, configurations, version, store)
                file, _ = write_pack(pack, Path(folder))
                checks = tuple(one for one in check(pack, judge=judged_again) if one.what != SIGNATURE)
                return PackWritten(version, file.stat().st_size, checks)


async def _money(settings: Settings, report: Report) -> MoneyReport:
    """Return what ``conclave money`` shows."""

    @contextmanager
    def watch(items: AsyncIterator[T], words: str, _: str, total: float, /) -> Iterator[AsyncIterator[T]]:
        async def counted() -> AsyncIterator[T]:
            read = 0
            async for item in items:
                read += 1
                if read % EVERY == 0:
                    report(ComputeProgress(words.removeprefix("reading "), 0, read, min(read / max(total, 1), 1.0)))
                yield item

        yield counted()

    async with reached_log(settings, "conclave:observatory") as log:
        return await read_money(log, settings.installation.partitions, past=open_archive(settings), watch=watch)


def main() -> None:
    """Read the request, and write progress and result."""
    os.nice(10)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=ComputeRequest)
    die_with_parent(request.parent)

    def line(what: ComputeLine) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
        sys.stdout.buffer.flush()

    line(compute(request, line))


if __name__ == "__main__":
    main()
