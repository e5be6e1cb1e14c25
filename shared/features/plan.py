"""Evaluate an operator graph over recorded rows: one node after the other, each for all rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.features.expressions import Operation
from shared.features.graph import LITTLE_ENDIAN, OperatorGraph, Vectors, without_negative_zero
from shared.features.sets import FeatureSet


class _Step(NamedTuple):
    """One node. ``inputs`` are the nodes that it reads, with the rows of each. ``demand`` is the number of rows
    computed before the first wanted row. ``outputs`` are the features with its value: set, position in the vector,
    rows. ``done`` are the nodes that no later step reads."""

    text: str
    apply: Operation
    inputs: tuple[tuple[int, slice], ...]
    demand: int
    outputs: tuple[tuple[int, int, slice], ...]
    done: tuple[int, ...]


class ColumnPlan:
    """Compute the vectors of ``sets`` from the fields of bars: ``inputs`` and the open time. See ``OperatorGraph`` for
    ``own``, ``context``, ``sampled`` and ``kinds``."""

    def __init__(self, sets: Sequence[FeatureSet]) -> None:
        graph = OperatorGraph(sets)
        self.sets = graph.sets
        self.lookback = graph.lookback
        self.inputs, self.own, self.context = graph.inputs, graph.own, graph.context
        self.sampled, self.kinds = graph.sampled, graph.kinds
        self._steps = _compile(graph)

    def evaluate(self, series: Mapping[str, npt.NDArray[Any]], rows: int) -> list[Vectors]:
        """Return the vectors ``[rows, symbols, features]`` of the last ``rows`` rows, for each set.

        ``series`` has a C-contiguous array ``[rows + lookback - 1, symbols]`` for each field, or ``[.., 1]`` for values
        that all symbols share. An undefined value is NaN or infinite.
        """
        columns = max(array.shape[1] for array in series.values())
        vectors = [np.empty((rows, columns, len(chosen)), LITTLE_ENDIAN) for chosen in self.sets]
        values: list[Any] = []
        with np.errstate(all="ignore"):
            for text, apply, inputs, demand, outputs, done in self._steps:
                value = apply(*[values[i][part] for i, part in inputs]) if inputs else series[text][-rows - demand :]
                values.append(value)
                for s, f, part in outputs:
                    vectors[s][:, :, f] = value[part]
                for i in done:
                    values[i] = None
            return [without_negative_zero(result) for result in vectors]


def _compile(graph: OperatorGraph) -> list[_Step]:
    nodes = graph.nodes
    demand = [0] * len(nodes)
    last_use = list(range(len(nodes)))
    for outputs in graph.outputs:
        for place, delay in outputs:
            demand[place] = max(demand[place], delay)
    for user in range(len(nodes) - 1, -1, -1):
        for place, delay in nodes[user].reads:
            demand[place] = max(demand[place], demand[user] + delay)
            last_use[place] = max(last_use[place], user)
    results: dict[int, list[tuple[int, int, slice]]] = defaultdict(list)
    for s, outputs in enumerate(graph.outputs):
        for f, (place, delay) in enumerate(outputs):
            results[place].append((s, f, _rows(demand[place], 0, delay)))
    done: dict[int, list[int]] = defaultdict(list)
    for place, user in enumerate(last_use):
        done[user].append(place)
    return [
        _Step(
            node.text,
            node.apply,
            tuple([(place, _rows(demand[place], demand[user], delay)) for place, delay in node.reads]),
            demand[user],
            tuple(results[user]),
            tuple(done[user]),
        )
        for user, node in enumerate(nodes)
    ]


def _rows(given: int, wanted: int, delay: int) -> slice:
    """Return the slice of an input with ``given`` rows before the first wanted row, for a reader that begins ``wanted``
    rows before it and reads with a delay of ``delay`` bars."""
    return slice(given - wanted - delay, -delay or None)
