"""What an imported network should answer, by torch's own layers: another implementation than the one that serves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.families.base import Params
from shared.families.libraries import library

CLOSE = 1e-5
"""How far a probability may lie from the reference's."""


class DiffersError(ValueError):
    """What is served is not what the weights say."""


def compare(
    family: str, weights: Mapping[str, NDArray[np.float32]], params: Params, served: NDArray[np.float64],
    windows: NDArray[np.float64],
) -> float:  # fmt: skip
    """The largest difference of a probability between ``served`` (logits [N, 3]) and torch's answer to the same
    windows. Raises ``DiffersError`` over 1e-5."""
    off = float(np.abs(_softmax(served) - _softmax(answer(family, weights, params, windows))).max())
    if not off <= CLOSE:
        raise DiffersError(
            f"served, a probability differs by {off:.3g} from the reference's, at most {CLOSE:g} is allowed"
        )
    return off


def answer(
    family: str, weights: Mapping[str, NDArray[np.float32]], params: Params, windows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logits [N, 3] of the network in torch, evaluated in double precision."""
    torch = library("torch")
    with torch.no_grad():
        held = {name: torch.from_numpy(np.array(array)).double() for name, array in weights.items()}
        x = torch.from_numpy(np.asarray(windows, dtype=np.float32)).double()
        found = _stacks(torch, held, x) if family == "imported-stacks" else _encoder(torch, held, params, x)
        found = _head(torch, held, found)
        if params["sigmoid"]:
            odds = found[:, 0]
            buy, hold = torch.sigmoid(odds), float(params["hold"])
            shares = [(1 - hold) * (1 - buy), torch.full_like(buy, hold), (1 - hold) * buy]
            found = torch.stack(shares, dim=1).log()
        return np.asarray(found.numpy())


def _encoder(torch: Any, held: Mapping[str, Any], params: Params, x: Any) -> Any:
    patch = int(params["patch"])
    if patch:
        cut = x.unfold(1, patch, patch)  # [N, tokens, features, patch]
        x = cut.flatten(2) if params["channels_first"] else cut.transpose(2, 3).flatten(2)
    x = torch.nn.functional.linear(x, held["in.weight"], held["in.bias"])
    if "position" in held:
        x = x + held["position"]
    count = len({name.split(".")[1] for name in held if name.startswith("layers.")})
    layer = torch.nn.TransformerEncoderLayer(
        x.shape[2],
        int(params["heads"]),
        held["layers.0.linear1.weight"].shape[0],
        dropout=0.0,
        activation="gelu" if params["gelu"] else "relu",
        batch_first=True,
    )
    encoder = torch.nn.TransformerEncoder(layer, count, enable_nested_tensor=False).double().eval()
    encoder.load_state_dict({name: array for name, array in held.items() if name.startswith("layers.")}, strict=True)
    x = encoder(x)
    if "norm.weight" in held:
        x = torch.nn.functional.layer_norm(x, x.shape[2:], held["norm.weight"], held["norm.bias"])
    return x[:, -1] if params["last"] else x.mean(dim=1)


def _stacks(torch: Any, held: Mapping[str, Any], x: Any) -> Any:
    x = x.flatten(1)
    for number in range(len({name.split(".")[1] for name in held if name.startswith("stacks.")})):
        wide, out = (held[f"stacks.{number}.{part}.weight"].shape for part in (0, 3))
        stack = torch.nn.Sequential(
            torch.nn.Linear(wide[1], wide[0]), torch.nn.ReLU(), torch.nn.Dropout(0.5),
            torch.nn.Linear(out[1], out[0]), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        ).double().eval()  # fmt: skip
        own = f"stacks.{number}."
        stack.load_state_dict({name.removeprefix(own): array for name, array in held.items() if name.startswith(own)})
        x = stack(x) + x if wide[1] == out[0] else stack(x)
    return x


def _head(torch: Any, held: Mapping[str, Any], x: Any) -> Any:
    for number in range(len({name.split(".")[1] for name in held if name.startswith("head.")})):
        x = torch.nn.functional.linear(
            torch.relu(x) if number else x, held[f"head.{number}.weight"], held[f"head.{number}.bias"]
        )
    return x


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
