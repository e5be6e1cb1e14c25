"""How often the ensemble acts, and what never and always acting would have earned."""

import math

import pytest

from bench.recorded import PRIOR, scored
from shared.report.acting import Acting, ActingFold, acting_of, evolve
from shared.report.text import acting_words

UP = math.log(1.01)
BUY, SELL = (0.2, 0.5, 0.3), (0.3, 0.5, 0.2)


def counted(*events: object) -> Acting | None:
    state = ActingFold()
    for event in events:
        evolve(state, event)  # type: ignore[arg-type]  # scores
    return acting_of(state)


def voting(bar: int, decided: str | None, pool: tuple[float, float, float], **also: object) -> object:
    values = {"role": "voting", "decided": decided, "pool_with": pool, "forward_return": UP, "cost": 0.002, **also}
    return scored(bar, "A", PRIOR, 2, **values)


def test_each_round_counts_once_with_its_decision_and_with_the_larger_probability() -> None:
    acting = counted(
        voting(0, "HOLD", BUY), voting(0, "HOLD", BUY, model="other"), voting(1, "SELL", SELL), voting(2, "BUY", BUY)
    )
    assert acting is not None
    assert (acting.rounds, acting.sell, acting.hold, acting.buy) == (3, 1, 1, 1)
    assert acting.decided == pytest.approx(-0.01 + 0.01 - 2 * 0.002)
    assert acting.decided_costs == pytest.approx(2 * 0.002)
    assert acting.always == pytest.approx(0.01 - 0.01 + 0.01 - 3 * 0.002)
    assert acting.always_costs == pytest.approx(3 * 0.002)


def test_shadows_late_ballots_and_bars_without_a_decision_do_not_count() -> None:
    assert counted(voting(0, "BUY", BUY, role="shadow"), voting(1, "BUY", BUY, late=True), voting(2, None, BUY)) is None


def test_an_ensemble_that_never_acts_is_said_to() -> None:
    acting = counted(*(voting(bar, "HOLD", BUY) for bar in range(4)))
    assert acting is not None
    often, worth = acting_words(acting)
    assert "acted in 0 of 4 decisions with an outcome (0.00%)" in often
    assert "always acting +80.00 bp (costs 20.00 bp)" in worth
