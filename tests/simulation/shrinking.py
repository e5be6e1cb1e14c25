"""Make a failing plan short, and tell its story."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from tests.simulation.plan import Plan
from tests.simulation.world import Outcome, simulate

RUNS: Final = 200
"""The most runs for one plan."""
FEWEST: Final = 3
"""Bars of each symbol that are always left."""


class Shrunk(NamedTuple):
    """A plan that fails, the result of its last run, and how many runs it took to find it."""

    plan: Plan
    outcome: Outcome
    runs: int


def kind_of(violation: str) -> str:
    """Return which invariant a violation is about."""
    return violation.partition(" ")[0].rstrip(":")


def shrink(plan: Plan, run: Callable[[Plan], Outcome] = simulate) -> Shrunk:
    """Leave out of a failing plan what is not needed for it to violate the same invariant: steps, then what is unusual
    about its bars, then bars."""
    best = Shrunk(plan, run(plan), 1)
    kind = kind_of(best.outcome.violation)

    def fails(candidate: Plan) -> bool:
        nonlocal best
        if best.runs >= RUNS:
            return False
        outcome = run(candidate)
        failed = outcome.violation != "" and kind_of(outcome.violation) == kind
        best = Shrunk(candidate, outcome, best.runs + 1) if failed else best._replace(runs=best.runs + 1)
        return failed

    before = None
    while before != best.plan:
        before = best.plan
        size = len(before.steps)
        while size:
            start = 0
            while start < len(best.plan.steps):
                steps = best.plan.steps
                if not fails(structs.replace(best.plan, steps=(*steps[:start], *steps[start + size :]))):
                    start += size
            size //= 2
        for candidate in _plainer(best.plan):
            if fails(candidate):
                break
    return best


def _plainer(plan: Plan) -> Iterator[Plan]:
    if plan.missing or plan.doubled:
        yield structs.replace(plan, missing=(), doubled=())
    if plan.history:
        yield structs.replace(plan, history=0)
    for bars in (FEWEST, plan.bars // 2, plan.bars - 1):
        if FEWEST <= bars < plan.bars:
            rows = 2 * (bars - 1)
            yield structs.replace(
                plan,
                bars=bars,
                missing=tuple(row for row in plan.missing if row < rows),
                doubled=tuple(row for row in plan.doubled if row < rows),
            )


def story(plan: Plan, outcome: Outcome) -> str:
    """Return what happened in a run, and how to run it again."""
    fed = f"{plan.bars} bars of each of two symbols, {plan.speed:g} a second"
    history = f", after {plan.history} that were there before" if plan.history else ""
    unusual = [f"row {row} is missing" for row in plan.missing] + [f"row {row} comes twice" for row in plan.doubled]
    return "\n".join(
        [
            f"seed {plan.seed}: {outcome.violation or 'nothing is violated'}",
            f"  {fed}{history}{''.join(f'; {each}' for each in unusual)}",
            *_lines(outcome),
            "to run it again:",
            f"  python -m tests.simulation --plan '{written(plan)}'",
        ]
    )


def _lines(outcome: Outcome) -> Sequence[str]:
    return [f"  {line.at:8.3f} s  bar {line.bar if line.bar >= 0 else '-':<4} {line.text}" for line in outcome.story]


def written(plan: Plan) -> str:
    """Return a plan as JSON."""
    return msgspec.json.encode(plan).decode()


def read(text: str) -> Plan:
    """Return the plan that ``written`` wrote."""
    return msgspec.json.decode(text, type=Plan)
