"""Run the observatory: read the streams, and serve the pages, in one process and one loop."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import uvicorn

from services.observatory.projection import FILE, GROUP, Projection
from services.observatory.signins import SignIns
from services.observatory.web.app import application
from services.observatory.web.sessions import Access
from services.observatory.web.site import Site
from shared.artifacts import ArtifactStore
from shared.commands.desk import CommandDesk
from shared.runtime.loop import opened_loop
from shared.runtime.process import record_of
from shared.settings import ObservatorySettings, Settings, SettingsError

GRACE_S: Final = 2
"""How long open requests may take when the observatory ends."""
_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event) -> None:
    """Serve until ``stop``. Raises ``SettingsError`` if the address cannot be used."""
    listening = listen(settings.observatory)
    try:
        async with opened_loop(settings, GROUP) as loop:
            folder = Path(settings.installation.state)
            projection = Projection(
                loop.log,
                settings.installation.partitions,
                folder / FILE,
                days=settings.observatory.days,
                clock=loop.clock,
                meter=loop.telemetry,
            )
            await projection.begin()
            access = Access(folder, settings.observatory, SignIns(loop.log))
            desk = CommandDesk(loop.log, settings.models.names, record=record_of(settings, loop.storage))
            await desk.begin()
            site = Site(projection, ArtifactStore(folder / "artifacts"), stop, settings, access=access, desk=desk)
            server = Server(site, settings.observatory)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listening])
                tasks.start_soon(site.computations.serve)
                loop.ready()
                _log.info(
                    "the observatory answers at http://%s:%d", settings.observatory.host, settings.observatory.port
                )
                await loop.repeat(projection.turn, 0.0, stop)
                projection.save()
                server.should_exit = True
                site.computations.close()
    finally:
        listening.close()


def listen(settings: ObservatorySettings) -> socket.socket:
    """Return a socket that listens at the address of the settings: who connects waits until the server accepts.

    Raises ``SettingsError``.
    """
    if not settings.port:
        raise SettingsError("port in [observatory] is 0: set the port to listen at, such as 8420")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen()  # a second observatory may bind the same port, but not listen at it
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"[observatory]: cannot listen at {settings.host}, port {settings.port}: {error.strerror}. Choose another "
            "port, or end the process that has it"
        ) from None
    return listening


class Server(uvicorn.Server):
    """The web server, in the loop of the observatory, which reacts to signals itself."""

    def __init__(self, site: Site, settings: ObservatorySettings) -> None:
        config = uvicorn.Config(
            application(site, (settings.host, *settings.names)),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield
