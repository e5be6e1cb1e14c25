"""What a host records beside its batches: alarms for refused control entries, and notes outside the log.

The notes are what the log is compared with after its server was restored or replaced: the head of the control log
(``shared.control.checkpoint``), and the group's running digests (``shared.log.written``).
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from schemas.codec import decode
from shared.control import State
from shared.control.stream import alarm_of, patience
from shared.log import START, StreamKey
from shared.log.written import Written
from shared.runtime.commits import Commits

NOTE_HEAD_AFTER_S: Final = 30.0
"""Seconds between two notes of the control log's head."""
NOTE_AGAIN_AFTER_S: Final = 30.0
"""Seconds after which a note that could not be written is tried again."""
NOTE_DIGESTS_AFTER_S: Final = 300.0
"""Seconds between two notes of the digests, if they changed."""


class ControlAlarms:
    """Alarms for entries of the control stream that no control writer wrote (``shared.control.ControlReader.refused``).

    Every service finds them, and one alarm a partition is enough. A service that writes intents raises it at once; the
    others wait (``patience``) and raise what is still missing. Two that do so at the same moment write the same event,
    under one id."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._raised = 0
        self._patience_until: float | None = None

    async def raise_missing(self) -> None:
        """Write the alarms that this partition does not have, unless another service is still waited for."""
        refused = self._commits.control.reader.refused
        if len(refused) == self._raised:
            return
        if self._patience_until is None:
            self._patience_until = time.monotonic() + patience(self._commits.group)
        if time.monotonic() < self._patience_until:
            return
        present: set[bytes] = set()
        key, after = StreamKey("alarms", self._commits.partition), START
        while entries := await self._commits.log.scan(key, after=after):
            present |= {decode("alarms", entry.data).id for entry in entries}
            after = entries[-1].id
        missing = [alarm for alarm in map(alarm_of, refused) if alarm.envelope.id not in present]
        if missing:
            await self._commits.append(missing)
        self._raised = len(refused)
        self._patience_until = None


class Notes:
    """The notes of one group. ``note_head`` and ``note_digests`` write them; None where nothing is noted. Neither
    raises if the disk fails; ``note_digests`` then returns False."""

    def __init__(
        self,
        commits: Commits,
        note_head: Callable[[State], None] | None,
        note_digests: Callable[[State, Mapping[str, Written]], bool | None] | None,
    ) -> None:
        self._commits = commits
        self._note_head = note_head
        self._note_digests = note_digests
        self._digests: Mapping[str, Written] = {}
        self._head_noted_at = self._digests_noted_at = time.monotonic()

    async def at_start(self) -> None:
        """Note the digests that the claim has."""
        await self._note(self._commits.claim.written)

    async def when_due(self) -> None:
        """Note the head and the digests, each if its last note is old enough."""
        now = time.monotonic()
        if self._note_head is not None and now - self._head_noted_at > NOTE_HEAD_AFTER_S:
            self._note_head(self._commits.control.state)
            self._head_noted_at = now
        if now - self._digests_noted_at > NOTE_DIGESTS_AFTER_S:
            await self.digests()

    async def digests(self) -> None:
        """Note the digests that the log has now."""
        if self._note_digests is not None:
            await self._note(await self._commits.log.written(self._commits.claim))

    async def _note(self, written: Mapping[str, Written]) -> None:
        """Note these digests, unless they were noted last. In a thread, since a disk may be slow."""
        self._digests_noted_at = time.monotonic()
        if self._note_digests is not None and written != self._digests:
            noted = await anyio.to_thread.run_sync(self._note_digests, self._commits.control.state, written)
            if noted is False:
                self._digests_noted_at -= NOTE_DIGESTS_AFTER_S - NOTE_AGAIN_AFTER_S
            else:
                self._digests = written
