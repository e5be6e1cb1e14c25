"""What an installation knows of writes that its server lost: the alarms, and the records of control on this machine."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from schemas.operations import LogTruncated
from shared.control import State
from shared.log import Log, StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.runtime.process import record_of
from shared.settings import Settings

LOOKED_AT: Final = 1_000
"""The newest alarms of a partition that are looked at."""
SHOWN: Final = 10
"""The newest losses of a partition that are shown."""
MISSING: Final = "commands missing"
"""The name under which missing commands are reported."""


async def losses(settings: Settings, log: Log, state: State) -> Mapping[str, str]:
    """Return what the server lost, by what to call it; nothing if no loss is known. ``state``: the configuration now.

    What follows from bars was made again where the bars were there. Only ``MISSING`` needs a person."""
    report = {}
    record = record_of(settings)
    if record is not None and (lost := record.lost(state)) is not None:
        report[MISSING] = f"{lost.detail}; `conclave recover` shows who has a copy"
    for partition in range(settings.installation.partitions):
        newest = await log.tail(StreamKey("alarms", partition), LOOKED_AT)
        events = [envelope.event for _, envelope in events_of(newest, reported_elsewhere)]
        alarms = [_line(event) for event in events if isinstance(event, LogTruncated)]
        if alarms:
            report[f"lost writes/{partition}"] = "\n".join(alarms[-SHOWN:])
    return report


def _line(alarm: LogTruncated) -> str:
    when = datetime.fromtimestamp(alarm.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    read = f" was read up to {alarm.expected}," if alarm.expected != "0-0" else ""
    return f"{when} {alarm.group}: {alarm.stream}{read} ends at {alarm.last}: {alarm.detail}"
