"""A stacker on top of a pool: what it adds, and when it leaves the pool as it is."""

import math
from collections.abc import Mapping
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.common import Probabilities
from schemas.control import SetVotingPolicy, StackedMember, Stacker
from shared.voting.pool import Member, Panel, panel_with, vote
from tests.shared.voting.test_pool import BUY, HOLD, SELL, THIRDS, UNIFORM, simplex

ZEROS = ((0.0, 0.0, 0.0),) * 3
ROUNDS = st.fixed_dictionaries({"a": simplex(), "b": simplex(), "c": simplex()})
WEIGHTS = st.tuples(*[st.tuples(*[st.floats(-2.0, 2.0)] * 3)] * 3)
Rows = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
Base = Literal["logpool", "mean", "logmean"]
BASES: tuple[Base, ...] = ("logpool", "mean", "logmean")
MEMBERS = [Member(name, name * 64, weight, UNIFORM, THIRDS) for name, weight in (("a", 0.5), ("b", 0.3), ("c", 0.2))]


def panel(rows: Mapping[str, Rows], artifact: str = "", base: Base = "mean") -> Panel:
    """Members a, b and c, and a stacker with these rows."""
    fitted = tuple(StackedMember(name, artifact or name * 64, each) for name, each in sorted(rows.items()))
    policy = SetVotingPolicy(rule="stacker", quorum_count=1, stacker=Stacker(base, fitted))
    return panel_with(MEMBERS, frozenset(), policy)


def below(base: Base = "mean") -> Panel:
    """The pool below, as a policy of its own."""
    return panel_with(MEMBERS, frozenset(), SetVotingPolicy(rule=base, quorum_count=1))


BALLOTS = {"a": BUY, "b": SELL, "c": HOLD}


@given(
    st.fixed_dictionaries({"a": simplex(), "b": simplex(), "c": simplex()}),
    st.sampled_from(["mean", "logmean", "logpool"]),
)
def test_with_zeros_it_is_the_pool(ballots: dict[str, Probabilities], base: Base) -> None:
    outcome, pooled = vote(panel({"a": ZEROS, "b": ZEROS}, base=base), ballots), vote(below(base), ballots)
    assert outcome.probabilities == pytest.approx(pooled.probabilities, abs=1e-12)
    assert (outcome.rule, pooled.rule) == ("stacker", base)


@given(simplex(), simplex(), WEIGHTS)
def test_a_member_that_never_moves_adds_nothing(a: Probabilities, b: Probabilities, rows: Rows) -> None:
    """Its log probabilities are its centre."""
    chosen = panel({"c": rows, "a": ZEROS})
    ballots = {"a": a, "b": b, "c": THIRDS}
    assert vote(chosen, ballots).probabilities == pytest.approx(vote(below(), ballots).probabilities, abs=1e-9)


def test_the_logits_are_those_of_the_formula() -> None:
    rows = ((1.0, 0.0, -0.5), (0.0, 0.5, 0.0), (-1.0, 0.0, 0.5))
    chosen = panel({"b": rows})
    evidence = [math.log(p) - math.log(1 / 3) for p in SELL]
    pooled = vote(below(), BALLOTS).probabilities
    logits = [
        math.log(p) + sum(w * e for w, e in zip(row, evidence, strict=True))
        for p, row in zip(pooled, rows, strict=True)
    ]
    total = sum(map(math.exp, logits))
    assert vote(chosen, BALLOTS).probabilities == pytest.approx([math.exp(logit) / total for logit in logits])


@given(WEIGHTS)
def test_without_a_member_of_the_fit_the_pool_decides_by_its_name(rows: Rows) -> None:
    chosen = panel({"a": rows, "b": rows})
    rest = {"a": BUY, "c": HOLD}
    outcome, pooled = vote(chosen, rest), vote(below(), rest)
    assert outcome == pooled
    assert outcome.rule == "mean"


def test_with_another_artifact_of_a_member_the_pool_decides() -> None:
    rows = ((3.0, 0.0, 0.0),) * 3
    chosen = panel({"a": rows}, artifact="e" * 64)
    assert vote(chosen, BALLOTS) == vote(below(), BALLOTS)


@given(ROUNDS, WEIGHTS)
def test_the_effect_of_a_ballot_is_measured_against_the_round_without_it(
    ballots: dict[str, Probabilities], rows: Rows
) -> None:
    chosen = panel({"a": rows})
    outcome = vote(chosen, ballots)
    for name in ballots:
        without = vote(chosen, {other: p for other, p in ballots.items() if other != name})
        place = ("SELL", "HOLD", "BUY").index(outcome.action)
        assert outcome.effects[name].effect == pytest.approx(
            outcome.confidence - without.probabilities[place], abs=1e-9
        )
        assert outcome.effects[name].pivotal == (without.action != outcome.action)
