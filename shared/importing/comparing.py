"""Compare an imported network with a reference implementation: torch's own layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.families.base import Params
from shared.families.libraries import library

TOLERANCE = 1e-5
"""The largest difference of a probability from the reference."""


class DiffersError(ValueError):
    """The served network and the reference have different predictions for the same weights."""


def compare(
    family: str, weights: Mapping[str, NDArray[np.float32]], params: Params, served: NDArray[np.float64],
    windows: NDArray[np.float64],
) -> float:  # fmt: skip
    """Return the largest difference of a probability between ``served`` (logits [N, 3]) and the reference for the same
    windows. Raises ``DiffersError`` above 1e-5."""
    return difference(served, reference_logits(family, weights, params, windows))


def difference(served: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the largest difference of a probability between two logits [N, 3]. Raises ``DiffersError`` above 1e-5."""
    off = float(np.abs(_softmax(served) - _softmax(reference)).max())
    if not off <= TOLERANCE:
        raise DiffersError(
            f"a served probability differs from the reference by {off:.3g}; at most {TOLERANCE:g} is allowed"
        )
    return off


def reference_logits(
    family: str, weights: Mapping[str, NDArray[np.float32]], params: Params, windows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the logits [N, 3] of the network in torch, in double precision."""
    torch = library("torch")
    with torch.no_grad():
        tensors = {name: torch.from_numpy(np.array(array)).double() for name, array in weights.items()}
        x = torch.from_numpy(np.asarray(windows, dtype=np.float32)).double()
        x = _stacks(torch, tensors, x) if family == "imported-stacks" else _encoder(torch, tensors, params, x)
        logits = _head(torch, tensors, x)
        if params["sigmoid"]:
            buy, hold = torch.sigmoid(logits[:, 0]), float(params["hold"])
            shares = [(1 - hold) * (1 - buy), torch.full_like(buy, hold), (1 - hold) * buy]
            logits = torch.stack(shares, dim=1).log()
        return np.asarray(logits.numpy())


def _encoder(torch: Any, tensors: Mapping[str, Any], params: Params, x: Any) -> Any:
    patch = int(params["patch"])
    if patch:
        cut = x.unfold(1, patch, patch)  # [N, tokens, features, patch]
        x = cut.flatten(2) if params["channels_first"] else cut.transpose(2, 3).flatten(2)
    x = torch.nn.functional.linear(x, tensors["in.weight"], tensors["in.bias"])
    if "position" in tensors:
        x = x + tensors["position"]
    count = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    layer = torch.nn.TransformerEncoderLayer(
        x.shape[2],
        int(params["heads"]),
        tensors["layers.0.linear1.weight"].shape[0],
        dropout=0.0,
        activation="gelu" if params["gelu"] else "relu",
        batch_first=True,
    )
    encoder = torch.nn.TransformerEncoder(layer, count, enable_nested_tensor=False).double().eval()
    encoder.load_state_dict({name: array for name, array in tensors.items() if name.startswith("layers.")}, strict=True)
    x = encoder(x)
    if "norm.weight" in tensors:
        x = torch.nn.functional.layer_norm(x, x.shape[2:], tensors["norm.weight"], tensors["norm.bias"])
    return x[:, -1] if params["last"] else x.mean(dim=1)


def _stacks(torch: Any, tensors: Mapping[str, Any], x: Any) -> Any:
    x = x.flatten(1)
    for number in range(len({name.split(".")[1] for name in tensors if name.startswith("stacks.")})):
        wide, out = (tensors[f"stacks.{number}.{part}.weight"].shape for part in (0, 3))
        stack = torch.nn.Sequential(
            torch.nn.Linear(wide[1], wide[0]), torch.nn.ReLU(), torch.nn.Dropout(0.5),
            torch.nn.Linear(out[1], out[0]), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        ).double().eval()  # fmt: skip
        own = f"stacks.{number}."
        stack.load_state_dict(
            {name.removeprefix(own): array for name, array in tensors.items() if name.startswith(own)}
        )
        x = stack(x) + x if wide[1] == out[0] else stack(x)
    return x


def _head(torch: Any, tensors: Mapping[str, Any], x: Any) -> Any:
    for number in range(len({name.split(".")[1] for name in tensors if name.startswith("head.")})):
        x = torch.nn.functional.linear(
            torch.relu(x) if number else x, tensors[f"head.{number}.weight"], tensors[f"head.{number}.bias"]
        )
    return x


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
