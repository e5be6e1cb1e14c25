"""Run the archiver: one process for the installation, one round every ``[archive] every_s`` seconds."""

import logging
import socket

import anyio

from schemas.codec import encode
from schemas.operations import StorageRecovered
from services.archiver.core import GROUP
from services.archiver.sealing import ArchiveError, run_round
from shared.archive.installed import store_of
from shared.archive.store import open_store
from shared.log import Commit
from shared.log.admin import opened_whole
from shared.runtime.loop import Loop, opened_loop
from shared.settings import Settings, redis_url_with_password

_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Archive until ``stop``. Raises ``OwnedError`` if another archiver runs."""
    async with (
        opened_loop(settings, GROUP) as loop,
        loop.owned(settings.installation.partitions, take_over=take_over),
    ):
        loop.ready()
        await loop.repeat(Archiver(settings, loop).turn, settings.archive.every_s, stop)


class Archiver:
    """The archive of one installation, and the fault that was reported last."""

    def __init__(self, settings: Settings, loop: Loop) -> None:
        self._settings = settings
        self._loop = loop
        self._store = store_of(settings)
        self._copy = open_store(settings.archive.copy) if settings.archive.copy else None
        self._reported = ""

    async def turn(self) -> None:
        """Run one round. A fault is written to ``alarms``, and not again in later rounds while it stays the same. Its
        end is written too."""
        loop = self._loop
        try:
            async with opened_whole(redis_url_with_password(self._settings), f"conclave:{GROUP}") as server:
                # The round renews the claims itself, so that a process that was replaced writes and trims nothing.
                done = await run_round(
                    loop.log,
                    server,
                    self._store,
                    copy=self._copy,
                    partitions=len(loop.claims),
                    now=loop.clock.now_ms(),
                    renew=loop.alive,
                )
            _log.info("sealed %d entries in %d files, trimmed %d", done.sealed, done.files, done.trimmed)
            if self._reported:
                _log.warning("the archive works again: %s", self._store)
                await loop.alarm(StorageRecovered(GROUP, socket.gethostname(), str(self._store), loop.clock.now_ms()))
            self._reported = ""
        except ArchiveError as fault:
            if str(fault) != self._reported:
                _log.error("nothing is trimmed: %s", fault)
                await loop.commit(loop.claims[0], Commit([encode("alarms", fault.alarm(loop.clock.now_ms()))], {}, {}))
                self._reported = str(fault)
