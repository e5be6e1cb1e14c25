"""Claim a group for this process, and wait for the lease of a former owner that may be dead.

A lease runs ten seconds, and an owner that lives extends it every few seconds (``loop.RENEW_S``,
``commits.RENEW_AFTER_S``). So the owner of a lease that is not extended is dead, suspended, or cut off from the server,
although its host or its pid cannot show that. A successor that gave up at once would stay down for good.
"""

from collections.abc import Sequence
from typing import Final

import anyio

from shared.log import Claim, Log, OwnedError, Owner

LOOK_AGAIN_S: Final = 0.25


async def claim_group(
    log: Log, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
) -> Claim:
    """Claim the group (``Log.claim``). While the lease of an owner runs that may be dead, wait until it ends.

    Raises ``OwnedError`` if the owner is known to run, and as soon as the lease is extended or claimed again: then this
    copy of the service was started by mistake."""
    first: OwnedError | None = None
    while True:
        try:
            return await log.claim(group, streams, partition, owner, take_over=take_over)
        except OwnedError as error:
            if error.running or (first is not None and error.lease != first.lease):
                raise
            first = error
        await anyio.sleep(min(max(first.left_s, 0.01), LOOK_AGAIN_S))
