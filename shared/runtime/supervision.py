"""Signs of life to whoever supervises this process: systemd's watchdog, or a container's health check.

The loop itself gives them, once a turn. A thread would go on saying that all is well for hours after
the loop had died. Nobody listening (no ``NOTIFY_SOCKET``, no ``CONCLAVE_HEARTBEAT``): nothing is done.
``CONCLAVE_HEARTBEAT`` names a file that is touched: its age is the loop's. It is gone once drained.
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
"""Between two signs of life, however fast the loop turns."""
STALE_S: Final = 45.0
"""A loop that has not turned for so long is taken for dead, by `compose.yaml`. Longer than the log waits for its
server."""


class Supervised:
    """What supervises this process, as its environment says (``sd_notify(3)``). Never raises for a
    supervisor that does not listen."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address, file = environ.get(SOCKET, ""), environ.get(HEARTBEAT, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._file = Path(file) if file else None
        self._next = 0.0

    def ready(self) -> None:
        """It has claimed, caught up, and is live."""
        self._tell(b"READY=1")
        self.alive()

    def alive(self) -> None:
        """The loop has come round once more. Cheap: does nothing within ``EVERY_S`` of the last time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        self._tell(b"WATCHDOG=1")
        if self._file is not None:
            self._file.touch()

    def stopping(self) -> None:
        """It drains."""
        self._tell(b"STOPPING=1")
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _tell(self, message: bytes) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message, self._address)
            except OSError:
                return  # a full queue, or nobody there: the next turn says it again
