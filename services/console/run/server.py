"""The server of an installation: one that answers at the address of the settings, or an embedded one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import click

from services.console.run.processes import LONGEST_DELAY_S
from shared.log import PassingError, UnavailableError
from shared.log.durability import check_server
from shared.runtime.process import InstallationError, record_of
from shared.server.embedded import CARD, EmbeddedError, EmbeddedServer
from shared.settings import LOOPBACK, Settings, redis_url_with_password

LOOK_AT_SERVER_S: Final = 0.5


@asynccontextmanager
async def server_for(settings: Settings, *, restoring: bool = False) -> AsyncIterator[bool]:
    """Ensure that a server answers at the configured address. If none does, run an embedded one inside this context,
    unless the log may be elsewhere (``_elsewhere``). Yields whether it was started here. ``restoring``: the log is to
    be restored into it. Raises ``UnavailableError``."""
    answers = True
    try:
        server = await check_server(redis_url_with_password(settings), settings.redis.ephemeral)
        _refuse_server_of_another(settings, server.data)
    except PassingError:  # it is there
        raise
    except UnavailableError as error:
        if (why := _elsewhere(settings, restoring)) is not None:
            raise UnavailableError(f"{error}{why}") from None
        answers = False
    if answers:
        yield False
        return
    url = urlsplit(settings.redis.url)
    data = Path(settings.installation.state) / "redis"
    embedded = EmbeddedServer(data, port=url.port or 6379, die_with_parent=True)
    embedded.start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_running, embedded)
            yield True
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            embedded.stop()


async def _keep_running(server: EmbeddedServer) -> None:
    """Start the server again whenever it has ended. It is started in this thread: it ends with the thread that started
    it."""
    delay, failed = 0.0, False
    code: int | None = None
    while True:
        await anyio.sleep(max(delay, LOOK_AT_SERVER_S))
        if not failed:
            code = server.ended()
            if code is None:
                delay = 0.0
                continue
        delay = min(max(2 * delay, 1.0), LONGEST_DELAY_S)
        try:
            server.start()
        except EmbeddedError as error:
            if not failed:
                click.echo(f"the embedded server cannot be started, and is tried again: {error}", err=True)
            failed = True
        else:
            click.echo(f"the embedded server had ended with code {code}; it was started again")
            failed = False


def _elsewhere(settings: Settings, restoring: bool) -> str | None:
    """Return why no server may be started in place of one that does not answer, as a sentence for people; None if one
    may be started.

    An address on loopback may be that of a master under Sentinel, of a tunnel, or of a server that is down for an hour.
    An empty server in its place would look like the installation's. So none is started if this machine has the records
    of an installation, and the state folder does not have its data."""
    url = urlsplit(settings.redis.url)
    if url.scheme != "redis" or url.hostname not in LOOPBACK:
        return ""
    data, record = Path(settings.installation.state) / "redis", record_of(settings)
    if restoring or data.exists() or record is None or record.empty():
        return None
    return (
        f" None is started in its place: {record.path.parent} has the records of an installation, whose log is not in "
        f"{data}. Start the server that has it, or restore it (`conclave archive restore`)"
    )


def _refuse_server_of_another(settings: Settings, folder: str) -> None:
    """Raise ``InstallationError`` if the server that answers, with its data in ``folder``, is the embedded one of
    another state folder: its installation would be taken for the one of these settings."""
    own = Path(settings.installation.state) / "redis"
    if not folder or urlsplit(settings.redis.url).hostname not in LOOPBACK:
        return
    if not (Path(folder) / CARD).exists() or Path(folder).resolve() == own.resolve():
        return
    raise InstallationError(
        f"the server at {settings.redis.url} is the embedded one of another installation, with its data in {folder}. "
        f"For an installation of its own here, set another port in `url` of [redis]"
    )
