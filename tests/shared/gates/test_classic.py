"""The user's four gates, line by line."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.gates import classic
from shared.gates.classic import ClassicPolicy, Tally
from shared.gates.rows import UNKNOWN, Row
from shared.gates.verdicts import Gate, Judgement

PRIOR = (0.3, 0.4, 0.3)
SELL, HOLD, BUY = range(3)


def row(action: int, confidence: float = 0.5, ensemble: int = HOLD, move: float | None = 0.0) -> Row:
    rest = (1 - confidence) / 2
    p = tuple(confidence if k == action else rest for k in range(3))
    return Row("A", 0, (p[0], p[1], p[2]), 0, PRIOR, action, ensemble=ensemble, move=move)


def gates(rows: list[Row], policy: ClassicPolicy = classic.DEFAULTS) -> dict[str, Gate]:
    state = classic.initial(policy)
    for one in rows:
        classic.evolve(state, one)
    return {gate.name: gate for gate in classic.verdicts(state, policy)}


def mixed(counts: tuple[int, int, int]) -> list[Row]:
    return [row(action) for action, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((30, 140, 30), "passed"),
        ((29, 142, 29), "failed"),
        ((0, 140, 60), "passed"),
        ((20, 140, 40), "passed"),
        ((60, 140, 0), "passed"),
        ((0, 200, 0), "failed"),
        ((20, 20, 160), "failed"),
        ((30, 100, 60), "inconclusive"),
    ],
)
def test_no_action_over_seventy_percent_and_two_over_ten(counts: tuple[int, int, int], outcome: str) -> None:
    assert gates(mixed(counts))["diversity"].outcome == outcome


def test_one_large_and_two_small_actions_have_no_second_action() -> None:
    policy = ClassicPolicy(most_one_action=0.95)
    assert gates(mixed((15, 170, 15)), policy)["diversity"].outcome == "failed"


@pytest.mark.parametrize(
    ("confidences", "outcome"),
    [
        ([0.40, 0.55] * 100, "passed"),
        ([0.48, 0.52] * 100, "failed"),
        ([0.50] * 190 + [0.90] * 10, "failed"),
        ([0.40, 0.51] * 100, "failed"),
    ],
)
def test_spread_needs_both_its_thresholds(confidences: list[float], outcome: str) -> None:
    found = gates([row(BUY, confidence) for confidence in confidences])["spread"]
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("agreed", "outcome"),
    [(109, "failed"), (110, "passed"), (150, "passed"), (151, "inconclusive"), (170, "inconclusive"), (171, "failed")],
)
def test_agreement_has_a_band(agreed: int, outcome: str) -> None:
    rows = [row(HOLD)] * agreed + [row(BUY)] * (200 - agreed)
    assert gates(rows)["agreement"].outcome == outcome


def test_without_the_band_any_agreement_from_fifty_five_percent_passes() -> None:
    policy = ClassicPolicy(band=False)
    assert gates([row(HOLD)] * 200, policy)["agreement"].outcome == "passed"
    assert gates([row(HOLD)] * 109 + [row(BUY)] * 91, policy)["agreement"].outcome == "failed"


@pytest.mark.parametrize(("opposed", "outcome"), [(49, "passed"), (50, "failed")])
def test_a_quarter_of_buy_against_sell_fails(opposed: int, outcome: str) -> None:
    rows = [row(BUY, ensemble=SELL)] * opposed + [row(BUY, ensemble=HOLD)] * (80 - opposed) + [row(HOLD)] * 120
    assert gates(rows)["agreement"].outcome == outcome


@pytest.mark.parametrize(
    ("action", "move", "right"),
    [
        (BUY, 0.0021, True),
        (BUY, 0.002, False),
        (SELL, -0.0021, True),
        (SELL, -0.002, False),
        (HOLD, 0.002, True),
        (HOLD, -0.002, True),
        (HOLD, 0.0021, False),
    ],
)
def test_right_is_by_the_move_over_an_hour(action: int, move: float, right: bool) -> None:
    state = classic.evolve(Tally(), row(action, 0.6, move=move))
    assert sum(state.right_at) == right


def by_bucket(right: list[int]) -> list[Row]:
    """Forty rows a bucket, of which so many come right."""
    return [
        row(BUY, 0.40 + bucket / 10, move=0.01 if number < hits else -0.01)
        for bucket, hits in enumerate(right)
        for number in range(40)
    ]


@pytest.mark.parametrize(
    ("right", "outcome"),
    [([10, 15, 20, 25, 30], "passed"), ([10, 10, 10, 10, 10], "passed"), ([10, 15, 14, 25, 30], "failed")],
)
def test_accuracy_may_not_fall_with_confidence(right: list[int], outcome: str) -> None:
    assert gates(by_bucket(right))["calibration"].outcome == outcome


def test_confidences_that_cannot_be_told_apart_fail() -> None:
    assert gates([row(BUY, 0.5, move=0.01)] * 250)["calibration"].outcome == "failed"


def test_two_samples_are_inconclusive() -> None:
    assert {gate.outcome for gate in gates([row(BUY), row(HOLD)]).values()} == {"inconclusive"}


def test_unknown_actions_are_inconclusive() -> None:
    assert {gate.outcome for gate in gates([row(BUY)._replace(action=UNKNOWN)] * 500).values()} == {"inconclusive"}
    assert {gate.outcome for gate in gates([*mixed((60, 140, 60)), row(BUY)._replace(action=7)] * 2).values()} != {
        "inconclusive"
    }
    some = [*mixed((60, 140, 60)), *[row(BUY)._replace(action=7)] * 5]
    assert {gate.outcome for gate in gates(some).values()} == {"inconclusive"}


def judged(rows: list[Row]) -> Judgement:
    state = Tally()
    for one in rows:
        classic.evolve(state, one)
    return classic.judge(state)


def test_three_of_four_pass() -> None:
    found = judged(by_bucket([10, 15, 20, 25, 30]) + [row(SELL, 0.9, ensemble=SELL, move=-0.01)] * 300)
    passed = {gate.name for gate in found.gates if gate.outcome == "passed"}
    assert (found.outcome, passed) == ("passed", {"diversity", "spread", "agreement"})


def test_two_of_four_recommend_five_percent_for_observation() -> None:
    found = judged([row(BUY, 0.3 + 0.005 * n, move=0.01 if n % 2 else -0.01) for n in range(100) for _ in range(3)])
    passed = {gate.name for gate in found.gates if gate.outcome == "passed"}
    assert (found.outcome, found.weight, passed) == ("failed", 0.05, {"spread", "calibration"})


def test_one_of_four_stays_in_shadow() -> None:
    found = judged([row(BUY, move=0.01)] * 100 + [row(SELL, move=0.01)] * 150)
    assert (found.outcome, found.weight) == ("failed", 0.0)
    assert "retrain" in found.advice


@given(
    st.lists(
        st.builds(row, st.integers(0, 2), st.floats(0.34, 0.99), st.integers(-1, 2), st.floats(-0.01, 0.01)),
        max_size=60,
    ),
    st.integers(0, 60),
)
def test_a_restart_changes_no_verdict(rows: list[Row], cut: int) -> None:
    whole = Tally()
    for one in rows:
        classic.evolve(whole, one)
    half = Tally()
    for number, one in enumerate(rows):
        if number == cut:
            half = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=Tally)
        classic.evolve(half, one)
    assert msgspec.msgpack.encode(whole) == msgspec.msgpack.encode(half)
    assert classic.judge(whole) == classic.judge(half)
