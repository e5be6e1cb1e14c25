"""A recorded installation with real models, and an observatory on it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from bench.installation import free_port
from bench.replayed import Replayed, record
from services.observatory.main import Server, listen
from services.observatory.projection import Projection
from services.observatory.web.site import Site
from shared.log import Log
from shared.log.leases import id_order
from shared.log.memory import MemoryLog
from shared.runtime.clock import ServerClock
from shared.settings import ObservatorySettings

Opened = Callable[[Log], Projection]


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Two champions, a candidate in shadow that is promoted half way, 800 bars."""
    folder: Path = tmp_path_factory.mktemp("artifacts")
    return record(folder, fed=800)


async def filled(replayed: Replayed, share: float = 1.0) -> MemoryLog:
    """A log with the first part of each stream of a recording, whose clock is a second after its last entry."""
    newest = max(id_order(entries[-1].id)[0] for entries in replayed.source.places.values())
    log = MemoryLog(now=lambda: newest + 1000)
    await more(log, replayed, 0.0, share)
    return log


async def more(log: Log, replayed: Replayed, after: float, until: float) -> None:
    """Append the next part of each stream; control is always whole."""
    for place, entries in replayed.source.places.items():
        first, last = (int(share * len(entries)) for share in (after, until))
        chosen = (entries if after == 0.0 else []) if place.stream == "control" else entries[first:last]
        for entry in chosen:
            assert await log.append_at(place, entry.id, entry.data)


async def caught_up(projection: Projection) -> Projection:
    """A projection that has read all there is."""
    await projection.begin()
    before = -1
    while sum(projection.state.read.values()) != before:
        before = sum(projection.state.read.values())
        await projection.turn()
    return projection


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Open the projections of a log, with one file for all."""
    return lambda log: Projection(log, 1, tmp_path / "observatory.bin", clock=ServerClock())


class Served:
    """A running observatory: its address, its site, and what ends it."""

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        self.url = f"http://127.0.0.1:{port}"

    async def turn(self) -> None:
        await self.site.projection.turn()


@asynccontextmanager
async def serving(site: Site, settings: ObservatorySettings) -> AsyncIterator[None]:
    """Let ``site`` answer at the address of ``settings``, and compute what is asked of it."""
    server = Server(site, settings)
    with closing(listen(settings)) as listening:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            tasks.start_soon(site.computations.serve)
            try:
                yield
            finally:
                site.computations.close()
                site.stop.set()
                server.should_exit = True


@asynccontextmanager
async def showing(replayed: Replayed, opened: Opened) -> AsyncIterator[Served]:
    """Let an observatory answer that has read what was recorded."""
    projection = await caught_up(opened(await filled(replayed)))
    settings = ObservatorySettings(port=free_port())
    site = Site(projection, replayed.store, anyio.Event())
    async with serving(site, settings):
        yield Served(site, settings.port)


@pytest.fixture
async def served(replayed: Replayed, opened: Opened) -> AsyncIterator[Served]:
    """An observatory that answers on loopback."""
    async with showing(replayed, opened) as running:
        yield running
