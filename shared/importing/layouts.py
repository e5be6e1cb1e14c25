"""Which network a bare state dict is: from the names and shapes of its tensors.

What shapes cannot show (how many heads, which activation, which tokens the head sees) is known for the
layouts in ``KNOWN``, and asked for otherwise. Strict: every tensor has a place, and every place a tensor.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import ACTIONS
from shared.families.base import Params

Arrays = Mapping[str, NDArray[Any]]
LAYER: Final = re.compile(
    r"^(.*?)layers\.(\d+)\.(self_attn\.in_proj_(?:weight|bias)|(?:self_attn\.out_proj|linear1|linear2|norm1|norm2)\.(?:weight|bias))$"
)
STACK: Final = re.compile(r"^stacks\.\d+\.(0|3)\.(weight|bias)$")
ASKED: Final = ("heads", "gelu", "last")


class LayoutError(ValueError):
    """A state dict that is no network known here, or that leaves something open. Says what to say."""


class DetectedLayout(NamedTuple):
    """A recognised network: the family it is served by, its weights by that family's names, what is known of
    its parameters, and which known layout it is (empty: by its parts alone)."""

    family: str
    weights: dict[str, NDArray[np.float32]]
    params: dict[str, int | float]
    layout: str


class LayoutSignature(NamedTuple):
    """A layout by its signature: tokens' input, layers, feed-forward, whether a norm follows, widths of the head."""

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


def recognise(state: Arrays, features: int, said: Params, classes: tuple[str, ...]) -> DetectedLayout:
    """``said``: parameters that the operator knows; they win over what a known layout has. ``classes``: what the
    outputs mean, in their order: three actions, or for one output the side it speaks against and the side it
    speaks for. Raises ``LayoutError``."""
    wrong = [name for name, array in state.items() if array.dtype.kind != "f" or not np.isfinite(array).all()]
    if wrong:
        raise LayoutError(f"{', '.join(wrong[:5])}: expected finite floating-point numbers")
    if any(STACK.match(name) for name in state):
        return _stacks(state, features, said, classes)
    return _encoder(state, features, said, classes)


def _stacks(state: Arrays, features: int, said: Params, classes: tuple[str, ...]) -> DetectedLayout:
    weights, head = {}, {}
    for name, array in state.items():
        if STACK.match(name):
            weights[name] = _single(array)
        else:
            head[name] = array
    first = state.get("stacks.0.0.weight")
    if first is None or first.shape[1] % features:
        have = "none" if first is None else str(first.shape[1])
        raise LayoutError(
            f"stacks.0.0.weight takes {have} inputs: not a whole number of vectors of {features} features"
        )
    linears = _linears(head)
    if len(linears) * 2 != len(head):
        raise LayoutError(f"tensors without a place: {', '.join(sorted(set(head) - _of(linears)))}")
    params: dict[str, int | float] = {
        "window": first.shape[1] // features,
        "sigmoid": int(_outputs(head, linears) == 1),
    }
    _agree(params, said)
    weights |= _head(head, linears, classes)
    return DetectedLayout("imported-stacks", weights, params, "v5-nhits")


def _encoder(state: Arrays, features: int, said: Params, classes: tuple[str, ...]) -> DetectedLayout:
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
        weights[f"layers.{layer[2]}.{layer[3]}"] = _single(array)
    if len(prefixes) != 1 or numbers != set(range(len(numbers))):
        raise LayoutError(
            f"{len(state)} tensors that are no network known here: expected stacks.<n>.0 and .3, or one encoder "
            f"(<name>.layers.<n>.self_attn...); found {', '.join(sorted(state)[:6])}"
        )
    linears = _linears(rest)
    places = [name for name, array in rest.items() if not name.endswith((".weight", ".bias")) and array.ndim in {2, 3}]
    norms = [name for name in _modules(rest) if rest[f"{name}.weight"].ndim == 1]
    homeless = set(rest) - _of(linears) - _of(norms) - set(places)
    if homeless or len(linears) < 2 or len(norms) > 1 or len(places) > 1:
        raise LayoutError(
            "expected an input layer, a head, at most one normalisation and one table of positions beside the "
            f"encoder; found {', '.join(sorted(rest))}"
        )
    embed, *head = linears
    wide = int(rest[f"{embed}.weight"].shape[1])
    if wide % features:
        raise LayoutError(f"{embed}.weight takes {wide} inputs: not a whole number of vectors of {features} features")
    patch = 0 if wide == features else wide // features
    outputs = _outputs(rest, head)
    params: dict[str, int | float] = {"patch": patch, "sigmoid": int(outputs == 1)}
    if places:
        table = _single(rest[places[0]])
        weights["position"] = table.reshape(table.shape[-2:])
        params["window"] = weights["position"].shape[0] * (patch or 1)
    widths = tuple(int(rest[f"{name}.weight"].shape[0]) for name in head)
    layout = _known(bool(patch), len(numbers), bool(norms), widths)
    if layout:
        params |= KNOWN[layout].params
    _agree({name: value for name, value in params.items() if name not in ASKED}, said)
    params |= said
    if open_ := [name for name in ("window", *ASKED) if name not in params]:
        raise LayoutError(
            f"shapes do not show {', '.join(open_)}: say so, as {' '.join(f'--param {name}=...' for name in open_)} "
            "(window: vectors; heads: of attention; gelu 1, or 0 for ReLU; last 1: the head sees the last token, "
            "0: the mean of all)"
        )
    weights |= {f"in.{part}": _single(rest[f"{embed}.{part}"]) for part in ("weight", "bias")}
    for name in norms:
        weights |= {f"norm.{part}": _single(rest[f"{name}.{part}"]) for part in ("weight", "bias")}
    return DetectedLayout("imported-encoder", weights | _head(rest, head, classes), params, layout)


def _known(patched: bool, layers: int, norm: bool, head: tuple[int, ...]) -> str:
    return next((name for name, one in KNOWN.items() if one[:4] == (patched, layers, norm, head)), "")


def _agree(found: Params, said: Params) -> None:
    for name, value in said.items():
        if name in found and found[name] != value:
            raise LayoutError(f"--param {name}={value:g}: the tensors say {found[name]:g}")


def _linears(tensors: Arrays) -> list[str]:
    """Names of the linear layers, in the order of the file, which is that of their definition."""
    return [name for name in _modules(tensors) if tensors[f"{name}.weight"].ndim == 2]


def _modules(tensors: Arrays) -> list[str]:
    """Names of what has a weight and a bias."""
    names = (name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    return [name for name in names if f"{name}.bias" in tensors]


def _of(modules: list[str]) -> set[str]:
    return {f"{name}.{part}" for name in modules for part in ("weight", "bias")}


def _outputs(tensors: Arrays, head: list[str]) -> int:
    count = int(tensors[f"{head[-1]}.weight"].shape[0]) if head else 0
    if count not in {1, 3}:
        raise LayoutError(f"the last layer has {count} outputs, expected three classes or one log odds")
    return count


def _head(tensors: Arrays, head: list[str], classes: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Its layers by number, the last with its outputs in the order SELL, HOLD, BUY."""
    found = {
        f"head.{number}.{part}": _single(tensors[f"{name}.{part}"])
        for number, name in enumerate(head)
        for part in ("weight", "bias")
    }
    last, outputs = len(head) - 1, _outputs(tensors, head)
    if outputs == 3:
        if sorted(classes) != sorted(ACTIONS):
            raise LayoutError(
                f"three outputs: say what they mean in their order, as --classes SELL,HOLD,BUY; got {','.join(classes)}"
            )
        order = [classes.index(action) for action in ACTIONS]
        return {name: array[order] if name.startswith(f"head.{last}.") else array for name, array in found.items()}
    if classes not in {("SELL", "BUY"), ("BUY", "SELL")}:
        raise LayoutError(
            "one output: say what it speaks against and for, as --classes SELL,BUY for the log odds of BUY; got "
            f"{','.join(classes)}"
        )
    sign = np.float32(1 if classes == ("SELL", "BUY") else -1)
    return {name: sign * array if name.startswith(f"head.{last}.") else array for name, array in found.items()}


def _single(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
