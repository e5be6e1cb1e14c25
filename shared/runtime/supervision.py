"""Give signs of life to the supervisor of this process: systemd's watchdog, or a container's health check.

The loop itself gives them, once a turn. A thread would go on giving them for hours after the loop had died.

``NOTIFY_SOCKET`` names systemd's socket (``sd_notify(3)``). ``CONCLAVE_HEARTBEAT`` names a file that is touched, so its
age is the time since the last turn; it is removed at the end. Without either variable nothing is done.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
HEARTBEAT: Final = "CONCLAVE_HEARTBEAT"
EVERY_S: Final = 1.0
"""Seconds between two signs of life, if the loop turns faster."""
_log = logging.getLogger(__name__)
STALE_S: Final = 45.0
"""The health check in `compose.yaml` takes a loop that has not turned for so long for dead. Longer than the log waits
for its server."""


class Supervised:
    """The supervisors that the environment names. Never raises if one does not listen, or if the file cannot be
    touched; the latter is logged once, since the health check will then take this process for dead."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address, file = environ.get(SOCKET, ""), environ.get(HEARTBEAT, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._file = Path(file) if file else None
        self._failing = False
        self._next = 0.0

    def ready(self) -> None:
        """Report that the start is over: the group is claimed and the state is rebuilt."""
        self._send(b"READY=1")
        self.alive()

    def alive(self) -> None:
        """Report a turn of the loop. Does nothing within ``EVERY_S`` of the last report."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        self._send(b"WATCHDOG=1")
        self._on_file(Path.touch)

    def stopping(self) -> None:
        """Report that the process ends."""
        self._send(b"STOPPING=1")
        self._on_file(partial(Path.unlink, missing_ok=True))

    def _on_file(self, act: Callable[[Path], None]) -> None:
        if self._file is None:
            return
        try:
            act(self._file)
            self._failing = False
        except OSError as error:
            if not self._failing:
                _log.error("%s, of $%s, cannot be written: %s", self._file, HEARTBEAT, error)
            self._failing = True

    def _send(self, message: bytes) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message, self._address)
            except OSError:
                return  # a full queue, or no listener: the next turn sends again
