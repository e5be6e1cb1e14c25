"""The archiver's shell: one process for the installation, a round every so often."""

import logging
from pathlib import Path

import anyio

from schemas.codec import encode
from services.archiver.core import GROUP
from services.archiver.sealing import ArchiveError, round_of
from shared.archive.store import SegmentStore, open_store
from shared.control.stream import now_ms
from shared.log import Commit
from shared.log.admin import opened_whole
from shared.runtime.loop import Loop, opened_loop
from shared.settings import Settings, redis_url_with_password

_log = logging.getLogger(GROUP)


def store_of(settings: Settings) -> SegmentStore:
    """Where this installation's archive lies."""
    return open_store(settings.archive.path or Path(settings.installation.state) / "archive")


async def run(settings: Settings, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Archives until ``stop``. Raises ``OwnedError`` where another archiver runs."""
    async with (
        opened_loop(settings, GROUP) as loop,
        loop.owned(settings.installation.partitions, take_over=take_over),
    ):
        loop.ready()
        await loop.repeat(Archiver(settings, loop).turn, settings.archive.every_s, stop)


class Archiver:
    """One installation's archive; ``turn`` once in a while."""

    def __init__(self, settings: Settings, loop: Loop) -> None:
        self._settings = settings
        self._loop = loop
        self._store = store_of(settings)
        self._copy = open_store(settings.archive.copy) if settings.archive.copy else None
        self._reported = ""

    async def turn(self) -> None:
        """One round. A fault is raised as an alarm, once as long as it stays the same."""
        loop = self._loop
        try:
            async with opened_whole(redis_url_with_password(self._settings), f"conclave:{GROUP}") as whole:
                # Renewed within the round: fenced before anything is written or trimmed, if another process took over.
                done = await round_of(
                    loop.log,
                    whole,
                    self._store,
                    copy=self._copy,
                    partitions=len(loop.claims),
                    now=now_ms(),
                    renew=loop.alive,
                )
            _log.info("sealed %d entries in %d files, trimmed %d", done.sealed, done.files, done.trimmed)
            self._reported = ""
        except ArchiveError as fault:
            if str(fault) != self._reported:
                _log.error("nothing is trimmed: %s", fault)
                await loop.commit(loop.claims[0], Commit([encode("alarms", fault.alarm(now_ms()))], {}, {}))
                self._reported = str(fault)
