"""Run a module in a child process of limited memory and time, so that a crash of a library is an error here.

A library in C may end the process that opens a damaged file with it, take all memory, or never return. So a file that
this process did not make is opened in a child first. The module calls ``enter`` before it imports a library.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from shared.processes import module_command

MIB: Final = 2**20
PROCESSOR_S: Final = 30
"""The most processor time of a child (seconds)."""
WAIT_S: Final = 120.0
"""How long to wait for a child (seconds). On a busy machine it is much longer than its processor time."""
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PR_SET_PDEATHSIG: Final = 1


class ConfinedError(RuntimeError):
    """The child gave no answer. The message says why.

    ``passing``: another attempt may succeed, since the reason may lie in the machine and not in the file."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def confined(module: str, *words: str, memory_mb: int, data: bytes = b"") -> bytes:
    """Run ``module`` with ``words`` and with ``data`` on its standard input, and return its answer.
    Raises ``ConfinedError``."""
    try:
        done = subprocess.run(  # noqa: S603  # a module of this project
            module_command(module, str(memory_mb), str(PROCESSOR_S), str(os.getpid()), *words),
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_S,
            check=False,
            env={**os.environ, **ONE_THREAD},
        )
    except OSError as error:
        raise ConfinedError(f"no child process could be started to open it: {error}", passing=True) from None
    except subprocess.TimeoutExpired:
        raise ConfinedError(f"opening it in a child process took more than {WAIT_S:.0f} s", passing=True) from None
    if done.returncode == 0:
        return done.stdout
    passing = done.returncode > 0 or -done.returncode == signal.SIGKILL
    match -done.returncode:
        case signal.SIGXCPU:
            why = f"opening it took more than {PROCESSOR_S} s of processor time"
        case signal.SIGKILL:
            why = "the child process that opened it was killed, as the kernel does when memory runs out"
        case number if number > 0:
            why = f"opening it crashed the library ({signal.Signals(number).name})"
        case _:
            why = f"the child process that opened it ended with code {done.returncode}"
    raise ConfinedError(f"{why}, in a child process with {memory_mb} MiB", passing=passing)


def enter() -> tuple[BinaryIO, Sequence[str]]:
    """Confine this process, which ``confined`` started. Return the file for its answer, and its words.

    What a library prints is dropped. A limit that may not be set (a systemd unit that forbids it) is left out: the unit
    has limits of its own."""
    memory_mb, seconds, parent, *words = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    if os.getppid() != int(parent):
        raise SystemExit(2)
    most = int(memory_mb) * MIB
    for limit, soft, hard in (
        (resource.RLIMIT_DATA, most, most),
        (resource.RLIMIT_AS, 8 * most, 8 * most),  # libraries reserve much more than they use
        (resource.RLIMIT_CPU, int(seconds), int(seconds) + 1),  # SIGXCPU at the first, SIGKILL at the second
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (soft, hard))
    return answer, words
