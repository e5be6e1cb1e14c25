"""What a training process may take: the lowest priority, idle disk, so much memory, one thread.

Asked of the kernel by the process itself, before it imports anything large. A unit of systemd or a container adds
limits of its own, which hold whatever is done here.
"""

import ctypes
import os
import platform
import resource
import sys
from contextlib import suppress
from typing import Final

NICE: Final = 19
IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
WHO_PROCESS: Final = 1
IDLE_CLASS: Final = 3 << 13
MIB: Final = 2**20


def isolate(memory_mb: int) -> None:
    """Lowers this process. What it may not do, or the kernel does not know of, is left out: where a unit of systemd
    forbids it, the unit has set it already."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    if sys.platform == "linux":
        _yield_to_others()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * MIB, memory_mb * MIB))


def _yield_to_others() -> None:
    """Idle to the scheduler: whoever else of its session wakes has the processor at once, which no niceness gives
    (sched(7)). Idle to the disk (ioprio_set(2))."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, WHO_PROCESS, 0, IDLE_CLASS)


def peak_mb() -> float:
    """The most memory this process had resident until now (MiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
