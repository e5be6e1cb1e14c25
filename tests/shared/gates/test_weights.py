"""Weights from results."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.control import SetVotingPolicy
from shared.gates import weights
from shared.gates.rounds import MemberScore
from shared.gates.weights import Learning, Step, WeightedMember, Weights
from shared.voting.pool import Member, PoolRule, panel_with, vote

BAR = 300_000
PRIOR = (0.3, 0.4, 0.3)
CENTRE = (math.log(0.3), math.log(0.4), math.log(0.3))


def members(*shares: float, cap: float = 1.0) -> list[WeightedMember]:
    return [WeightedMember("abcdef"[n], share, CENTRE, PRIOR, cap) for n, share in enumerate(shares)]


def answers(bars: int, leads: tuple[float, ...], seed: int = 0, flip: int = 10**9) -> list[MemberScore]:
    """Member n leans to the outcome by ``leads[n]``; from bar ``flip`` on the first two change places."""
    random = np.random.default_rng(seed)
    out = []
    for bar in range(bars):
        outcome = int(random.choice(3, p=PRIOR))
        now = leads if bar < flip else (leads[1], leads[0], *leads[2:])
        for n, lead in enumerate(now):
            logits = np.array(CENTRE) + (random.normal(0, 0.2, 3) if lead else 0.0)
            logits[outcome] += lead
            p = np.exp(logits) / np.exp(logits).sum()
            out.append(MemberScore("abcdef"[n], "S", bar * BAR, (float(p[0]), float(p[1]), float(p[2])), outcome))
    return out


def folded(said: list[MemberScore], state: Weights) -> list[Step]:
    found = [weights.evolve(state, one) for one in said]
    return [step for step in found if step is not None]


def start(*shares: float, cap: float = 1.0, most_step: float = 0.05) -> Weights:
    learning = Learning(most_step=most_step)
    return weights.initial(members(*shares, cap=cap), horizon=2, interval_ms=BAR, learning=learning)


def test_the_better_member_gains_weight_and_steps_are_bounded() -> None:
    steps = folded(answers(96 * 25, (0.8, -0.2, 0.1)), start(0.3, 0.4, 0.3))
    assert len(steps) == 24
    before = {"a": 0.3, "b": 0.4, "c": 0.3}
    for step in steps:
        assert math.fsum(step.weights.values()) == pytest.approx(1.0, abs=1e-12)
        assert all(abs(step.weights[name] - before[name]) <= 0.05 + 1e-11 for name in before)
        assert all(0.0 <= weight <= 1.0 for weight in step.weights.values())
        before = step.weights
    assert before["a"] > 0.6
    assert before["b"] < 0.25


def test_a_flip_of_the_regime_flips_the_weights() -> None:
    steps = folded(answers(96 * 61, (0.8, -0.2), flip=96 * 30), start(0.5, 0.5))
    assert steps[28].weights["a"] > 0.7
    assert steps[-1].weights["b"] > 0.65


def test_a_constant_member_has_no_gradient_of_its_own() -> None:
    state = start(0.5, 0.5)
    for one in answers(80, (0.5, 0.0)):
        weights.evolve(state, one)
    assert state.gradient[1] == 0
    assert state.gradient[0] != 0


def test_the_gradient_is_that_of_the_pools_loss() -> None:
    said = answers(60, (0.5, 0.2))
    state = start(0.5, 0.5)
    for one in said:
        weights.evolve(state, one)

    def loss(first: float) -> float:
        total = 0.0
        for a, b in zip(said[::2], said[1::2], strict=True):
            logits = [
                CENTRE[k]
                + first * (math.log(a.probabilities[k]) - CENTRE[k])
                + 0.5 * (math.log(b.probabilities[k]) - CENTRE[k])
                for k in range(3)
            ]
            total += math.log(sum(map(math.exp, logits))) - logits[a.outcome]
        return total

    numeric = (loss(0.5 + 1e-6) - loss(0.5 - 1e-6)) / 2e-6
    assert state.gradient[0] / weights.ONE == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.8])
@pytest.mark.parametrize("rule", ["mean", "logmean"])
def test_the_gradient_of_a_mean_is_that_of_its_loss(rule: PoolRule, temperature: float) -> None:
    said = answers(60, (0.5, 0.2))
    state = weights.initial(members(0.5, 0.5), horizon=2, interval_ms=BAR, temperature=temperature, rule=rule)
    for one in said:
        weights.evolve(state, one)

    def loss(first: float) -> float:
        total = 0.0
        for a, b in zip(said[::2], said[1::2], strict=True):
            panel = panel_with(
                [Member("a", "a", first, CENTRE, PRIOR), Member("b", "b", 0.5, CENTRE, PRIOR)],
                frozenset(),
                SetVotingPolicy(rule=rule, quorum_weight=0.0, quorum_count=1, temperature=temperature),
            )
            total -= math.log(vote(panel, {"a": a.probabilities, "b": b.probabilities}).probabilities[a.outcome])
        return total

    numeric = (loss(0.5 + 1e-6) - loss(0.5 - 1e-6)) / 2e-6
    assert state.gradient[0] / weights.ONE == pytest.approx(numeric, rel=1e-4)


@pytest.mark.parametrize("rule", ["mean", "logmean"])
def test_a_constant_member_has_no_gradient_in_a_mean_either(rule: PoolRule) -> None:
    ours = members(0.5, 0.5)
    constant = msgspec.structs.replace(ours[1], moving=0.0)
    state = weights.initial([ours[0], constant], horizon=2, interval_ms=BAR, rule=rule)
    for one in answers(80, (0.5, 0.0)):
        weights.evolve(state, one)
    assert state.gradient[1] == 0


def test_a_cap_holds_unless_the_weight_is_over_it_and_then_falls_by_steps() -> None:
    steps = folded(answers(96 * 20, (0.8, 0.0, 0.0)), start(0.4, 0.3, 0.3, cap=0.45))
    assert max(step.weights["a"] for step in steps) == pytest.approx(0.45)


def test_caps_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold a weight of one"):
        start(0.5, 0.5, cap=0.4)


def test_purged_rounds_do_not_count() -> None:
    state = start(0.5, 0.5)
    for one in answers(96, (0.5, 0.2)):
        weights.evolve(state, one)
    assert state.counted == 94


SAID = answers(96 * 4 + 1, (0.5, 0.1, -0.1), seed=5)
STEPS = folded(SAID, start(0.3, 0.4, 0.3))


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_within_a_block_changes_no_bit(random: object) -> None:
    blocks = [[one for one in SAID if one.open_time // BAR // 96 == k] for k in range(5)]
    for block in blocks:
        random.shuffle(block)  # type: ignore[attr-defined]  # random.Random
    assert folded([one for block in blocks for one in block], start(0.3, 0.4, 0.3)) == STEPS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, len(SAID)))
def test_a_restart_changes_no_bit(cut: int) -> None:
    state = start(0.3, 0.4, 0.3)
    first = folded(SAID[:cut], state)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Weights)
    assert first + folded(SAID[cut:], state) == STEPS


def test_replay_finds_the_first_block_that_was_recorded_otherwise() -> None:
    recorded = {step.block: step.weights for step in STEPS}
    assert weights.replay(start(0.3, 0.4, 0.3), SAID, recorded) is None
    recorded[2] = recorded[2] | {"a": recorded[2]["a"] + 1e-6}
    assert weights.replay(start(0.3, 0.4, 0.3), SAID, recorded) == 2


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda shares: sum(shares) > 0.01),
    st.lists(st.floats(-3, 3), min_size=6, max_size=6),
)
def test_settled_weights_sum_to_one_within_their_bounds(shares: list[float], wanted: list[float]) -> None:
    current = [share / sum(shares) for share in shares]
    low = [max(0.0, weight - 0.05) for weight in current]
    high = [weight + 0.05 for weight in current]
    found = weights._project(wanted[: len(current)], low, high)
    assert math.fsum(found) == pytest.approx(1.0, abs=2e-12)
    assert all(b - 1e-11 <= weight <= h + 1e-11 for weight, b, h in zip(found, low, high, strict=True))
    assert all(weight == round(weight, 12) for weight in found)
