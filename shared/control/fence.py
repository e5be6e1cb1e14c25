"""The fence of each partition: it stops intents at once, even those of a voter that is suspended or late.

A fence is a mark stored with the streams of its partition (``shared.log.Log.set_fence``): ``open <command id>`` or
``closed <command id>``. Every commit of the voter checks it. A halt closes all fences before it is appended to
``control``; a resume opens them after it is appended. If a command fails in between, fences stay closed. A fence that
is missing, or cannot be read or set, counts as closed.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

import anyio

from schemas.codec import Encoded, encode
from schemas.control import Command, CommandRecorded, Found, Halt, Resume
from schemas.decisions import FenceClosed, FenceOpened
from shared.control.stream import now_ms
from shared.log import CLOSED, OPEN, Log
from shared.log.leases import is_open

REACH_S: Final = 2.0
"""How long to wait for the answer of one partition (s)."""
RESTORED: Final = "restored from control"
MOVES: Final = (Found, Halt, Resume)
"""The commands that move fences."""


class FenceError(RuntimeError):
    """The command is recorded, but the fences of some partitions could not be set. The message names them."""


class Authority(NamedTuple):
    """The command under which a fence is moved, who issued it, and the reason."""

    command_id: str
    by: str
    reason: str

    @property
    def opened(self) -> str:
        """The mark of a fence that is opened by it."""
        return OPEN + self.command_id

    @property
    def closed(self) -> str:
        """The mark of a fence that is closed by it."""
        return CLOSED + self.command_id

    def note(self, mark: str) -> Encoded:
        """Return the event that is recorded on ``decisions`` together with the mark."""
        made = FenceOpened if is_open(mark) else FenceClosed
        return encode("decisions", made(self.command_id, self.by, self.reason, now_ms()))


class Reached(NamedTuple):
    """The marks of the partitions that answered, and the faults of those that did not, by partition."""

    marks: Mapping[int, str]
    faults: Mapping[int, str]


async def each(partitions: Iterable[int], act: Callable[[int], Awaitable[str]]) -> Reached:
    """Call ``act`` for all partitions at once, since one that does not answer must not delay the others."""
    marks: dict[int, str] = {}
    faults: dict[int, str] = {}

    async def reach(partition: int) -> None:
        try:
            with anyio.fail_after(REACH_S):
                marks[partition] = await act(partition)
        except TimeoutError:
            faults[partition] = f"no answer within {REACH_S:.0f} s"
        except (OSError, RuntimeError) as error:  # unreachable, or refused by the server
            faults[partition] = str(error)

    async with anyio.create_task_group() as tasks:
        for partition in partitions:
            tasks.start_soon(reach, partition)
    return Reached(marks, faults)


class Move:
    """Move the fences for one command, before and after it is appended. Most commands move none."""

    def __init__(self, log: Log, command: Command, authority: Authority, partitions: int) -> None:
        self.log = log
        self.authority = authority
        self.partitions = range(command.partitions if isinstance(command, Found) else partitions)
        self.closes = isinstance(command, Halt)
        self.opens = isinstance(command, Found | Resume)
        self.former: dict[int, str] = {}
        self.unread: Mapping[int, str] = {}
        self.closed: Reached = Reached({}, {})

    async def before(self) -> None:
        """Close the fences for a halt; for a resume, read their marks. ``after`` tries again what fails here, or
        reports it."""
        if self.closes:
            self.closed = await each(self.partitions, self._close)
        elif self.opens:
            reached = await each(self.partitions, self.log.fence)
            self.former, self.unread = dict(reached.marks), reached.faults

    async def after(self, command: str) -> None:
        """Close again the fences that are open, for a halt; for a resume, open those that no other command has moved
        since. Raises ``FenceError``."""
        faults: Mapping[int, str] = {}
        if self.closes:
            faults = (await each(self.partitions, self._close)).faults
        elif self.opens:
            faults = {**(await each(self.former, self._open)).faults, **self.unread}
        if faults:
            raise FenceError(self._message(command, faults))

    async def withdraw(self) -> tuple[int, ...]:
        """Open the fences that this halt closed, unless another command has moved them since: it was refused. Return
        the partitions whose fence stays closed."""

        async def reopen(partition: int) -> str:
            mark = self.authority.opened
            return await self.log.set_fence(partition, mark, self.authority.note(mark), expected=self.authority.closed)

        if not self.closes:
            return ()
        reached = await each([partition for partition, mark in self.former.items() if is_open(mark)], reopen)
        return tuple(sorted(reached.faults))

    @property
    def kept(self) -> str:
        """The end of the message about a halt that could not be appended: which fences it closed. '' for another
        command."""
        if not self.closes:
            return ""
        faults = "; ".join(f"partition {partition}: {fault}" for partition, fault in sorted(self.closed.faults.items()))
        if not faults:
            return ". The fences were closed and stay so: no intent is written. `conclave resume` opens them"
        closed = ", ".join(str(partition) for partition in sorted(self.closed.marks)) or "none"
        return f". Fences closed: {closed}. Not closed: {faults}"

    async def _close(self, partition: int) -> str:
        mark = self.authority.closed
        there = await self.log.fence(partition)
        while there != mark:
            self.former[partition] = there
            there = await self.log.set_fence(partition, mark, self.authority.note(mark), expected=there)
        return there

    async def _open(self, partition: int) -> str:
        mark = self.authority.opened
        return await self.log.set_fence(partition, mark, self.authority.note(mark), expected=self.former[partition])

    def _message(self, command: str, faults: Mapping[int, str]) -> str:
        verb, then = (
            ("closed", "intents end there with the bars that follow the command")
            if self.closes
            else ("opened", "it stays closed")
        )
        where = "; ".join(f"partition {partition}: {fault}" for partition, fault in sorted(faults.items()))
        again = "resume" if self.opens else "halt"
        return f"{command}, but not every fence could be {verb} ({then}). {where}. Issue `conclave {again}` again"


async def repair(log: Log, partitions: int, authority: Authority, *, halted: bool) -> Reached:
    """Set the fences that do not match ``control``: close the open ones during a halt, open the closed ones otherwise.
    Return the marks of those that were set."""
    moved: dict[int, str] = {}

    async def align(partition: int) -> str:
        there, mark = await log.fence(partition), authority.closed if halted else authority.opened
        if is_open(there) == (not halted):
            return there
        now = await log.set_fence(partition, mark, authority.note(mark), expected=there)
        if now == mark:
            moved[partition] = mark
        return now

    reached = await each(range(partitions), align)
    return Reached(dict(sorted(moved.items())), reached.faults)


async def restored(log: Log, partition: int, there: str, last: str, by: str, *, halted: bool) -> str:
    """Set a partition's fence from ``control`` if it is missing, or open during a halt, and return its mark. Both
    happen after a server lost its last writes.

    ``there``: the mark before ``control`` was read to its end, so that a command that moves the fence meanwhile
    prevails. ``last``: the id of the last command that moves fences."""
    if not last or (there and not (halted and is_open(there))):
        return there
    authority = Authority(last, by, RESTORED)
    mark = authority.closed if halted else authority.opened
    return await log.set_fence(partition, mark, authority.note(mark), expected=there)


def last_move(commands: Iterable[CommandRecorded]) -> str:
    """Return the id of the last command that moves fences; '' if there is none."""
    ids = [recorded.command_id for recorded in commands if isinstance(recorded.command, MOVES)]
    return ids[-1] if ids else ""
