"""Several feature sets as one circuit of operations and delays: what they share stands in it once."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.features.expressions import FIELDS, Expression, Operation
from shared.features.sets import FeatureSet

Vectors: TypeAlias = npt.NDArray[np.float32]
"""Feature vectors along the last axis, little-endian float32."""

LITTLE: Final = np.dtype("<f4")


class DelayedRead(NamedTuple):
    """The value of a node, so many bars ago."""

    node: int
    delay: int


class Node(NamedTuple):
    """One operation on what it reads, as in ``Expression``; a field of the bar reads nothing."""

    text: str
    apply: Operation
    one: Operation
    reads: tuple[DelayedRead, ...]


class OperatorGraph:
    """The terms of ``sets``, each once. ``nodes`` begin with the fields of a bar (``terms.FIELDS``), and read only
    nodes before them; ``outputs`` says of each set where its features' values are read."""

    def __init__(self, sets: Sequence[FeatureSet]) -> None:
        self.sets: Final = tuple(sets)
        if not self.sets:
            raise ValueError("a circuit needs at least one feature set")
        self.lookback: Final = max(chosen.lookback for chosen in self.sets)
        self._places: dict[str, int] = {}
        self.nodes: Final[list[Node]] = []
        for name in FIELDS:
            self._read(Expression(name))
        self.outputs: Final = [[self._read(feature.term) for feature in chosen.features] for chosen in self.sets]

    def _read(self, term: Expression) -> DelayedRead:
        """Where a term's value is read; its node is added where it is new."""
        delay = 0
        while term.delay:
            delay += term.delay
            (term,) = term.inputs
        place = self._places.get(term.text)
        if place is None:
            reads = tuple([self._read(below) for below in term.inputs])
            place = self._places[term.text] = len(self.nodes)
            self.nodes.append(Node(term.text, term.apply, term.one, reads))
        return DelayedRead(place, delay)

    def reads(self) -> Iterable[DelayedRead]:
        """All reads, those of the outputs last."""
        for node in self.nodes:
            yield from node.reads
        for outputs in self.outputs:
            yield from outputs

    def below(self, places: Iterable[int]) -> set[int]:
        """These nodes and all that they read, directly or not."""
        found = set(places)
        for place in range(len(self.nodes) - 1, -1, -1):
            if place in found:
                found.update(read.node for read in self.nodes[place].reads)
        return found


def without_negative_zero(vectors: Vectors) -> Vectors:
    """The same array, where no zero is negative: the sign of a zero is nobody's feature."""
    np.add(vectors, 0.0, out=vectors)
    return vectors
