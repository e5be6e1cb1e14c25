"""Collect what a verification found: differences in order of cause, and what was and was not checked."""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, get_args

from msgspec import Struct, field

Layer = Literal[
    "file",
    "stream",
    "written",
    "configuration",
    "bar",
    "feature",
    "scaler",
    "calibration",
    "model",
    "ballot",
    "vote",
    "intent",
    "order",
    "score",
    "gate",
]
LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
"""The layers in order of cause: a difference in one explains differences in those after it."""
KEPT: Final = 20
"""Number of differences that are kept in full; all are counted."""


class Difference(Struct, frozen=True):
    """A recorded event that is not what it must be: its layer, its position and what is wrong.

    ``entry`` is its id on the stream, ``event`` the id in its envelope. Where ``missing`` is True the event does not
    exist, and both ids are those of the event that it should have followed. ``open_time`` is the bar's (ms), None where
    it concerns none."""

    layer: Layer
    stream: str
    partition: int
    entry: str
    event: str
    detail: str
    symbol: str = ""
    open_time: int | None = None
    missing: bool = False


class Findings(Struct):
    """The result of one or more checks.

    - ``checked``: number of events that were recomputed, by check.
    - ``equal``: those of them that are equal to the bit.
    - ``tolerated``: those that are equal only within the stated tolerance, because libraries or processor differ
      from those recorded.
    - ``unchecked``: number of events that could not be recomputed, by reason.
    - ``notes``: facts that are not faults but should be reported, with their count.
    - ``count``: number of differences. ``differences``: the first of them, with at least one of each layer."""

    checked: dict[str, int] = field(default_factory=dict)
    equal: dict[str, int] = field(default_factory=dict)
    tolerated: dict[str, int] = field(default_factory=dict)
    unchecked: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    count: int = 0

    def see(self, check: str, equal: bool = True, times: int = 1) -> None:
        """Count events that were recomputed."""
        self.checked[check] = self.checked.get(check, 0) + times
        if equal:
            self.equal[check] = self.equal.get(check, 0) + times

    def tolerate(self, check: str) -> None:
        """Count an event that is equal only within the tolerance."""
        self.see(check, equal=False)
        self.tolerated[check] = self.tolerated.get(check, 0) + 1

    def skip(self, reason: str, times: int = 1) -> None:
        """Count events that could not be recomputed, with the reason."""
        self.unchecked[reason] = self.unchecked.get(reason, 0) + times

    def note(self, what: str) -> None:
        """Count a fact that is not a fault but should be reported."""
        self.notes[what] = self.notes.get(what, 0) + 1

    def differ(self, difference: Difference) -> None:
        """Record a difference."""
        self.count += 1
        if len(self.differences) < KEPT or difference.layer not in {each.layer for each in self.differences}:
            self.differences.append(difference)

    @property
    def first(self) -> Difference | None:
        """The first difference by cause, then by time; None where there is none."""
        return min(self.differences, key=rank, default=None)

    @property
    def code(self) -> int:
        """The exit code: 1 where something differs, 3 where nothing does but not everything could be recomputed, else
        0."""
        if self.count:
            return 1
        return 3 if self.unchecked or not self.checked else 0


class Rank(NamedTuple):
    """The sort key of a difference: its layer in the order of cause, then its entry.

    Missing events sort last within a layer, because an event that cannot be read also leaves a gap."""

    layer: int
    missing: bool
    milliseconds: int
    sequence: int
    detail: str


def rank(difference: Difference) -> Rank:
    """Return the sort key of a difference."""
    milliseconds, _, sequence = (difference.entry or "0-0").partition("-")
    return Rank(
        LAYERS.index(difference.layer), difference.missing, int(milliseconds), int(sequence or 0), difference.detail
    )


def merged(parts: Iterable[Findings]) -> Findings:
    """Return the findings of several checks as one."""
    total = Findings()
    for part in parts:
        for name in ("checked", "equal", "tolerated", "unchecked", "notes"):
            into: dict[str, int] = getattr(total, name)
            for key, times in getattr(part, name).items():
                into[key] = into.get(key, 0) + times
        total.differences += part.differences
        total.count += part.count
    unique = dict.fromkeys(total.differences)  # one reading of a stream may have been shared by several checks
    total.count -= len(total.differences) - len(unique)
    total.differences = sorted(unique, key=rank)
    return total
