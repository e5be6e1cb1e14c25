"""The policy ``classic``: four gates by the user's own rules, of which at least three must pass.

1. ``diversity``: no action over 70 %, at least two actions over 10 %.
2. ``spread``: standard deviation of the confidence at least 0.05 and its P10 to P90 at least 0.12.
3. ``agreement`` with the ensemble's action: 55 to 75 % passes; 75 to 85 % is borderline, which is
   inconclusive and does not pass; less, more, or 25 % and more of BUY against SELL, fails. With ``band``
   False an earlier version of the rule holds: at least 55 % passes.
4. ``calibration``: accuracy does not fall from one of five confidence buckets of equal mass to the
   next. Correct is: BUY where the price rises over 0.2 % in one hour, SELL where it falls over 0.2 %, HOLD otherwise.

Confidence is the probability of the model's own action. A gate is inconclusive with fewer than 200 samples of *this*
model, or where more than 1 % of actions are none of the three. Two of four passed recommends 5 % of the weight for
observation. These are thresholds, not tests: no error rate is claimed, and none is small
(``docs/reference/gate-policies.md`` shows how often they pass which candidates).
"""

from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, field

from shared.gates.degeneracy import quantile_range
from shared.gates.rows import Row
from shared.gates.verdicts import Gate, Judgement, Outcome, combine_counted, gate, judged

GRID: Final = 1000
BUCKETS: Final = 5
SELL, HOLD, BUY = range(3)
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class ClassicPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The thresholds. ``least_passed`` of the four gates must pass; ``move`` is a fraction of price."""

    most_one_action: Share = 0.70
    least_second_action: Share = 0.10
    least_deviation: float = 0.05
    least_range: float = 0.12
    agreement_from: Share = 0.55
    agreement_to: Share = 0.75
    borderline_to: Share = 0.85
    hard_disagreement_below: Share = 0.25
    band: bool = True
    move: float = 0.002
    least_samples: int = 200
    most_unknown: Share = 0.01
    least_passed: int = 3
    observation_passed: int = 2
    observation_weight: Share = 0.05


DEFAULTS: Final = ClassicPolicy()


def _grid() -> list[int]:
    return [0] * (GRID + 1)


class Tally(Struct, array_like=True, forbid_unknown_fields=True):
    """Counts of one candidate.

    ``move`` is that of the policy, because rows are counted as correct or not when they arrive. ``confidences``,
    ``settled_at`` and ``right_at`` are by thousandth of confidence: all rows, rows with an outcome, and correct
    rows."""

    move: float = DEFAULTS.move
    actions: list[int] = field(default_factory=lambda: [0, 0, 0])
    unknown: int = 0
    confidences: list[int] = field(default_factory=_grid)
    total: float = 0.0
    squares: float = 0.0
    compared: int = 0
    agreed: int = 0
    opposed: int = 0
    settled: int = 0
    settled_at: list[int] = field(default_factory=_grid)
    right_at: list[int] = field(default_factory=_grid)


def initial(policy: ClassicPolicy = DEFAULTS) -> Tally:
    """Return a state without evidence."""
    return Tally(policy.move)


def evolve(state: Tally, row: Row) -> Tally:
    """Add one scored prediction, with constant work."""
    action = row.action
    if not 0 <= action <= 2:
        state.unknown += 1
        return state
    confidence = row.probabilities[action]
    bin_ = min(GRID, max(0, int(confidence * GRID + 0.5)))
    state.actions[action] += 1
    state.confidences[bin_] += 1
    state.total += confidence
    state.squares += confidence * confidence
    if 0 <= row.ensemble <= 2:
        state.compared += 1
        state.agreed += row.ensemble == action
        state.opposed += row.ensemble + action == SELL + BUY and row.ensemble != action
    if row.move is not None:
        state.settled += 1
        state.settled_at[bin_] += 1
        state.right_at[bin_] += _right(action, row.move, state.move)
    return state


def verdicts(state: Tally, policy: ClassicPolicy = DEFAULTS) -> tuple[Gate, ...]:
    """Return the four gates at present."""
    count = sum(state.actions)
    known = state.unknown <= policy.most_unknown * (count + state.unknown)
    gates = (_diversity(state, policy), _spread(state, policy), _agreement(state, policy), _calibration(state, policy))
    if known:
        return gates
    detail = f"{state.unknown} of {count + state.unknown} actions are none of SELL, HOLD, BUY"
    return tuple(msgspec.structs.replace(one, outcome="inconclusive", detail=detail) for one in gates)


def judge(state: Tally, policy: ClassicPolicy = DEFAULTS) -> Judgement:
    """Return the policy's judgement: three of four gates must pass."""
    gates = verdicts(state, policy)
    passed = sum(one.outcome == "passed" for one in gates)
    outcome = combine_counted(gates, policy.least_passed)
    if outcome == "passed":
        return Judgement(outcome, gates, policy.observation_weight, f"{passed} of 4 passed: ready for the first step")
    if passed == policy.observation_passed and all(one.count >= policy.least_samples for one in gates):
        return Judgement(
            outcome,
            gates,
            policy.observation_weight,
            "2 of 4 passed: 5 % of the weight for observation, if a person agrees",
        )
    return Judgement(outcome, gates, 0.0, f"{passed} of 4 passed: stay in shadow and retrain")


def _diversity(state: Tally, policy: ClassicPolicy) -> Gate:
    count = sum(state.actions)
    shares = [number / max(1, count) for number in state.actions]
    second = sum(share > policy.least_second_action for share in shares)
    outcome = judged(count, policy.least_samples, max(shares) <= policy.most_one_action and second >= 2)
    detail = f"SELL {shares[SELL]:.1%}, HOLD {shares[HOLD]:.1%}, BUY {shares[BUY]:.1%}"
    return gate("diversity", outcome, max(shares), policy.most_one_action, count, "soft", detail=detail)


def _spread(state: Tally, policy: ClassicPolicy) -> Gate:
    count = sum(state.actions)
    mean = state.total / max(1, count)
    deviation = max(0.0, state.squares / max(1, count) - mean * mean) ** 0.5
    width = quantile_range(state.confidences, count)
    passed = deviation >= policy.least_deviation and width >= policy.least_range
    detail = f"standard deviation {deviation:.4f}, P10 to P90 {width:.3f} of {policy.least_range}"
    outcome = judged(count, policy.least_samples, passed)
    return gate("spread", outcome, deviation, policy.least_deviation, count, "soft", detail=detail)


def _agreement(state: Tally, policy: ClassicPolicy) -> Gate:
    share, opposed = state.agreed / max(1, state.compared), state.opposed / max(1, state.compared)
    outcome = judged(state.compared, policy.least_samples, _agrees(share, opposed, policy) == "passed")
    if outcome != "inconclusive":
        outcome = _agrees(share, opposed, policy)
    detail = f"BUY against SELL {opposed:.1%} of {policy.hard_disagreement_below:.0%}"
    return gate("agreement", outcome, share, policy.agreement_from, state.compared, "soft", detail=detail)


def _agrees(share: float, opposed: float, policy: ClassicPolicy) -> Outcome:
    if share < policy.agreement_from:
        return "failed"
    if not policy.band:
        return "passed"
    if opposed >= policy.hard_disagreement_below or share > policy.borderline_to:
        return "failed"
    return "passed" if share <= policy.agreement_to else "inconclusive"


def _calibration(state: Tally, policy: ClassicPolicy) -> Gate:
    shares = accuracy_by_confidence(state)
    falls = [later - earlier for earlier, later in pairwise(shares)]
    worst = min(falls, default=0.0)
    passed = len(shares) == BUCKETS and worst >= 0.0
    detail = "right by confidence, lowest first: " + ", ".join(f"{share:.1%}" for share in shares)
    outcome = judged(state.settled, policy.least_samples, passed)
    return gate("calibration", outcome, worst, 0.0, state.settled, "soft", detail=detail)


def accuracy_by_confidence(state: Tally) -> list[float]:
    """Return the accuracy in up to five buckets of equal mass, lowest confidence first.

    There are fewer than five where many rows share one thousandth and cannot be separated."""
    out: list[float] = []
    rows = right = seen = 0
    for n, hits in zip(state.settled_at, state.right_at, strict=True):
        rows, right, seen = rows + n, right + hits, seen + n
        if n and rows and seen * BUCKETS >= state.settled * (len(out) + 1):
            out.append(right / rows)
            rows = right = 0
    return out


def _right(action: int, move: float, bound: float) -> bool:
    if action == BUY:
        return move > bound
    return move < -bound if action == SELL else -bound <= move <= bound
