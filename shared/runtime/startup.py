"""Start a service: claim its group, find out what is lost, rebuild its state. Recovery after a crash is the same start.

1. Claim the group. A second copy of the service is refused here (``OwnedError``).
2. Go to the positions of the last commit. Where the group's record is gone, restore it (``LostGroupError`` if that is
   impossible).
3. Compare the log with these positions (``losses``): another log, a lost tail, entries trimmed before they were read.
4. Rebuild the state from the snapshot, control, and the entries since ``replay_from`` (``replay``).
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import anyio

from schemas.codec import encode
from schemas.operations import OwnerReplaced
from shared.log import START, Lost, StreamKey, TruncatedLogError
from shared.runtime.entries import decoded
from shared.runtime.losses import LOOK_AGAIN_S, Losses
from shared.runtime.notices import ControlAlarms, Notes
from shared.runtime.replay import Replica
from shared.runtime.service import Recallable

S = TypeVar("S")


class LostGroupError(RuntimeError):
    """The record of the group is gone, and its state cannot be rebuilt from the streams."""


class Startup(Generic[S]):
    """The start of one service on one partition, and each start after the log turned out to be another one."""

    def __init__(self, replica: Replica[S], losses: Losses, alarms: ControlAlarms, notes: Notes) -> None:
        self._replica = replica
        self._commits = replica.commits
        self._losses = losses
        self._alarms = alarms
        self._notes = notes

    async def start(self, lost: Sequence[Lost]) -> None:
        """Go to the last commit of the claimed group and rebuild the state, again if the log changes meanwhile.
        ``lost``: what is known to be lost already.

        Raises ``GapError``, ``LostGroupError``, ``ControlError``."""
        known = list(lost)
        while True:
            try:
                await self._start(known)
                self._losses.end_start()
                return
            except TruncatedLogError as error:
                known.append(error.lost)
            await anyio.sleep(LOOK_AGAIN_S)
            await self._commits.claim_group()

    async def _start(self, lost: list[Lost]) -> None:
        """Start once. Append to ``lost`` what is found to be lost."""
        claim = self._commits.claim
        if went_back := self._commits.resume():
            lost[:] = [each for each in lost if not each.rolled_back] + went_back
        await self._notes.at_start()
        if lost:
            await self._losses.refuse_another_log()
            lost += await self._losses.lost_commands(lost)
        self._commits.control.restart()  # commits from here on do not depend on what was read of control before
        if claim.restored:
            await self._restore(claim.restored)
        lost += await self._losses.go_back()
        await self._losses.refuse_gaps()
        if claim.former is not None and not lost:
            replaced = OwnerReplaced(
                group=claim.group,
                former=claim.former,
                owner=str(claim.owner),
                epoch=claim.epoch,
                at=self._commits.clock.now_ms(),
            )
            await self._commits.append([encode("alarms", replaced)])
        await self._losses.announce(lost)
        await self._replica.rebuild()
        await self._alarms.raise_missing()

    async def _restore(self, streams: Sequence[str]) -> None:
        """Rebuild the state of a group whose record is gone, from what it wrote and read, and commit it. Until that
        commit is applied, each start finds the record gone again.

        ``streams``: those whose positions were taken from the consumer groups."""
        commits, service = self._commits, self._replica.service
        if not isinstance(service, Recallable):
            known = ", ".join(f"{stream} at {commits.positions[stream].id}" for stream in streams)
            raise LostGroupError(
                f"the record of group {commits.group} in partition {commits.partition} is gone. Its consumer groups "
                f"still have {known}, but its snapshot is in no stream. Restore the server from the archive "
                f"(`conclave archive restore`), or let the group begin after these entries with an empty memory "
                f"(`conclave recover --forget {commits.group} --partition {commits.partition} --reason ...`)"
            )
        snapshot = b""
        for stream in service.recalls:
            key, after = StreamKey(stream, commits.partition), START
            while entries := await commits.log.scan(key, after=after):
                await commits.renew_if_due()
                after = entries[-1].id
                snapshot = service.recall(snapshot, decoded(entries, commits.group)[0])
        alarms = commits.recreated(streams)
        commits.snapshot, commits.replay_from = snapshot, dict.fromkeys(streams, START)
        await self._replica.rebuild(service.reapply)
        state = self._replica.state
        await commits.commit(alarms, {}, service.snapshot(state), service.replay_from(state))
