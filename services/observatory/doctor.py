"""Make the checks of ``conclave doctor`` for a page, and look at the archive.

Both take a moment: the server and the disk are asked, and over a network an archive may be slow. So they run in a
thread, one at a time, and a result is used for some seconds, however many people ask.
"""

import time
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from anyio import to_thread
from msgspec import Struct

from services.archiver.core import Trim, trim
from services.observatory.projection import GROUP, Projection
from shared.archive import CorruptError, StoreError
from shared.archive.cuts import Cut, newest
from shared.archive.installed import sealed_streams, store_of
from shared.control import ControlError
from shared.doctor.diagnosis import Diagnosis, KnownControl, diagnose
from shared.doctor.machine import state_folder
from shared.log import UnavailableError
from shared.log.connection import ServerError
from shared.log.topology import WrongAddressError
from shared.runtime.process import InstallationError
from shared.server.security import SecurityCheck
from shared.settings import Settings, SettingsError

FRESH_S: Final = 5.0
"""A result is used for so long."""
CANNOT_RUN: Final = (
    ControlError,
    InstallationError,
    OSError,
    ServerError,
    SettingsError,
    UnavailableError,
    WrongAddressError,
)


class SealedNow(Struct, frozen=True):
    """A stream in the archive: its files and entries, the last sealed entry, up to where it may be trimmed on the
    server, and what keeps the next entry there."""

    stream: str
    files: int
    entries: int
    last: str
    through: str
    held_by: str


class ArchiveNow(Struct, frozen=True):
    """The archive: where it is, and its newest cut (0: none yet). ``fault``: why it could not be read."""

    where: str
    cut: int
    cut_at: int
    streams: tuple[SealedNow, ...]
    fault: str = ""


class DoctorNow(Struct, frozen=True):
    """The checks, those that need a person first, when they were made (ms) and how long that took. ``verdict`` is good,
    unknown (this user may not read everything) or wrong. ``fault``: why they could not be made."""

    at: int
    took_ms: int
    verdict: str
    fault: str
    facts: dict[str, str]
    checks: tuple[SecurityCheck, ...]
    archive: ArchiveNow

    def check(self, what: str) -> SecurityCheck | None:
        """Return the check of this name; None if it was not made."""
        return next((check for check in self.checks if check.what == what), None)


class Doctor:
    """The doctor of one observatory. ``last`` is the newest result."""

    def __init__(self, projection: Projection, settings: Settings) -> None:
        self.last: DoctorNow | None = None
        self._projection = projection
        self._settings = settings
        self._at = 0.0
        self._checking = anyio.Lock()

    async def examine(self) -> DoctorNow:
        """Make all checks, unless that was done a moment ago."""
        async with self._checking:
            if self.last is None or time.monotonic() - self._at > FRESH_S:
                projection, begun = self._projection, time.monotonic()
                known = KnownControl(projection.newest, len(projection.control.reader.refused))
                diagnosis, fault = await to_thread.run_sync(_diagnosed, self._settings, known)
                archive = await to_thread.run_sync(archive_of, self._settings, projection.now)
                self._at = time.monotonic()
                self.last = shown(diagnosis, fault, archive, projection.now, round(1000 * (self._at - begun)))
                projection.mark("doctor")
            return self.last


def _diagnosed(settings: Settings, known: KnownControl) -> tuple[Diagnosis, str]:
    """Make the checks on a loop of this thread; only that of the disk if the server does not answer."""

    async def made() -> Diagnosis:
        return await diagnose(settings, f"conclave:{GROUP}", known)

    try:
        return anyio.run(made), ""
    except CANNOT_RUN as error:
        disk = state_folder(Path(settings.installation.state))
        return Diagnosis({}, (), (disk,), (), wrong=True), str(error)


def shown(diagnosis: Diagnosis, fault: str, archive: ArchiveNow, at: int, took_ms: int) -> DoctorNow:
    """Return what a page shows of a diagnosis."""
    order = ("wrong", "unknown", "open", "good")
    return DoctorNow(
        at=at,
        took_ms=took_ms,
        verdict=diagnosis.verdict,
        fault=fault,
        facts={name: _words(value) for name, value in diagnosis.facts.items()},
        checks=tuple(sorted((*diagnosis.server, *diagnosis.machine), key=lambda check: order.index(check.verdict))),
        archive=archive,
    )


def _words(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def archive_of(settings: Settings, now: int) -> ArchiveNow:
    """Look at the headers of the archive. ``now``: the server's time (ms), by which entries may be trimmed."""
    store = store_of(settings)
    try:
        cut, _ = newest(store)
        streams = []
        for stream in sealed_streams(store):
            trimmable = _trim(stream.place, cut, now)
            streams.append(
                SealedNow(
                    stream=stream.place.key,
                    files=stream.files,
                    entries=stream.entries,
                    last=stream.last,
                    through=trimmable.through,
                    held_by=trimmable.held_by,
                )
            )
    except (CorruptError, StoreError, OSError) as error:
        return ArchiveNow(str(store), 0, 0, (), str(error))
    return ArchiveNow(str(store), cut.number if cut else 0, cut.at if cut else 0, tuple(streams))


def _trim(place: Any, cut: Cut | None, now: int) -> Trim:
    return trim(place, cut, now) if cut is not None else Trim(place, "0-0", "archive")
