"""ONNX graphs that were made elsewhere, served by ONNX Runtime as they are.

A graph has one input, float32 or float64: [N, T, F], or [N, T * F] with the vectors of a window one after another. It
has one output [N, 3] of floats, log probabilities or probabilities; other outputs of other shapes, such as the labels
of scikit-learn's converter, are not read. N is 1 or not fixed.

The runtime computes one window at a time on one thread: the bits of a row may depend on the number of rows, and with
one they cannot. So the bits are reproducible with the same runtime on the same processor.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.families.base import (
    LONGEST_WINDOW,
    Files,
    Fitted,
    Logits,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    only_file,
)
from shared.families.libraries import library

FILE: Final = "model.onnx"
FLOATS: Final[Mapping[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
}
LEAST: Final = 1e-7
"""A probability below this is taken for it: the resolution of float32."""
ELSEWHERE: Final = b"\x0a\x08location\x12"
"""How a tensor in a graph begins the name of a file that holds its numbers (``external_data`` of ONNX)."""
ERRORS: Final = 4
"""The runtime prints fatal errors alone; what is wrong with a graph is raised."""


class Signature(NamedTuple):
    """What a graph takes and gives: the names of its input and its output, the type of the input, its shape without the
    rows (None: not fixed), and how many outputs it has."""

    source: str
    result: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


class OnnxModel:
    """A graph in a session of its own on one thread."""

    def __init__(self, data: bytes, features: int, params: Params) -> None:
        self.data = data
        self._session = session_of(data)
        self._signature = signature_of(self._session)
        window = int(params["window"])
        self._rows = shape_for(self._signature, window, features)
        self._order = [int(params[name]) for name in ("sell", "hold", "buy")]
        self._probabilities = bool(params["probabilities"])

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""
        given = np.ascontiguousarray(windows, dtype=self._signature.dtype).reshape(len(windows), *self._rows)
        out = np.empty((len(windows), 3))
        for row in range(len(given)):
            out[row] = outputs(self._session, self._signature, given[row : row + 1])[0, self._order]
        return np.log(np.maximum(out, LEAST)) if self._probabilities else out


class Onnx:
    """The family ``onnx``, which cannot be trained.

    ``window``: vectors of a window. ``sell``, ``hold``, ``buy``: the place of each class in the output.
    ``probabilities`` 1: the output is probabilities, not logits."""

    name = "onnx"
    scaled = True
    constant = False
    batch_rows: int | None = None
    presets: Mapping[str, Params] = MappingProxyType({})
    defaults: Params = MappingProxyType({"window": 1, "sell": 0, "hold": 1, "buy": 2, "probabilities": 0})

    def window(self, params: Params) -> int:
        """See ``Family.window``."""
        window = params["window"]
        if window != int(window) or not 1 <= window <= LONGEST_WINDOW:
            raise ValueError(f"window is {window}, expected a whole number from 1 to {LONGEST_WINDOW}")
        if sorted(params[name] for name in ("sell", "hold", "buy")) != [0, 1, 2]:
            raise ValueError("sell, hold and buy are the places of the classes in the output: 0, 1 and 2 in some order")
        return int(window)

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """Raise ``ValueError``: a graph cannot be trained."""
        raise ValueError(f"family {self.name!r} is imported, not trained; see `conclave import`")

    def save(self, model: OnnxModel) -> dict[str, bytes]:
        """Return the graph, byte for byte as it was imported."""
        return {FILE: model.data}

    def load(self, files: Files, features: int, params: Params) -> OnnxModel:
        """See ``Family.load``."""
        data = only_file(files, FILE, self.name)
        try:
            self.window(params)
        except ValueError as error:
            raise WeightsError(f"{FILE}: the manifest's parameters do not fit: {error}") from None
        return OnnxModel(data, features, params)

    def libraries(self) -> dict[str, str]:
        """Return NumPy and ONNX Runtime."""
        return {"numpy": np.__version__, "onnxruntime": library("onnxruntime").__version__}


def session_of(data: bytes) -> Any:
    """Return a session of the runtime for a graph: one thread, one operator at a time, no file besides the graph.
    Raises ``WeightsError``, ``LibraryMissingError``."""
    runtime = library("onnxruntime")
    if ELSEWHERE in data:
        raise WeightsError(f"{FILE}: its weights are in other files (external data); save them in the graph")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = ERRORS
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has an exception of its own for each fault
        raise WeightsError(
            f"{FILE}: not a graph that ONNX Runtime {runtime.__version__} serves: {_first(error)}"
        ) from None


def signature_of(session: Any) -> Signature:
    """Return what a graph takes and gives. Raises ``WeightsError``."""
    given = session.get_inputs()
    if len(given) != 1 or given[0].type not in FLOATS:
        found = ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in given) or "none"
        raise WeightsError(f"{FILE}: expected one input of floats; found {found}")
    source = given[0]
    if not source.shape or not (source.shape[0] == 1 or not isinstance(source.shape[0], int)):
        raise WeightsError(
            f"{FILE}: its input {source.name} is {list(source.shape)}: it computes a fixed number of rows at once; "
            "export it with a batch of 1, or with a batch that is not fixed"
        )
    results = [each for each in session.get_outputs() if each.type in FLOATS and list(each.shape[1:]) == [3]]
    if len(results) != 1:
        found = ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in session.get_outputs())
        hint = "; export a scikit-learn model with zipmap=False" if "map(" in found else ""
        raise WeightsError(f"{FILE}: expected one output of floats [rows, 3]; found {found}{hint}")
    sizes = tuple(size if isinstance(size, int) else None for size in source.shape[1:])
    return Signature(source.name, results[0].name, FLOATS[source.type], sizes)


def shape_for(signature: Signature, window: int, features: int) -> tuple[int, ...]:
    """Return the shape of one row of a graph's input, [T, F] or [T * F]. Raises ``WeightsError`` where it takes neither
    for these numbers."""
    ways = [(window, features), (window * features,)]
    for way in ways:
        if len(way) == len(signature.shape) and all(
            size is None or size == ours for size, ours in zip(signature.shape, way, strict=True)
        ):
            return way
    there = ", ".join("?" if size is None else str(size) for size in signature.shape)
    raise WeightsError(
        f"{FILE}: its input {signature.source} is [rows, {there}]; for {window} vectors of {features} features, as the "
        f"manifest names them, expected [rows, {window}, {features}] or [rows, {window * features}]"
    )


def outputs(session: Any, signature: Signature, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the output [N, 3] of a graph for rows of its input. Raises ``ValueError`` where the runtime fails."""
    try:
        (result,) = session.run([signature.result], {signature.source: rows})
    except Exception as error:  # the library has an exception of its own for each fault
        raise ValueError(f"{FILE}: ONNX Runtime could not compute a row: {_first(error)}") from None
    found = np.asarray(result, dtype=np.float64)
    if found.shape != (len(rows), 3):
        raise ValueError(f"{FILE}: expected an output [{len(rows)}, 3], got {list(found.shape)}")
    return found


def _first(error: Exception) -> str:
    return f"{str(error).splitlines()[0]:.300}" if str(error) else type(error).__name__


ONNX: Final = Onnx()
