"""Read an ONNX graph that was made elsewhere, and compare what will be served with ONNX's reference implementation.

The reference is ``onnx.reference.ReferenceEvaluator``: every operator in NumPy, written by those who define the
operators. The runtime that serves fuses and rewrites them. Two implementations that agree on windows are evidence that
the runtime computes what the file says.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import ACTIONS
from shared.families.base import Params, WeightsError
from shared.families.imported.onnx import (
    ELSEWHERE,
    LEAST,
    ONNX,
    OnnxModel,
    Signature,
    outputs,
    session_of,
    shape_for,
    signature_of,
)
from shared.families.libraries import library
from shared.importing.comparing import difference
from shared.importing.layouts import LayoutError
from shared.importing.reading import SourceFileError

PROBES: Final = 64
SUMS_TO: Final = 1e-4
"""Outputs are probabilities if on every probe they are not negative and sum to one within this."""


class Graph(NamedTuple):
    """A graph that will be served: the family's model and parameters, a line about it, and the largest difference of a
    probability from the reference."""

    model: OnnxModel
    params: dict[str, int | float]
    layout: str
    off: float


def try_out(data: bytes, path: Path) -> None:
    """Check a graph, open it and compute some rows: what a child process does before this one opens it. Raises
    ``SourceFileError``, ``WeightsError``."""
    model = _checked(data, path)
    reference = library("onnx.reference").ReferenceEvaluator(model)
    session = session_of(data)
    signature = signature_of(session)
    shape = tuple(1 if size is None else size for size in signature.shape)
    rows = np.random.default_rng(0).standard_normal((1, *shape)).astype(signature.dtype)
    for magnitude in (1.0, 0.0, 1e3):
        try:
            outputs(session, signature, (magnitude * rows).astype(signature.dtype))
            reference.run([signature.result], {signature.source: (magnitude * rows).astype(signature.dtype)})
        except ValueError:
            if None not in signature.shape:
                raise


def read_graph(data: bytes, path: Path, features: int, stated: Params, classes: tuple[str, ...]) -> Graph:
    """Return the graph in the content of ``path``, for vectors of ``features``. ``stated``: parameters by the operator;
    ``classes``: the meaning of the three outputs in their order. Raises ``SourceFileError``, ``WeightsError``,
    ``LayoutError``, ``DiffersError``."""
    if sorted(classes) != sorted(ACTIONS):
        raise LayoutError("a graph has three outputs: state their classes in order, such as --classes SELL,HOLD,BUY")
    if unknown := sorted(set(stated) - {"window"}):
        raise LayoutError(f"{', '.join(unknown)}: a graph shows everything but `window`")
    model = _checked(data, path)
    signature = signature_of(session_of(data))
    window = int(stated["window"]) if "window" in stated else _window(signature, features)
    shape = shape_for(signature, window, features)
    probes = np.random.default_rng(0).standard_normal((PROBES, window, features))
    rows = np.ascontiguousarray(probes, dtype=signature.dtype).reshape(PROBES, *shape)
    expected = _reference(model, signature, rows)
    shares = bool((expected >= 0).all() and np.abs(expected.sum(axis=1) - 1).max() <= SUMS_TO)
    order = {action.lower(): classes.index(action) for action in ACTIONS}
    params: dict[str, int | float] = {**ONNX.defaults, "window": window, **order, "probabilities": int(shares)}
    served = OnnxModel(data, features, params)
    logits = np.log(np.maximum(expected, LEAST)) if shares else expected
    off = difference(served.logits(probes), logits[:, list(order.values())])
    kind = "probabilities" if shares else "logits"
    opsets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in model.opset_import)
    return Graph(served, params, f"an ONNX graph of {kind} (opset {opsets})", off)


def _checked(data: bytes, path: Path) -> Any:
    """Return the parsed graph. Raises ``SourceFileError``."""
    onnx = library("onnx")
    if ELSEWHERE in data:
        raise SourceFileError(
            f"{path}: its weights are in other files (external data). Save one file: onnx.save(model, "
            '"model.onnx", save_as_external_data=False)'
        )
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # the libraries below it raise what they have
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceFileError(f"{path}: not a valid ONNX graph: {why:.200}") from None
    return model


def _window(signature: Signature, features: int) -> int:
    """Return the window that the input's shape shows. Raises ``LayoutError`` where it shows none."""
    match signature.shape:
        case (int(window), _):
            return window
        case (int(wide),) if wide % features == 0:
            return wide // features
        case (int(wide),):
            raise LayoutError(f"its input has {wide} numbers: not a whole number of vectors of {features} features")
        case _:
            raise LayoutError("the shape of its input does not determine window: state --param window=...")


def _reference(model: Any, signature: Signature, rows: NDArray[Any]) -> NDArray[np.float64]:
    evaluator = library("onnx.reference").ReferenceEvaluator(model)
    try:
        made = [
            evaluator.run([signature.result], {signature.source: rows[row : row + 1]})[0] for row in range(len(rows))
        ]
    except Exception as error:  # an operator without a reference, or one that fails
        raise WeightsError(f"ONNX's reference cannot compute it: {type(error).__name__}: {error!s:.200}") from None
    return np.concatenate(made).astype(np.float64)
