"""Check this machine and the alarms: the disk of the state folder, the clocks, the
files that services cannot write, and the workers of the voting models. It writes nothing."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from schemas.operations import ClockAgrees, ClockApart, StorageFailed, StorageRecovered
from shared.control import State
from shared.control.serving import why_unserved
from shared.log import GroupView, Log, StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.log.leases import id_order
from shared.runtime.clock import APART_MS, ServerClock
from shared.server.security import SecurityCheck

NEWEST: Final = 10_000
"""How many alarms of each partition are looked at, the newest."""
CLOCKED: Final = ("market", "features", "predictions", "decisions")


def state_folder(path: Path) -> SecurityCheck:
    """Check whether the disk of the state folder takes what services write there."""
    what, do = "state folder", f"make room, or mount the disk of {path} for writing; services try again by themselves"
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    try:
        disk = os.statvfs(existing)
    except OSError as error:
        return SecurityCheck(what, "wrong", f"{existing}: {error.strerror}", do)
    if not existing.is_dir():
        return SecurityCheck(what, "wrong", f"{existing} is a file, not a folder", do)
    if disk.f_flag & os.ST_RDONLY or not os.access(existing, os.W_OK):
        return SecurityCheck(what, "wrong", f"{existing} is read-only for this user", do)
    if not disk.f_bavail or (not disk.f_favail and disk.f_files):
        return SecurityCheck(what, "wrong", f"the disk of {existing} is full", do)
    return SecurityCheck(what, "good", f"{existing}, {disk.f_bavail * disk.f_frsize / 2**30:.1f} GiB are free")


async def clocks(log: Log, partitions: int) -> list[SecurityCheck]:
    """Compare the clock of this machine with the server's, and the server's with the newest entry ids. Raises
    ``ServerError``."""
    clock, do = ServerClock(), "synchronise the clocks (docs/how-to/runbooks/clock-apart.md)"
    await clock.read(log)
    apart = f"this machine is {clock.apart_ms / 1000:+.1f} s from the server"
    checks = [SecurityCheck("clock", "wrong", apart, do) if abs(clock.apart_ms) > APART_MS else _good("clock", apart)]
    places = [StreamKey(stream, partition) for partition in range(partitions) for stream in CLOCKED]
    extents = {place.key: id_order((await log.extent(place)).last)[0] for place in places}
    key, newest_ms = max(extents.items(), key=lambda each: each[1])
    behind_s = (newest_ms - clock.now_ms()) / 1000
    if behind_s * 1000 > APART_MS:
        found = f"the newest of {key} is {behind_s:.0f} s later than the server's clock"
        do = "docs/how-to/runbooks/clock-stepped.md"
        return [*checks, SecurityCheck("entries", "wrong", found, do)]
    return [*checks, _good("entries", "none is later than the server's clock")]


def served(state: State, views: Sequence[GroupView]) -> list[SecurityCheck]:
    """Check that a worker serves each model that votes, in each partition."""
    what, do = "workers", "start the worker: `conclave up`, or `conclave run model-worker --model NAME`"
    faults = [SecurityCheck(what, "wrong", why, do) for why in why_unserved(state, views)]
    return faults or [_good(what, "each model that votes is served")]


async def failing(log: Log, partitions: int) -> list[SecurityCheck]:
    """Return a check for each file and each clock of a service whose failure was reported and is not over."""
    faults: dict[tuple[str, ...], SecurityCheck] = {}
    for partition in range(partitions):
        alarms = await log.tail(StreamKey("alarms", partition), NEWEST)
        for _, envelope in events_of(alarms, reported_elsewhere):
            for key, check in _changes(envelope.event):
                faults.pop(key, None)
                if check is not None:
                    faults[key] = check
    return [*faults.values()] or [_good("files", "no service reports one that it cannot write")]


def _changes(event: object) -> Iterator[tuple[tuple[str, ...], SecurityCheck | None]]:
    """Yield which fault an alarm raises, or ends (None)."""
    match event:
        case StorageFailed(group=group, host=host, file=file, detail=detail):
            do = "docs/how-to/runbooks/storage-failed.md"
            yield ("file", group, host, file), SecurityCheck(f"{group} on {host}", "wrong", f"{file}: {detail}", do)
        case StorageRecovered(group=group, host=host, file=file):
            yield ("file", group, host, file), None
        case ClockApart(group=group, host=host, apart_ms=apart_ms):
            found, do = (
                f"its clock is {apart_ms / 1000:+.0f} s from the server's",
                "docs/how-to/runbooks/clock-apart.md",
            )
            yield ("clock", group, host), SecurityCheck(f"{group} on {host}", "wrong", found, do)
        case ClockAgrees(group=group, host=host):
            yield ("clock", group, host), None
        case _:
            pass


def _good(what: str, found: str) -> SecurityCheck:
    return SecurityCheck(what, "good", found)
