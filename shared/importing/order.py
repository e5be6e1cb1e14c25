"""Find the order of linear layers by their names and shapes, never by their order in a file.

A safetensors file returns its tensors in any order, and another order of layers is another network. Two facts say what
the order is: a layer has as many inputs as the one before it has outputs; and of names that differ in their numbers
alone (``fc.0``, ``fc.3``), the smaller number comes first.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

NUMBER: Final = re.compile(r"\d+")


class Widths(NamedTuple):
    """The numbers of inputs and outputs of a linear layer."""

    inputs: int
    outputs: int


class OrderError(ValueError):
    """Names and shapes of layers fit in no order, or in several. The message says which layers, and what to do."""


def ordered(layers: Mapping[str, Widths], inputs: int | None = None) -> list[str]:
    """Return the names of ``layers`` in the only order that fits. ``inputs``: those of the first layer, if known.
    Raises ``OrderError``."""
    found = list(islice(_orders(layers, inputs, []), 2))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{name} ({width.inputs} -> {width.outputs})" for name, width in sorted(layers.items()))
    if not found:
        after = "" if inputs is None else f" after {inputs} values"
        raise OrderError(f"these layers do not follow one another in any order{after}: {listed}")
    raise OrderError(
        f"these layers fit in more than one order: {listed}. Save the weights with names whose numbers show the order, "
        "such as fc.0.weight and fc.1.weight"
    )


def _orders(layers: Mapping[str, Widths], inputs: int | None, before: list[str]) -> Iterator[list[str]]:
    rest = [name for name in layers if name not in before]
    if not rest:
        yield before
    for name in rest:
        fits = inputs is None or layers[name].inputs == inputs
        if fits and not any(_precedes(other, name) for other in rest):
            yield from _orders(layers, layers[name].outputs, [*before, name])


def _precedes(one: str, other: str) -> bool:
    """Return whether two names differ in their numbers alone, and those of the first are smaller."""
    same = NUMBER.sub("#", one) == NUMBER.sub("#", other)
    return same and _numbers(one) < _numbers(other)


def _numbers(name: str) -> list[int]:
    return [int(number) for number in NUMBER.findall(name)]
