"""Small ONNX graphs, as other programs export them."""

from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper


def perceptron(
    features: int,
    window: int = 1,
    *,
    rows: int | str = "rows",
    flat: bool = False,
    softmax: bool = False,
    opset: int = 17,
    outputs: int = 3,
    seed: int = 1,
    scale: float = 1.0,
) -> Any:
    """Return a graph of two layers over a window, [rows, window, features] or, if ``flat``, [rows, window * features].
    The weights are drawn at random; the newest vector counts most."""
    rng = np.random.default_rng(seed)
    wide, hidden = features * window, 16
    first = rng.standard_normal((wide, hidden)).astype(np.float32) / np.float32(np.sqrt(wide))
    first *= np.repeat(np.linspace(0.3, 1.0, window, dtype=np.float32), features)[:, None]
    second = np.float32(scale) * rng.standard_normal((hidden, outputs)).astype(np.float32) / np.float32(4)
    weights = {"first": first, "second": second, "bias": np.zeros(outputs, np.float32)}
    nodes = [] if flat else [helper.make_node("Flatten", ["x"], ["flat"], axis=1)]
    nodes += [
        helper.make_node("MatMul", ["x" if flat else "flat", "first"], ["wide"]),
        helper.make_node("Tanh", ["wide"], ["bent"]),
        helper.make_node("Gemm", ["bent", "second", "bias"], ["logits" if softmax else "y"]),
    ]
    nodes += [helper.make_node("Softmax", ["logits"], ["y"], axis=1)] if softmax else []
    shape = [rows, wide] if flat else [rows, window, features]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, outputs])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    checker.check_model(model)
    return model
