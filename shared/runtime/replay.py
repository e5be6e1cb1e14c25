"""Rebuild the state of a service as of its last commit: from its snapshot, and from what the log still holds.

The snapshot has what cannot be read again. Everything else is replayed: the control stream from its beginning, and each
stream from the entry that the service named in its last commit (``Service.replay_from``). Nothing is written meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from schemas.catalogue import STREAMS
from schemas.codec import Encoded
from shared.control import ControlError
from shared.control.fence import last_move, restored
from shared.control.stamps import holds, stamp_of
from shared.log import Position
from shared.log.leases import is_open
from shared.runtime.commits import Commits
from shared.runtime.entries import decoded
from shared.runtime.service import Batch, Service

S = TypeVar("S")

REPLAYED_AT_ONCE: Final = 1000
"""Entries of one batch that is replayed."""


class Replica(Generic[S]):
    """A service, and its state in memory.

    ``fenced``: the service writes intents or orders, so each of its batches is handled and committed under a mark of
    the partition's fence (``shared.control.fence``); ``mark``: that mark. ``decides``: the service writes intents, so
    it also restores a fence that is missing. ``set_aside``: the entries that the core refused, by stream and id; no
    replay hands them over again."""

    state: S

    def __init__(self, service: Service[S], commits: Commits) -> None:
        self.service = service
        self.commits = commits
        self.control = commits.control
        self.decides = service.group in STREAMS["intents"].writers
        self.fenced = self.decides or service.group in STREAMS["orders"].writers
        self.mark = ""
        self.set_aside: set[tuple[str, str]] = set()
        self._moved_by = ""

    @property
    def halted(self) -> bool:
        """Whether the service must not write intents, or act on them."""
        return self.fenced and not is_open(self.mark)

    async def rebuild(self, apply: Callable[[S, Batch], None] | None = None) -> None:
        """Rebuild ``state`` as of the last commit, by ``apply`` (``Service.apply``, if it is left out).

        An event that the core refused before that commit is refused again. It is found by replaying one entry at a
        time, and left out."""
        self.commits.rewind()
        # The mark is read before control, so that a command that moves the fence meanwhile prevails (``restored``).
        mark = await self.commits.log.fence(self.commits.partition) if self.fenced else ""
        size = REPLAYED_AT_ONCE
        while (refused := await self._replay(size, apply or self.service.apply)) is not None:
            if size == 1:
                self.set_aside.add(refused)
            size = 1
        self.mark = mark
        if self.decides:
            self.mark = await restored(
                self.commits.log,
                self.commits.partition,
                mark,
                self._moved_by,
                self.service.group,
                halted=self.control.state.halted,
            )

    async def read_mark(self) -> str:
        """Read the mark of the fence again. Return it; '' if the fence is missing."""
        self.mark = await self.commits.log.fence(self.commits.partition)
        return self.mark

    async def commit(self, outputs: Sequence[Encoded], after: Mapping[str, Position]) -> None:
        """Commit outputs and positions with the snapshot of the state, under the mark of the fence."""
        await self.commits.commit(
            outputs,
            after,
            self.service.snapshot(self.state),
            self.service.replay_from(self.state),
            self.mark if self.fenced else None,
        )

    async def commit_positions(self) -> None:
        """Commit the positions alone, if entries were handled since the last commit."""
        if self.commits.positions != self.commits.committed:
            snapshot, replay_from = self.service.snapshot(self.state), self.service.replay_from(self.state)
            await self.commits.commit([], self.commits.positions, snapshot, replay_from)

    async def _replay(self, size: int, apply: Callable[[S, Batch], None]) -> tuple[str, str] | None:
        """Make the state new, and replay ``size`` entries at a time. Return the first entry of the batch that the core
        refused; None if it refused none."""
        self.state = self.service.initial(self.commits.snapshot)
        if self.service.follows_control:
            self.control.restart()
            commands = await self.control.read()
            self._moved_by = last_move(envelope.event for envelope in commands)
            self.service.apply(self.state, Batch(commands, ()))
        for stream, before in self.commits.replay_from.items():
            key, after, until = self.commits.keys[stream], before, self.commits.positions[stream].id
            while entries := await self.commits.log.scan(key, after=after, until=until, count=size):
                await self.commits.renew_if_due()
                after = entries[-1].id
                kept = [entry for entry in entries if (stream, entry.id) not in self.set_aside]
                events, _ = decoded(kept, self.service.group)
                if self.service.follows_control:
                    # An event whose command is gone is left out: the host waits for it, or its loss was accepted.
                    events = [event for event in events if holds(self.control.state, stamp_of(event))]
                try:
                    apply(self.state, Batch((), events))
                except ControlError:
                    raise
                except Exception:
                    return stream, entries[0].id
        return None
