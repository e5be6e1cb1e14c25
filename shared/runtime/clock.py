"""The clocks of a process, and what each is used for.

``steady``
    Durations within a process: waits, timeouts, how long a round has been open. It is never set.
the server's time (``Log.time``)
    Everything that is compared with what other processes wrote: the age of an intent, what is overdue, stale or to be
    trimmed. A process asks the server for it now and then, and counts on by ``steady`` in between (``ServerClock``).
``wall``
    The time of day of this machine. It decides nothing. It is compared with the server's time, so that people learn
    that one of them is wrong.
"""

import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from schemas.operations import AlarmEvent, ClockAgrees, ClockApart, ClockStepped
from shared.log import Log

APART_MS: Final = 5_000
"""A process's wall clock may differ from the server's by so much. A clock that is synchronised differs by less than a
tenth of a second."""
STEPPED_MS: Final = 5_000
"""A change of the server's time against a steady clock by more than this is a step."""
LONGEST_MS: Final = 10**15
"""Longer differences are reported as this one. An entry id that was written by hand may have any time."""
MS: Final = 1_000_000


class ProcessClock(NamedTuple):
    """The two clocks of a process (ns). Tests and simulations replace them here."""

    wall_ns: Callable[[], int] = lambda: time.time_ns()  # noqa: PLW0108  # replaced by simulations
    steady_ns: Callable[[], int] = lambda: time.monotonic_ns()  # noqa: PLW0108  # the same


class ServerClock:
    """The server's time, as of the last ``read`` and counted on since by the steady clock of this process. Until the
    first ``read`` it is the wall clock.

    ``apart_ms``: how far the wall clock was ahead of the server's time at the last read. ``stepped_ms``: by how much
    the server's clock was set between reads; ``ClockAlarms`` resets it. What the round trip of a read can explain is
    left out of both."""

    def __init__(self, process: ProcessClock | None = None) -> None:
        self._process = process or ProcessClock()
        self._offset_ns = self._process.wall_ns() - self._process.steady_ns()
        self._was_read = False
        self.apart_ms = 0
        self.stepped_ms = 0

    def steady_ms(self) -> int:
        """Return the steady clock, in milliseconds."""
        return self._process.steady_ns() // MS

    def now_ns(self) -> int:
        """Return the server's time, in nanoseconds since 1970."""
        return self._process.steady_ns() + self._offset_ns

    def now_ms(self) -> int:
        """Return the server's time, in milliseconds since 1970."""
        return self.now_ns() // MS

    async def read(self, log: Log, partition: int = 0) -> None:
        """Ask the server for its time. Raises ``UnavailableError``."""
        before = self._process.steady_ns()
        server_ns = await log.time(partition) * MS
        after, wall_ns = self._process.steady_ns(), self._process.wall_ns()
        # The server answered somewhere in between. An answer that took long says less than the one before.
        unknown_ms = (after - before) // MS
        offset_ns = server_ns - (before + after) // 2
        stepped_ms = _beyond((offset_ns - self._offset_ns) // MS, unknown_ms) if self._was_read else 0
        if not self._was_read or stepped_ms or unknown_ms < APART_MS:
            self._offset_ns, self._was_read = offset_ns, True
        if abs(stepped_ms) > STEPPED_MS:
            self.stepped_ms += stepped_ms
        self.apart_ms = _beyond((wall_ns - after - offset_ns) // MS, unknown_ms)


class ClockAlarms:
    """The alarms about the clocks of one process of ``group``. ``server``: whether it also reports steps of the
    server's clock. One process in each partition does, so that there is one alarm."""

    def __init__(self, clock: ServerClock, group: str, *, server: bool = False) -> None:
        self._clock = clock
        self._group = group
        self._server = server
        self._apart = False
        self._behind = False

    def resume(self, *, apart: bool) -> None:
        """Go on from what an earlier process reported: its clock differed, and this was not over."""
        self._apart = apart

    def after_read(self, newest_ms: int = 0) -> list[AlarmEvent]:
        """Return the alarms that are due after ``ServerClock.read``. ``newest_ms``: the time in the newest entry id
        that is known; 0 if none is.

        A clock that differs is reported once, and once when it agrees again. It agrees at half of the bound, so that
        a clock at the bound is not reported again and again."""
        apart_ms, now = self._clock.apart_ms, self._clock.now_ms()
        alarms: list[AlarmEvent] = []
        if not self._apart and abs(apart_ms) > APART_MS:
            self._apart = True
            alarms.append(ClockApart(self._group, socket.gethostname(), _bounded(apart_ms), now))
        elif self._apart and abs(apart_ms) < APART_MS // 2:
            self._apart = False
            alarms.append(ClockAgrees(self._group, socket.gethostname(), now))
        if self._server:
            alarms += self._steps(newest_ms, now)
        return alarms

    def _steps(self, newest_ms: int, now: int) -> list[AlarmEvent]:
        behind_ms, stepped_ms = newest_ms - now, self._clock.stepped_ms
        was_behind, self._behind = self._behind, behind_ms > STEPPED_MS
        self._clock.stepped_ms = 0
        if stepped_ms:
            return [ClockStepped(self._group, _bounded(stepped_ms), "it was set while this process ran", now)]
        if self._behind and not was_behind:
            detail = "the newest entry of the partition is later than this clock: it was set back, or that entry has "
            return [ClockStepped(self._group, -_bounded(behind_ms), f"{detail}an id that was written by hand", now)]
        return []


def _beyond(difference_ms: int, unknown_ms: int) -> int:
    """Return what ``unknown_ms`` cannot explain of a difference."""
    certain = max(abs(difference_ms) - unknown_ms, 0)
    return certain if difference_ms > 0 else -certain


def _bounded(difference_ms: int) -> int:
    return max(min(difference_ms, LONGEST_MS), -LONGEST_MS)
