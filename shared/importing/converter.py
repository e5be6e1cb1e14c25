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
    """The attributes of a pickled scaler of scikit-learn, or of a pipeline."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


class StandardScaler(ScalerState):
    """``(x - mean_) / scale_``. Both may be stored though ``with_mean`` or ``with_std`` says not to use them."""


class RobustScaler(ScalerState):
    """``(x - center_) / scale_``."""


class MinMaxScaler(ScalerState):
    """``x * scale_ + min_``."""


class MaxAbsScaler(ScalerState):
    """``x / scale_``."""


class Pipeline(ScalerState):
    """Steps, of which there may be one."""


SCALERS: Final = (StandardScaler, RobustScaler, MinMaxScaler, MaxAbsScaler)


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
        (module, scaler.__name__): scaler
        for module in ("sklearn.preprocessing._data", "sklearn.preprocessing.data", "sklearn.preprocessing")
        for scaler in SCALERS
    },
    ("sklearn.pipeline", "Pipeline"): Pipeline,
}


class Unpickler(pickle.Unpickler):
    """An unpickler that resolves only the names in ``ALLOWED``."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed class or function. Raises ``pickle.UnpicklingError`` with any other name."""
        if (module, name) not in ALLOWED:
            known = ", ".join(scaler.__name__ for scaler in SCALERS)
            raise pickle.UnpicklingError(f"it names {module}.{name}; only {known}, alone or in a pipeline, are read")
        return ALLOWED[module, name]


def numbers(data: bytes) -> dict[str, list[Any]]:
    """Return mean and scale of a pickled scaler, so that it computes ``(x - mean) / scale``, and the names of the
    features that it was fitted on (none if they had no names). Raises ``ValueError`` or ``pickle.UnpicklingError``."""
    scaler = Unpickler(io.BytesIO(data)).load()
    if isinstance(scaler, Pipeline):
        steps = scaler.attributes.get("steps", ())
        if len(steps) != 1:
            raise ValueError(f"a pipeline of {len(steps)} steps; only one of a single scaler can be imported")
        scaler = steps[0][1]
    if not isinstance(scaler, SCALERS):
        known = ", ".join(known.__name__ for known in SCALERS)
        raise ValueError(f"a {type(scaler).__name__}; expected one of {known}")
    if scaler.attributes.get("clip"):
        raise ValueError(f"a {type(scaler).__name__} with clip=True: it cuts values off, which mean and scale cannot")
    mean, scale = _linear(scaler)
    names = np.asarray(scaler.attributes.get("feature_names_in_", ()), dtype=object)
    return {"mean": mean.tolist(), "scale": scale.tolist(), "names": [str(name) for name in names.ravel()]}


def _linear(scaler: ScalerState) -> tuple[Any, Any]:
    """Return mean and scale of a scaler."""
    width = int(scaler.attributes.get("n_features_in_", 0))

    def of(name: str, used: str, otherwise: float) -> Any:
        stored = scaler.attributes.get(name)
        if not scaler.attributes.get(used, True) or stored is None:
            return np.full(width, otherwise)
        return np.asarray(stored, dtype=np.float64)

    # Before release 0.24 of scikit-learn the number of features was not stored.
    width = width or next((np.size(scaler.attributes[name]) for name in ("scale_", "mean_", "center_", "min_")
                           if scaler.attributes.get(name) is not None), 0)  # fmt: skip
    if isinstance(scaler, MinMaxScaler):
        slope, start = of("scale_", "", 1.0), of("min_", "", 0.0)
        mean, scale = -start / slope, 1.0 / slope
    elif isinstance(scaler, MaxAbsScaler):
        mean, scale = np.zeros(width), of("scale_", "", 1.0)
    elif isinstance(scaler, RobustScaler):
        mean, scale = of("center_", "with_centering", 0.0), of("scale_", "with_scaling", 1.0)
    else:
        mean, scale = of("mean_", "with_mean", 0.0), of("scale_", "with_std", 1.0)
    if not width or mean.shape != (width,) or scale.shape != (width,):
        raise ValueError(f"the {type(scaler).__name__} was not fitted: it has no numbers for each feature")
    return mean, scale


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
