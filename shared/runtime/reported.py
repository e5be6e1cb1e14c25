"""Find out which failures were reported and are not over: of a service's disk or clock, of the chat of the bot.

So a failure that outlasts a restart is not reported again, and its end is reported by the process that sees it."""

import socket
from typing import Final, NamedTuple

from schemas.operations import ClockAgrees, ClockApart, PhoneAnswers, PhoneSilent, StorageFailed, StorageRecovered
from shared.log import Log, StreamKey
from shared.log.events import events_of, reported_elsewhere

NEWEST: Final = 1_000
"""How many alarms are read, the newest."""


class Reported(NamedTuple):
    """``files``: why each file could not be written. ``apart``: whether the clock differed."""

    files: dict[str, str]
    apart: bool


async def reported(log: Log, partition: int, group: str) -> Reported:
    """Return what the processes of a group on this host reported in a partition."""
    files, apart, here = dict[str, str](), False, (group, socket.gethostname())
    alarms = await log.tail(StreamKey("alarms", partition), NEWEST)
    for _, envelope in events_of(alarms, reported_elsewhere):
        match event := envelope.event:
            case StorageFailed() if (event.group, event.host) == here:
                files[event.file] = event.detail
            case StorageRecovered() if (event.group, event.host) == here:
                files.pop(event.file, None)
            case ClockApart() | ClockAgrees() if (event.group, event.host) == here:
                apart = isinstance(event, ClockApart)
            case _:
                pass
    return Reported(files, apart)


async def reported_of_phone(log: Log) -> PhoneSilent | PhoneAnswers | None:
    """Return the last report of a bot for a phone about its chat server; None if there is none."""
    events = events_of(await log.tail(StreamKey("alarms"), NEWEST), reported_elsewhere)
    last = [envelope.event for _, envelope in events if isinstance(envelope.event, PhoneSilent | PhoneAnswers)]
    return last[-1] if last else None
