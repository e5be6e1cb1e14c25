"""What a gate says, and how gates become one answer. No fractions: every gate passed, failed, or has
not seen enough."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

Outcome = Literal["passed", "failed", "inconclusive"]
Kind = Literal["critical", "needed", "soft"]


class Gate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One gate's verdict. ``value`` is held against ``threshold``; ``count`` is the sample it rests on
    (rows or blocks). ``low`` and ``high``: the interval of the effect, which for gates by e-value is the
    mean gain (``value`` is then ln E, ``effect`` the mean gain), else of the value itself; all finite.
    ``kind``: a critical gate vetoes, a needed one must pass, a soft one may fail once."""

    name: str
    outcome: Outcome
    value: float
    threshold: float
    count: int
    low: float
    high: float
    effect: float
    kind: Kind
    detail: str = ""

    @property
    def critical(self) -> bool:
        """Whether it vetoes by itself."""
        return self.kind == "critical"


def gate(
    name: str,
    outcome: Outcome,
    value: float,
    threshold: float,
    count: int,
    kind: Kind,
    interval: tuple[float, float] | None = None,
    detail: str = "",
    effect: float | None = None,
) -> Gate:
    """A verdict; without an interval the value stands for both ends, and for the effect."""
    low, high = interval or (value, value)
    return Gate(name, outcome, value, threshold, count, low, high, value if effect is None else effect, kind, detail)


class Judgement(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a policy says of one candidate. ``weight``: the share of the ensemble's weight it recommends
    for a start, 0 for none. ``advice``: what to do next, in words."""

    outcome: Outcome
    gates: tuple[Gate, ...]
    weight: float
    advice: str


def judged(count: int, least: int, passed: bool) -> Outcome:
    """Inconclusive before ``least`` samples, then what the comparison says."""
    if count < least:
        return "inconclusive"
    return "passed" if passed else "failed"


def combine(gates: Sequence[Gate], soft_failures: int = 1) -> Outcome:
    """Failed where a critical or needed gate failed, or more soft ones than allowed; passed where all
    critical and needed ones passed; inconclusive otherwise. No gates at all: inconclusive."""
    strict = [one for one in gates if one.kind != "soft"]
    failed = sum(one.outcome == "failed" for one in gates if one.kind == "soft")
    if any(one.outcome == "failed" for one in strict) or failed > soft_failures:
        return "failed"
    return "passed" if strict and all(one.outcome == "passed" for one in strict) else "inconclusive"


def combine_counted(gates: Sequence[Gate], least: int) -> Outcome:
    """The rule of ``classic``: at least ``least`` of the gates. Inconclusive while the gates that have
    not seen enough could still turn it."""
    passed = sum(one.outcome == "passed" for one in gates)
    open_ = sum(one.outcome == "inconclusive" for one in gates)
    if passed >= least:
        return "passed"
    return "inconclusive" if passed + open_ >= least else "failed"
