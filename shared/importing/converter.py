"""The child process that opens a pickled scaler: a pickle on standard input, numbers as JSON on standard output.

It runs with nothing to lose. Before the first byte of the pickle is interpreted the process has given up, by
resource limits, the means to open another file or socket (RLIMIT_NOFILE at what is open), to start a process
(RLIMIT_NPROC 0; not against root), to write a file (RLIMIT_FSIZE 0) and to run long or large (RLIMIT_CPU,
RLIMIT_AS); what it needs has been imported. And the unpickler resolves no names but those of the scaler's class,
which becomes an empty shell, and of NumPy's arrays: a pickle that calls anything else is refused by name.

Guaranteed: no code that a pickle names is called outside this list. Not guaranteed: a fault in CPython's unpickler
or in NumPy's array reconstruction; the limits are what stands behind that, and root may raise them again: import
as an ordinary user. Standard output must be a pipe.
"""

import io
import json
import pickle  # restricted, in a child
import resource
import sys
from typing import Any, Final

import numpy as np

SECONDS: Final = 10
MEMORY: Final = 2 * 2**30
LARGEST: Final = 16 * 2**20


class Shell:
    """Stands for ``sklearn.preprocessing.StandardScaler``: holds what the pickle says it held."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.held = dict(state)


def _reconstruct() -> Any:
    return np.array(0.0).__reduce__()[0]


def _scalar() -> Any:
    return np.float64(0.0).__reduce__()[0]


ALLOWED: Final = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct() for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar() for core in ("core", "_core")},
    **{
        (module, "StandardScaler"): Shell
        for module in ("sklearn.preprocessing._data", "sklearn.preprocessing.data", "sklearn.preprocessing")
    },
}


class Unpickler(pickle.Unpickler):
    """Resolves the names of ``ALLOWED`` and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises ``pickle.UnpicklingError`` with the name that was asked for."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no scaler needs")
        return ALLOWED[module, name]


def numbers(data: bytes) -> dict[str, list[float]]:
    """Mean and scale of a pickled scaler. Raises ``ValueError`` or ``pickle.UnpicklingError``."""
    found = Unpickler(io.BytesIO(data)).load()
    if not isinstance(found, Shell):
        raise ValueError(f"it holds a {type(found).__name__}, expected a StandardScaler")
    mean, scale = (np.asarray(found.held.get(name), dtype=np.float64) for name in ("mean_", "scale_"))
    if mean.ndim != 1 or mean.shape != scale.shape:
        raise ValueError("it was not fitted: no mean_ and scale_ of one length")
    return {"mean": mean.tolist(), "scale": scale.tolist()}


def confine() -> None:
    """Gives up files, sockets, processes, time and memory; for good, unless it runs as root."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def main() -> None:
    """Standard input to standard output. Exit code 1 where it is refused, with the reason."""
    data = sys.stdin.buffer.read(LARGEST + 1)
    confine()
    try:
        if len(data) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        told = json.dumps(numbers(data))
    except Exception as error:  # whatever a pickle does
        sys.stderr.write(f"{type(error).__name__}: {error!s:.300}\n")
        sys.exit(1)
    sys.stdout.write(told)


if __name__ == "__main__":
    main()
