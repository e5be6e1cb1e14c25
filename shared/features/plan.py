"""Several feature sets compiled into one list of steps: what they share is computed once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.features.kernels import Array
from shared.features.sets import FeatureSet
from shared.features.terms import Kernel, Term

Vectors: TypeAlias = npt.NDArray[np.float32]
"""Feature vectors along the last axis, little-endian float32."""

LITTLE: Final = np.dtype("<f4")


class Evaluated(NamedTuple):
    """``vectors``: one array ``[rows, symbols, features]`` a set, none if they were not wanted.
    ``kept``: the new values ``[rows, symbols]`` of the kept terms, by their text."""

    vectors: list[Vectors]
    kept: dict[str, Array]


class _Step(NamedTuple):
    """One term: which slots it takes (each from its offset on), which slots nobody needs afterwards,
    and where its values go (set, place in the vector). ``always``: not only when vectors are wanted."""

    text: str
    apply: Kernel
    inputs: tuple[tuple[int, int], ...]
    demand: int
    kept: bool
    always: bool
    done: tuple[int, ...]
    outputs: tuple[tuple[int, int], ...]


class Plan:
    """How to compute the vectors of ``sets`` from the fields of bars, and for a ``stream`` also from what it
    has kept. Both ways the same operations are applied to the same numbers.

    ``history`` says, for each field and kept term, how many rows before the first wanted one it must be given.
    """

    def __init__(self, sets: Sequence[FeatureSet], *, stream: bool = False) -> None:
        self.sets: Final = tuple(sets)
        if not self.sets:
            raise ValueError("a plan needs at least one feature set")
        self.lookback: Final = max(chosen.lookback for chosen in self.sets)
        order = _in_order([feature.term for chosen in self.sets for feature in chosen.features])
        kept = {text for text, term in order.items() if term.kept and stream}
        demand = _demands(order, kept)
        self.history: Final[Mapping[str, int]] = {
            text: demand[text] for text, term in order.items() if not term.inputs or text in kept
        }
        self._steps = self._compile(order, demand, kept)

    def _compile(self, order: dict[str, Term], demand: dict[str, int], kept: set[str]) -> list[_Step]:
        slots = {text: slot for slot, text in enumerate(order)}
        last_use = {slots[below.text]: at for at, user in enumerate(order.values()) for below in user.inputs}
        always = set(_in_order([order[text] for text in kept]))

        def offset(term: Term, below: Term) -> int:
            wanted = 0 if term.text in kept else demand[term.text]
            return demand[below.text] - wanted - term.reach

        return [
            _Step(
                text,
                term.apply,
                tuple((slots[below.text], offset(term, below)) for below in term.inputs),
                demand[text],
                text in kept,
                text in always,
                tuple(slot for slot, last in last_use.items() if last == at),
                tuple(
                    (s, f)
                    for s, chosen in enumerate(self.sets)
                    for f, feature in enumerate(chosen.features)
                    if feature.term.text == text
                ),
            )
            for at, (text, term) in enumerate(order.items())
        ]

    def evaluate(self, series: Mapping[str, npt.NDArray[Any]], rows: int, *, want: bool = True) -> Evaluated:
        """The vectors of the last ``rows`` rows. An undefined value is NaN or infinite.

        ``series`` holds C-contiguous arrays ``[.., symbols]`` (or ``[.., 1]`` for what all symbols share): for
        each field its history and the new rows, for each kept term its history alone.
        """
        columns = max(array.shape[1] for array in series.values())
        vectors = [np.empty((rows, columns, len(chosen)), LITTLE) for chosen in self.sets] if want else []
        new: dict[str, Array] = {}
        values: list[Any] = []
        with np.errstate(all="ignore"):
            for text, apply, inputs, demand, kept, always, done, outputs in self._steps:
                value: Any = None
                if not inputs:
                    value = series[text][-rows - demand :]
                elif want or always:
                    value = apply(*[values[i][start:] if start else values[i] for i, start in inputs])
                    if kept:
                        new[text] = value
                        value = np.concatenate([series[text], value]) if demand else value
                values.append(value)
                if want and outputs:
                    wanted = value[demand:] if demand else value
                    for s, f in outputs:
                        vectors[s][:, :, f] = wanted
                for i in done:
                    values[i] = None
            for result in vectors:
                np.add(result, 0.0, out=result)  # the sign of a zero is nobody's feature
        return Evaluated(vectors, new)


def _in_order(terms: Sequence[Term]) -> dict[str, Term]:
    """Every term below these, each once, inputs first."""
    order: dict[str, Term] = {}

    def visit(term: Term) -> None:
        if term.text not in order:
            for below in term.inputs:
                visit(below)
            order[term.text] = term

    for term in terms:
        visit(term)
    return order


def _demands(order: Mapping[str, Term], kept: set[str]) -> dict[str, int]:
    """How many rows before the first wanted one are needed of each term. Of a kept term they are there:
    only its new rows are computed."""
    demand = dict.fromkeys(order, 0)
    for text, term in reversed(list(order.items())):
        computed = 0 if text in kept else demand[text]
        for below in term.inputs:
            demand[below.text] = max(demand[below.text], computed + term.reach)
    return demand
