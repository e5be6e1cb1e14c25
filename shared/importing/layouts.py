"""Recognise the network of a state dict by the names and shapes of its tensors.

Shapes do not determine the number of attention heads, the activation, or the tokens that the head reads. These are
known for the layouts in ``KNOWN``; for other networks the operator must state them. A state dict with a missing or an
additional tensor is refused. Nothing is taken from the order of the tensors.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import ACTIONS
from shared.families.base import Params
from shared.importing.order import OrderError, Widths, ordered

Arrays = Mapping[str, NDArray[Any]]
LAYER: Final = re.compile(
    r"^(.*?)layers\.(\d+)\.(self_attn\.in_proj_(?:weight|bias)|(?:self_attn\.out_proj|linear1|linear2|norm1|norm2)\.(?:weight|bias))$"
)
STACK: Final = re.compile(r"^stacks\.\d+\.(0|3)\.(weight|bias)$")
NOT_IN_SHAPES: Final = ("heads", "gelu", "last")
"""Parameters that the shapes of tensors do not determine."""


class LayoutError(ValueError):
    """A state dict is not a supported network, or does not determine it. The message says what to state."""


class DetectedLayout(NamedTuple):
    """A recognised network: the family that serves it, its weights by the names of that family, its known parameters,
    and the name of the known layout (empty: recognised by its tensors alone)."""

    family: str
    weights: dict[str, NDArray[np.float32]]
    params: dict[str, int | float]
    layout: str


class LayoutSignature(NamedTuple):
    """The signature of a layout: whether tokens are patches, the number of layers, whether a normalisation follows, and
    the widths of the head. ``params`` are the parameters that shapes do not determine."""

    patched: bool
    layers: int
    norm: bool
    head: tuple[int, ...]
    params: Params


KNOWN: Final[Mapping[str, LayoutSignature]] = {
    "v2-patches": LayoutSignature(True, 3, False, (1,), {"heads": 4, "gelu": 0, "last": 0}),
    "v3-transformer": LayoutSignature(False, 2, True, (3,), {"heads": 4, "gelu": 1, "last": 0}),
    "v5-patchtst": LayoutSignature(False, 4, False, (64, 3), {"heads": 8, "gelu": 0, "last": 0}),
}


def recognise(state: Arrays, features: int, stated: Params, classes: tuple[str, ...]) -> DetectedLayout:
    """Return the network of a state dict.

    ``stated`` are parameters stated by the operator; they override those of a known layout. ``classes`` is the meaning
    of the outputs in their order: three actions; or for one output, SELL,BUY if it is the log odds of BUY, and BUY,SELL
    if it is those of SELL. Raises ``LayoutError``.
    """
    wrong = [name for name, array in state.items() if array.dtype.kind != "f" or not np.isfinite(array).all()]
    if wrong:
        raise LayoutError(f"{', '.join(wrong[:5])}: expected finite floating-point numbers")
    if any(STACK.match(name) for name in state):
        return _stacks(state, features, stated, classes)
    return _encoder(state, features, stated, classes)


def _stacks(state: Arrays, features: int, stated: Params, classes: tuple[str, ...]) -> DetectedLayout:
    weights, head = {}, {}
    for name, array in state.items():
        if STACK.match(name):
            weights[name] = _float32(array)
        else:
            head[name] = array
    first = state.get("stacks.0.0.weight")
    if first is None or first.shape[1] % features:
        inputs = "no" if first is None else str(first.shape[1])
        raise LayoutError(
            f"stacks.0.0.weight has {inputs} inputs: not a whole number of vectors of {features} features"
        )
    linears = _linears(head)
    if len(linears) * 2 != len(head):
        raise LayoutError(f"unexpected tensors: {', '.join(sorted(set(head) - _tensors_of(linears)))}")
    top = max(int(name.split(".")[1]) for name in weights)
    last = weights.get(f"stacks.{top}.3.weight")
    linears = _in_order(head, linears, None if last is None else int(last.shape[0]))
    params: dict[str, int | float] = {
        "window": first.shape[1] // features,
        "sigmoid": int(_outputs(head, linears) == 1),
    }
    _check_stated(params, stated)
    weights |= _head(head, linears, classes)
    return DetectedLayout("imported-stacks", weights, params, "v5-nhits")


def _encoder(state: Arrays, features: int, stated: Params, classes: tuple[str, ...]) -> DetectedLayout:
    weights: dict[str, NDArray[np.float32]] = {}
    rest: dict[str, NDArray[Any]] = {}
    prefixes, numbers = set(), set()
    for name, array in state.items():
        layer = LAYER.match(name)
        if layer is None:
            rest[name] = array
            continue
        prefixes.add(layer[1])
        numbers.add(int(layer[2]))
        weights[f"layers.{layer[2]}.{layer[3]}"] = _float32(array)
    if len(prefixes) != 1 or numbers != set(range(len(numbers))):
        raise LayoutError(
            f"{len(state)} tensors of an unsupported network: expected stacks.<n>.0 and .3, or one encoder "
            f"(<name>.layers.<n>.self_attn...); found {', '.join(sorted(state)[:6])}"
        )
    linears = _linears(rest)
    tables = [name for name, array in rest.items() if not name.endswith((".weight", ".bias")) and array.ndim in {2, 3}]
    norms = [name for name in _modules(rest) if rest[f"{name}.weight"].ndim == 1]
    unexpected = set(rest) - _tensors_of(linears) - _tensors_of(norms) - set(tables)
    if unexpected or len(linears) < 2 or len(norms) > 1 or len(tables) > 1:
        raise LayoutError(
            "expected an encoder with an input layer, a head, at most one normalisation and at most one table of "
            f"positions; found in addition to the encoder: {', '.join(sorted(rest))}"
        )
    embed, *head = _in_order(rest, linears, None)
    width = int(rest[f"{embed}.weight"].shape[1])
    if width % features:
        raise LayoutError(f"{embed}.weight has {width} inputs: not a whole number of vectors of {features} features")
    patch = 0 if width == features else width // features
    outputs = _outputs(rest, head)
    params: dict[str, int | float] = {"patch": patch, "sigmoid": int(outputs == 1)}
    if tables:
        table = _float32(rest[tables[0]])
        weights["position"] = table.reshape(table.shape[-2:])  # drops a leading axis of length 1
        params["window"] = weights["position"].shape[0] * (patch or 1)
    widths = tuple(int(rest[f"{name}.weight"].shape[0]) for name in head)
    layout = _known(bool(patch), len(numbers), bool(norms), widths)
    if layout:
        params |= KNOWN[layout].params
    _check_stated({name: value for name, value in params.items() if name not in NOT_IN_SHAPES}, stated)
    params |= stated
    if missing := [name for name in ("window", *NOT_IN_SHAPES) if name not in params]:
        raise LayoutError(
            f"the shapes of the tensors do not determine {', '.join(missing)}: state "
            f"{' '.join(f'--param {name}=...' for name in missing)} (window: the number of vectors; heads: the number "
            "of attention heads; gelu 1, or 0 for ReLU; last 1 if the head reads the last token, 0 if the mean of all)"
        )
    weights |= {f"in.{part}": _float32(rest[f"{embed}.{part}"]) for part in ("weight", "bias")}
    for name in norms:
        weights |= {f"norm.{part}": _float32(rest[f"{name}.{part}"]) for part in ("weight", "bias")}
    return DetectedLayout("imported-encoder", weights | _head(rest, head, classes), params, layout)


def _known(patched: bool, layers: int, norm: bool, head: tuple[int, ...]) -> str:
    return next((name for name, known in KNOWN.items() if known[:4] == (patched, layers, norm, head)), "")


def _check_stated(detected: Params, stated: Params) -> None:
    for name, value in stated.items():
        if name in detected and detected[name] != value:
            raise LayoutError(f"--param {name}={value:g}: the shapes of the tensors show {detected[name]:g}")


def _linears(tensors: Arrays) -> list[str]:
    """Return the names of the linear layers, in any order."""
    return [name for name in _modules(tensors) if tensors[f"{name}.weight"].ndim == 2]


def _in_order(tensors: Arrays, names: list[str], inputs: int | None) -> list[str]:
    """Return the names of linear layers in the order in which they are computed. Raises ``LayoutError``."""
    widths = {name: Widths(*reversed(tensors[f"{name}.weight"].shape)) for name in names}
    try:
        return ordered(widths, inputs)
    except OrderError as error:
        raise LayoutError(str(error)) from None


def _modules(tensors: Arrays) -> list[str]:
    """Return the names of the modules that have a weight and a bias."""
    names = (name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    return [name for name in names if f"{name}.bias" in tensors]


def _tensors_of(modules: list[str]) -> set[str]:
    return {f"{name}.{part}" for name in modules for part in ("weight", "bias")}


def _outputs(tensors: Arrays, head: list[str]) -> int:
    count = int(tensors[f"{head[-1]}.weight"].shape[0]) if head else 0
    if count not in {1, 3}:
        raise LayoutError(f"the last layer has {count} outputs; expected three logits, or the log odds of one action")
    return count


def _head(tensors: Arrays, head: list[str], classes: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Return the layers of the head by number, the outputs of the last in the order SELL, HOLD, BUY."""
    layers = {
        f"head.{number}.{part}": _float32(tensors[f"{name}.{part}"])
        for number, name in enumerate(head)
        for part in ("weight", "bias")
    }
    last, outputs = len(head) - 1, _outputs(tensors, head)
    if outputs == 3:
        if sorted(classes) != sorted(ACTIONS):
            raise LayoutError(
                f"three outputs: state their classes in order, as --classes SELL,HOLD,BUY; got {','.join(classes)}"
            )
        order = [classes.index(action) for action in ACTIONS]
        return {name: array[order] if name.startswith(f"head.{last}.") else array for name, array in layers.items()}
    if classes not in {("SELL", "BUY"), ("BUY", "SELL")}:
        raise LayoutError(
            "one output: state --classes SELL,BUY if it is the log odds of BUY, or --classes BUY,SELL if it is those "
            f"of SELL; got {','.join(classes)}"
        )
    sign = np.float32(1 if classes == ("SELL", "BUY") else -1)
    return {name: sign * array if name.startswith(f"head.{last}.") else array for name, array in layers.items()}


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
