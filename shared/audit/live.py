"""A source over the log on a server, for code that pulls: one page at a time, on an event loop of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.audit.source import PAGE, Paged
from shared.log import Entry, Place
from shared.log.redis import RedisLog


@contextmanager
def live(url: str) -> Iterator[Paged]:
    """What stands in Redis now. Raises ``UnavailableError``."""
    with asyncio.Runner() as runner:
        log = RedisLog(url, name="conclave:audit")

        def page(place: Place, after: str, until: str) -> list[Entry]:
            return runner.run(log.scan(place, after=after, until=until, count=PAGE))

        def whole(place: Place) -> bool:
            extent = runner.run(log.extent(place))
            return extent.added == extent.length

        try:
            yield Paged(page, whole)
        finally:
            runner.run(log.close())
