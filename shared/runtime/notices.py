"""What a host records beside its batches: alarms for refused control entries, and notes outside the log.

The notes are what the log is compared with after its server was restored or replaced: the head of the control log
(``shared.control.checkpoint``), and the group's running digests (``shared.log.written``).
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from schemas.operations import ControlRefused
from shared.control import State
from shared.control.alarmed import AlarmedEntries
from shared.control.stream import alarm_of, patience
from shared.log import START, Entry, StreamKey
from shared.log.events import Unreadable, events_of
from shared.log.leases import id_order
from shared.log.written import Written
from shared.runtime.commits import Commits

NOTE_HEAD_AFTER_S: Final = 30.0
"""Seconds between two notes of the control log's head."""
NOTE_AGAIN_AFTER_S: Final = 30.0
"""Seconds after which a note that could not be written is tried again."""
NOTE_DIGESTS_AFTER_S: Final = 300.0
"""Seconds between two notes of the digests, if they changed."""
ALARMS: Final = 10
"""The most alarms about refused entries of the control stream that are raised within a minute in a partition."""
MINUTE_S: Final = 60.0
PAGE: Final = 1000
_log = logging.getLogger(__name__)


class ControlAlarms:
    """Alarms for entries of the control stream that no control writer wrote.

    Every service finds them, and one alarm a partition is enough. A service that writes intents raises it at once; the
    others wait (``patience``) and raise what is still missing. Two that do so at the same moment write the same event,
    under one id.

    At most ``ALARMS`` a minute are raised, by all services together. The last one of a minute covers all entries
    that have none yet. Which entries have an alarm is read from the stream ``alarms``, one page a turn. So neither many
    entries nor a restart leads to many alarms, and no turn takes long."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._key = StreamKey("alarms", commits.partition)
        self._raised = 0
        """Of the refused entries, how many at the beginning have an alarm."""
        self._patience_until: float | None = None
        self._scanned = START
        self._alarmed = AlarmedEntries()
        self._recent = deque[float](maxlen=ALARMS)
        """When the newest alarms were written (s, monotonic clock; at the latest)."""
        self._unreadable = Unreadable()

    async def raise_missing(self) -> None:
        """Write the alarms that this partition does not have, unless another service is still waited for, or enough
        were written within the last minute."""
        refused = self._commits.control.reader.refused
        self._raised = min(self._raised, len(refused))  # fewer if the log lost its tail
        if len(refused) == self._raised:
            return
        now = time.monotonic()
        if self._patience_until is None:
            self._patience_until = now + patience(self._commits.group)
        if now < self._patience_until or not await self._scan(now):
            return
        if missing := self._alarmed.missing(refused, self._raised):
            recent = [at for at in self._recent if now - at < MINUTE_S]
            left = ALARMS - len(recent)
            if left <= 0:
                self._patience_until = min(recent) + MINUTE_S
                return
            alone = missing if len(missing) <= left else missing[: left - 1]
            alarms = [alarm_of(refused[index]) for index in alone]
            if summed := missing[len(alone) :]:
                alarms.append(alarm_of(refused[summed[0]], refused[summed[0] + 1 :]))
            await self._commits.append(alarms)
        self._raised = len(refused)
        self._patience_until = None

    async def _scan(self, now: float) -> bool:
        """Read a page of ``alarms``. Return whether it was the last one."""
        entries = await self._commits.log.scan(self._key, after=self._scanned, count=PAGE)
        for entry, envelope in events_of(entries, self._unreadable):
            if isinstance(envelope.event, ControlRefused):
                self._alarmed.add(envelope.event)
                self._recent.append(now - self._age_s(entry, entries[-1]))
            self._scanned = entry.id
        self._scanned = entries[-1].id if entries else self._scanned
        self._unreadable.log(_log)
        return len(entries) < PAGE

    def _age_s(self, entry: Entry, newest: Entry) -> float:
        """Return how much older an entry is than the newest one, by the server's clock."""
        return max(id_order(newest.id)[0] - id_order(entry.id)[0], 0) / 1000


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
