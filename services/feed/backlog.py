"""Backpressure: wait while the readers of a partition have a backlog as large as the window."""

import logging
import time
from typing import Final

import anyio

from shared.log import GroupView, Log
from shared.runtime.loop import wait

POLL_S: Final = 0.01
WARN_S: Final = 10.0
"""Between two warnings that the feed waits for the same group."""
_log = logging.getLogger(__name__)


class Backlog:
    """Keeps the lag of the groups of each partition within ``window`` entries. A group without lag gets at least one
    batch, however large."""

    def __init__(self, log: Log, window: int, partitions: int) -> None:
        self._log = log
        self._window = window
        self._room = [0] * partitions

    def used(self, partition: int, entries: int) -> None:
        """Note that entries were sent to a partition."""
        self._room[partition] -= entries

    async def wait(self, partition: int, entries: int, stop: anyio.Event) -> bool:
        """Wait until the groups of a partition leave room for ``entries`` more, or have read everything. Return false
        if ``stop`` was set first."""
        warn_at = time.monotonic() + WARN_S
        while self._room[partition] < entries and not stop.is_set():
            slowest = max(await self._log.groups(partition), key=_lag, default=None)
            lag = _lag(slowest) if slowest is not None else 0
            self._room[partition] = max(self._window, entries) - lag
            if self._room[partition] >= entries or slowest is None:
                break
            if time.monotonic() > warn_at:
                _log.warning(
                    "the feed waits for group %s (%s): it lags by %d entries in partition %d, the window is %d",
                    slowest.group,
                    "running" if slowest.alive else "not running",
                    lag,
                    partition,
                    self._window,
                )
                warn_at += WARN_S
            await wait(POLL_S, stop)
        return not stop.is_set()


def _lag(view: GroupView) -> int:
    return max(view.lag.values(), default=0)
