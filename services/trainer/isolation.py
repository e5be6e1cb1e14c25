"""Restrict a training process: lowest priority, idle disk class, limited memory.

The process restricts itself before it imports anything large. The limits of a systemd unit or of a container apply in
addition.
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
    """Lower the priority of this process, and limit its data segment to ``memory_mb`` (MiB).

    A step that the process may not take, or that the kernel does not support, is left out: a systemd unit that forbids
    a step has set the same limit itself."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    if sys.platform == "linux":
        _set_idle_classes()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * MIB, memory_mb * MIB))


def _set_idle_classes() -> None:
    """Set the idle class of the scheduler and that of the disk. With ``SCHED_IDLE`` any other process of the session
    gets the processor as soon as it wakes, which no nice value achieves (sched(7)); see ioprio_set(2) for the disk."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, WHO_PROCESS, 0, IDLE_CLASS)


def peak_mb() -> float:
    """Return the peak resident memory of this process so far (MiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
