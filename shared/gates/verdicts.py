"""The verdict of one gate, and how verdicts combine: passed, failed, or inconclusive; there are no fractions."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

Outcome = Literal["passed", "failed", "inconclusive"]
Kind = Literal["critical", "needed", "soft"]


class Gate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One gate's verdict.

    ``value`` is compared with ``threshold``; ``count`` is the number of samples (rows or blocks). ``low`` and ``high``
    bound the effect. For gates by e-value the effect is the mean gain, and ``value`` is ln E; for others the effect is
    the value itself. All numbers are finite. ``kind``: a critical gate vetoes, a needed one must pass, a soft one may
    fail once."""

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
        """Whether the gate vetoes by itself."""
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
    """Return a verdict; without an interval the value is both bounds, and without an effect it is the effect."""
    low, high = interval or (value, value)
    return Gate(name, outcome, value, threshold, count, low, high, value if effect is None else effect, kind, detail)


class Judgement(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A policy's judgement of one candidate.

    ``weight`` is the recommended initial share of the ensemble's weight, 0 for none. ``advice`` is what to do next, in
    words."""

    outcome: Outcome
    gates: tuple[Gate, ...]
    weight: float
    advice: str


def judged(count: int, least: int, passed: bool) -> Outcome:
    """Return inconclusive below ``least`` samples, otherwise the result of the comparison."""
    if count < least:
        return "inconclusive"
    return "passed" if passed else "failed"


def combine(gates: Sequence[Gate], soft_failures: int = 1) -> Outcome:
    """Combine the gates of a policy.

    Failed where a critical or needed gate failed, or more soft gates than allowed. Passed where all critical and needed
    gates passed and there is at least one. Inconclusive otherwise."""
    strict = [each for each in gates if each.kind != "soft"]
    failed = sum(each.outcome == "failed" for each in gates if each.kind == "soft")
    if any(each.outcome == "failed" for each in strict) or failed > soft_failures:
        return "failed"
    return "passed" if strict and all(each.outcome == "passed" for each in strict) else "inconclusive"


def combine_counted(gates: Sequence[Gate], least: int) -> Outcome:
    """Combine gates by the rule of ``classic``: at least ``least`` must pass.

    Inconclusive while the gates that are still inconclusive could change the result."""
    passed = sum(each.outcome == "passed" for each in gates)
    open_ = sum(each.outcome == "inconclusive" for each in gates)
    if passed >= least:
        return "passed"
    return "inconclusive" if passed + open_ >= least else "failed"
