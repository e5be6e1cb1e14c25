"""Merge several feature sets into one graph of operations and delays, without duplicate nodes."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.features.bars import FURTHER
from shared.features.context_formulas import reference_field
from shared.features.expressions import BAR_FIELDS, Expression, Operation
from shared.features.sets import FeatureSet
from shared.inputs.kinds import INPUT_FIELDS, kinds_of

Vectors: TypeAlias = npt.NDArray[np.float32]
"""Feature vectors along the last axis, little-endian float32."""

LITTLE_ENDIAN: Final = np.dtype("<f4")


class DelayedRead(NamedTuple):
    """The value of a node ``delay`` bars ago."""

    node: int
    delay: int


class Node(NamedTuple):
    """One operation, as in ``Expression``, and the values that it reads. A field of the bar reads nothing."""

    text: str
    apply: Operation
    scalar: Operation
    reads: tuple[DelayedRead, ...]


class OperatorGraph:
    """The expressions of ``sets`` as a graph, each expression once.

    ``nodes`` begin with the fields of a bar (``fields``: those of ``expressions.FIELDS``, without the further ones that
    no expression reads); each node reads only nodes before it. ``inputs`` are the fields without the open time: ``own``
    of the bar, then ``context`` of the bars of references that close with it, then ``sampled`` of the symbol's inputs,
    which are of ``kinds``. ``outputs`` has, for each set, the reads of its features' values.
    """

    def __init__(self, sets: Sequence[FeatureSet]) -> None:
        self.sets: Final = tuple(sets)
        if not self.sets:
            raise ValueError("an operator graph needs at least one feature set, got none")
        self.lookback: Final = max(chosen.lookback for chosen in self.sets)
        self._places: dict[str, int] = {}
        self.nodes: Final[list[Node]] = []
        read = frozenset[str]().union(*(one.expression.fields for chosen in self.sets for one in chosen.features))
        self.own: Final = tuple(name for name in BAR_FIELDS if name in read or name not in FURTHER)
        self.context: Final = tuple(field for name in sorted(read) if (field := reference_field(name)) is not None)
        self.sampled: Final = tuple(name for name in INPUT_FIELDS if name in read)
        self.kinds: Final = kinds_of(read)
        self.inputs: Final = (*self.own, *(field.text for field in self.context), *self.sampled)
        self.fields: Final = (*self.inputs, "open_time")
        for name in self.fields:
            self._read(Expression(name))
        self.outputs: Final = [[self._read(feature.expression) for feature in chosen.features] for chosen in self.sets]

    def _read(self, expression: Expression) -> DelayedRead:
        """Return the read of an expression's value. Adds a node for a new expression."""
        delay = 0
        while expression.delay:
            delay += expression.delay
            (expression,) = expression.inputs
        place = self._places.get(expression.text)
        if place is None:
            reads = tuple([self._read(x) for x in expression.inputs])
            place = self._places[expression.text] = len(self.nodes)
            self.nodes.append(Node(expression.text, expression.apply, expression.scalar, reads))
        return DelayedRead(place, delay)

    def reads(self) -> Iterable[DelayedRead]:
        """Yield all reads; those of the outputs are last."""
        for node in self.nodes:
            yield from node.reads
        for outputs in self.outputs:
            yield from outputs

    def with_inputs(self, places: Iterable[int]) -> set[int]:
        """Return these nodes and all nodes that they read, directly or indirectly."""
        nodes = set(places)
        for place in range(len(self.nodes) - 1, -1, -1):
            if place in nodes:
                nodes.update(read.node for read in self.nodes[place].reads)
        return nodes


def without_negative_zero(vectors: Vectors) -> Vectors:
    """Replace every -0.0 by 0.0, in place, and return the array: the sign of a zero carries no information."""
    np.add(vectors, 0.0, out=vectors)
    return vectors
