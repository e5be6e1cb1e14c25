"""Give signs of life to the supervisor of this process: systemd's watchdog, or a container's health check.

The loop itself gives them, once a turn. A thread would go on giving them for hours after the loop had died.

``NOTIFY_SOCKET`` names systemd's socket (``sd_notify(3)``). ``CONCLAVE_HEARTBEAT`` names a file that is touched, so its
age is the time since the last turn; it is removed at the end. Without either variable nothing is done.
"""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
HEARTBEAT: Final = "CONCLAVE_HEARTBEAT"
EVERY_S: Final = 1.0
"""Seconds between two signs of life, if the loop turns faster."""
STALE_S: Final = 45.0
"""The health check in `compose.yaml` takes a loop that has not turned for so long for dead. Longer than the log waits
for its server."""


class Supervised:
    """The supervisors that the environment names. Never raises if one does not listen."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address, file = environ.get(SOCKET, ""), environ.get(HEARTBEAT, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._file = Path(file) if file else None
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
        if self._file is not None:
            self._file.touch()

    def stopping(self) -> None:
        """Report that the process ends."""
        self._send(b"STOPPING=1")
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _send(self, message: bytes) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message, self._address)
            except OSError:
                return  # a full queue, or no listener: the next turn sends again
