"""Convert a pickled scaler in a child process: a pickle on standard input, numbers as JSON on standard output.

Before it interprets the first byte of the pickle, the process sets resource limits on itself. It then can no longer
open files or sockets (RLIMIT_NOFILE 0), start processes (RLIMIT_NPROC 0; no effect for root), write files
(RLIMIT_FSIZE 0), or use much time or memory (RLIMIT_CPU, RLIMIT_AS). All modules were imported before. The unpickler
resolves only the class of the scaler, which becomes a plain container, and NumPy's arrays. A pickle that names
anything else is refused.

Guaranteed: only the names in ``ALLOWED`` are resolved or called. Not guaranteed: that CPython's unpickler and NumPy's
array reconstruction are free of faults. Against those there are only the limits, and root can raise them again, so
run it as an ordinary user. Standard output must be a pipe.
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


class ScalerState:
    """The attributes of a pickled ``sklearn.preprocessing.StandardScaler``."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


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
        (module, "StandardScaler"): ScalerState
        for module in ("sklearn.preprocessing._data", "sklearn.preprocessing.data", "sklearn.preprocessing")
    },
}


class Unpickler(pickle.Unpickler):
    """An unpickler that resolves only the names in ``ALLOWED``."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed class or function. Raises ``pickle.UnpicklingError`` with any other name."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no scaler needs")
        return ALLOWED[module, name]


def numbers(data: bytes) -> dict[str, list[float]]:
    """Return the mean and scale of a pickled scaler. Raises ``ValueError`` or ``pickle.UnpicklingError``."""
    scaler = Unpickler(io.BytesIO(data)).load()
    if not isinstance(scaler, ScalerState):
        raise ValueError(f"expected a StandardScaler, got a {type(scaler).__name__}")
    mean, scale = (np.asarray(scaler.attributes.get(name), dtype=np.float64) for name in ("mean_", "scale_"))
    if mean.ndim != 1 or mean.shape != scale.shape:
        raise ValueError("the scaler was not fitted: expected mean_ and scale_ of equal length")
    return {"mean": mean.tolist(), "scale": scale.tolist()}


def confine() -> None:
    """Limit files, sockets, processes, time and memory of this process. Only root can undo it."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def main() -> None:
    """Convert standard input to standard output. Exit code 1 with the reason if the pickle is refused."""
    data = sys.stdin.buffer.read(LARGEST + 1)
    confine()
    try:
        if len(data) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        converted = json.dumps(numbers(data))
    except Exception as error:  # a pickle can raise anything
        sys.stderr.write(f"{type(error).__name__}: {error!s:.300}\n")
        sys.exit(1)
    sys.stdout.write(converted)


if __name__ == "__main__":
    main()
