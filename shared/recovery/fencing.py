"""Stop intents after the log lost its tail, until an operator has decided what to do."""

from hashlib import blake2b
from typing import Final

from schemas.codec import encode
from schemas.decisions import FenceClosed, FenceOpened
from schemas.operations import LogTruncated
from shared.log import CLOSED, OPEN, Log

COMMAND: Final = "truncated-"
"""The prefix of the command id of such a fence, which no operator issued."""


async def close_fence(log: Log, partition: int, by: str, why: LogTruncated) -> None:
    """Close the fence of a partition because of a loss, unless it is closed already."""
    if (await log.fence(partition)).startswith(CLOSED):
        return
    command = COMMAND + blake2b(f"{why.stream} {why.expected} {why.last}".encode(), digest_size=8).hexdigest()
    reason = f"{why.stream} was read up to {why.expected} and ends at {why.last}: {why.detail}"[:2000]
    note = FenceClosed(command_id=command, by=by, reason=reason, at=why.at)
    await log.set_fence(partition, CLOSED + command, encode("decisions", note))


async def open_fence(log: Log, partition: int, by: str, reason: str, at: int) -> bool:
    """Open the fence of a partition if it was closed because of a loss. Return whether it was."""
    mark = await log.fence(partition)
    command = mark.removeprefix(CLOSED)
    if not mark.startswith(CLOSED + COMMAND):
        return False
    note = FenceOpened(command_id=command, by=by, reason=reason[:2000], at=at)
    return await log.set_fence(partition, OPEN + command, encode("decisions", note), expected=mark) != mark
