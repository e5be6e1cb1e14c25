"""What a verification found: differences, first things first, and what was and was not looked at."""

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
    "score",
    "gate",
]
LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
"""In the order of cause: what differs in one explains differences in those behind it."""
KEPT: Final = 20
"""Differences that are told in full; the rest is counted."""


class Difference(Struct, frozen=True):
    """One recorded event that is not what it must be: its layer, where it stands, and what is wrong.
    ``entry`` is its id on the stream, ``event`` the id in its envelope; ``missing``: they are those of what
    it should have followed. ``open_time`` is the bar's (ms), None where it is about none."""

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
    """The outcome of one or more checks. ``checked``: events that were recomputed, by check; ``equal``:
    to the bit; ``tolerated``: equal within the stated tolerance only, since libraries or processor
    differ from those recorded. ``unchecked``: how many could not be recomputed, by reason. ``notes``: what a person
    should know and is no fault, by what it is.
    ``count`` differences were found, the first of each layer among ``differences``."""

    checked: dict[str, int] = field(default_factory=dict)
    equal: dict[str, int] = field(default_factory=dict)
    tolerated: dict[str, int] = field(default_factory=dict)
    unchecked: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    count: int = 0

    def see(self, check: str, equal: bool = True, times: int = 1) -> None:
        """Counts events that were recomputed."""
        self.checked[check] = self.checked.get(check, 0) + times
        if equal:
            self.equal[check] = self.equal.get(check, 0) + times

    def tolerate(self, check: str) -> None:
        """Counts an event that is equal within the tolerance only."""
        self.see(check, equal=False)
        self.tolerated[check] = self.tolerated.get(check, 0) + 1

    def skip(self, reason: str, times: int = 1) -> None:
        """Counts what could not be recomputed, and why."""
        self.unchecked[reason] = self.unchecked.get(reason, 0) + times

    def note(self, what: str) -> None:
        """Counts something that is no fault and that a person should know."""
        self.notes[what] = self.notes.get(what, 0) + 1

    def differ(self, difference: Difference) -> None:
        """Notes a difference."""
        self.count += 1
        if len(self.differences) < KEPT or difference.layer not in {each.layer for each in self.differences}:
            self.differences.append(difference)

    @property
    def first(self) -> Difference | None:
        """The difference that comes first: by cause, then by time."""
        return min(self.differences, key=rank, default=None)

    @property
    def code(self) -> int:
        """The exit code: 1 something differs, 3 nothing does but not everything could be recomputed."""
        if self.count:
            return 1
        return 3 if self.unchecked or not self.checked else 0


class Rank(NamedTuple):
    """How early a difference is: its place in the chain of cause, then its entry. What is missing comes last:
    an event that cannot be read leaves a gap, too."""

    layer: int
    missing: bool
    milliseconds: int
    sequence: int
    detail: str


def rank(difference: Difference) -> Rank:
    """Sorts differences, the first first."""
    milliseconds, _, sequence = (difference.entry or "0-0").partition("-")
    return Rank(
        LAYERS.index(difference.layer), difference.missing, int(milliseconds), int(sequence or 0), difference.detail
    )


def merged(parts: Iterable[Findings]) -> Findings:
    """The findings of several checks as one."""
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
