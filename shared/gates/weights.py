"""Learn weights from results (``logpool1``): a fold over purged blocks of complete rounds.

One step of projected AdaGrad a block on the log loss of the pool as it is served. With z_mk = log p_mk -
c_mk the centred evidence and P the pool,

    g_m = mean over rounds of sum_k (P_k - 1{y = k}) z_mk / T,  less its mean over the members
    G_m <- 0.97 G_m + g_m^2,  w <- projection of (w_m - D g_m / sqrt(G_m)) on the simplex,  D = 0.10, G_0 = 1e-4

Under ``mean`` and ``logmean`` (``shared.voting.pool``; s_m and V there, M the mean of probabilities or of logs)

    g_m = mean over rounds of s_m / V sum_k (P_k - 1{y = k}) (log p_mk - M_k) / T                  logmean
    g_m = mean over rounds of s_m / V sum_k (P_k - 1{y = k}) (p_mk - M_k) / M_k / T                mean

The loss is convex in w (in a mean, where all members move fully); regret is O(sqrt(blocks)). A constant member has
z = 0, whatever its weight. On the simplex only differences between gradients change weights, so the common part is
subtracted first. Weights sum to one, as control requires; the scale of free weights is carried by the temperature.

No weight moves by more than ``most_step`` a block, none exceeds its ``cap`` (the ladder's). A block's weights
take effect in the next block. Sums are kept as whole numbers of 2^-40, so the order of the rounds does not matter;
results are rounded to 1e-12. The same rounds give the same weights to the bit.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from shared.gates import blocks
from shared.gates.rounds import MemberScore, RoundAssembly, ScoredRound, join
from shared.gates.rows import Triple
from shared.voting.arithmetic import FLOOR, ZERO, evidence_of, softmax
from shared.voting.pool import PoolRule, log_prior

ONE: Final = 1 << 40
DIGITS: Final = 12


class Learning(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The constants of the rule. ``fewest`` is the least number of rounds in a block; a block with fewer is joined
    with the next."""

    rate: float = 0.10
    memory: float = 0.97
    most_step: float = 0.05
    fewest: int = 50


class WeightedMember(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A voting member. ``cap`` is its largest weight, ``moving`` how far it counts in a mean."""

    model: str
    weight: float
    centre: Triple
    prior: Triple
    cap: float = 1.0
    moving: float = 1.0


class Weights(Struct, array_like=True, forbid_unknown_fields=True):
    """The state.

    ``members`` are sorted by name. ``current`` holds the weights in force in the open block ``number``. ``gradient``
    is its sum in units of 2^-40."""

    learning: Learning
    members: tuple[WeightedMember, ...]
    temperature: float
    length: int
    purge: int
    rounds: RoundAssembly
    current: list[float]
    squares: list[float]
    gradient: list[int]
    log_prior: Triple
    number: int = -1
    counted: int = 0
    steps: int = 0
    late: int = 0
    rule: PoolRule = "logpool"


class Step(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The result of one block: the weights from the next block on, and the data they rest on."""

    block: int
    weights: dict[str, float]
    squares: tuple[float, ...] = field(default=())
    rounds: int = 0


def initial(
    members: Sequence[WeightedMember],
    *,
    horizon: int,
    interval_ms: int,
    learning: Learning | None = None,
    temperature: float = 1.0,
    block_ms: int = 0,
    rule: PoolRule = "logpool",
) -> Weights:
    """Start from the members' weights, scaled to sum one.

    Raises ``ValueError`` where the caps sum to less than one."""
    chosen = tuple(sorted(members, key=lambda member: member.model))
    if not chosen or sum(member.cap for member in chosen) < 1.0:
        raise ValueError(f"{len(chosen)} members with caps {[m.cap for m in chosen]} cannot hold a weight of one")
    length = block_ms or blocks.length_ms(horizon, interval_ms)
    if horizon * interval_ms >= length:
        raise ValueError(f"a block of {length} ms leaves nothing of a horizon of {horizon} bars")
    total = sum(member.weight for member in chosen)
    start = [member.weight / total if total > 0 else 1 / len(chosen) for member in chosen]
    current = _project(start, [0.0] * len(chosen), [member.cap for member in chosen])
    return Weights(
        learning or Learning(),
        chosen,
        temperature,
        length,
        horizon * interval_ms,
        RoundAssembly(tuple(member.model for member in chosen)),
        current,
        [1e-4] * len(chosen),
        [0] * len(chosen),
        log_prior(zip(current, (member.prior for member in chosen), strict=True)),
        rule=rule,
    )


def evolve(state: Weights, score: MemberScore) -> Step | None:
    """Add one member's scored prediction, in place; return the step of the block that it closed, or None."""
    complete = join(state.rounds, score)
    return None if complete is None else _add_round(state, complete)


def _add_round(state: Weights, complete: ScoredRound) -> Step | None:
    number, offset = divmod(complete.open_time, state.length)
    step = None
    if number < state.number:
        state.late += 1
        return None
    if number > state.number:
        if state.counted >= state.learning.fewest:
            step = _close(state)
        state.number = number
    if offset < state.length - state.purge:
        _add(state, complete)
    return step


def _add(state: Weights, complete: ScoredRound) -> None:
    slopes = _of_evidence(state, complete) if state.rule == "logpool" else _of_mean(state, complete)
    for m, slope in enumerate(slopes):
        state.gradient[m] += round(slope * ONE)
    state.counted += 1


def _of_mean(state: Weights, complete: ScoredRound) -> list[float]:
    """Return the slope of the log loss of the mean of probabilities or logs in each weight."""
    logs, temperature = state.rule == "logmean", state.temperature
    votes = [evidence_of(p, ZERO) if logs else p for p in complete.probabilities]
    shares = [weight * member.moving for weight, member in zip(state.current, state.members, strict=True)]
    total = sum(shares)
    if total <= 0.0:
        return [0.0] * len(votes)
    mean = [sum(share * vote[k] for share, vote in zip(shares, votes, strict=True)) / total for k in range(3)]
    logits = mean if logs else [math.log(max(share, FLOOR)) for share in mean]
    errors = [*softmax(logits[0] / temperature, logits[1] / temperature, logits[2] / temperature)]
    errors[complete.outcome] -= 1.0
    scaled = errors if logs else [error / max(share, FLOOR) for error, share in zip(errors, mean, strict=True)]
    return [
        member.moving / total / temperature * sum(scaled[k] * (vote[k] - mean[k]) for k in range(3))
        for member, vote in zip(state.members, votes, strict=True)
    ]


def _of_evidence(state: Weights, complete: ScoredRound) -> list[float]:
    """Return the slope of the log loss of the log-linear pool in each weight."""
    evidence = []
    logits = list(state.log_prior)
    for member, weight, probabilities in zip(state.members, state.current, complete.probabilities, strict=True):
        z = evidence_of(probabilities, member.centre)
        evidence.append(z)
        for k in range(3):
            logits[k] += weight * z[k]
    top = max(logits)
    sell, hold, buy = ((logit - top) / state.temperature for logit in logits)
    errors = [*softmax(sell, hold, buy)]
    errors[complete.outcome] -= 1.0
    return [(errors[0] * z[0] + errors[1] * z[1] + errors[2] * z[2]) / state.temperature for z in evidence]


def _close(state: Weights) -> Step:
    learning, counted = state.learning, state.counted
    target = _descend(state)
    low = [max(0.0, weight - learning.most_step) for weight in state.current]
    high = [
        min(max(member.cap, weight - learning.most_step), weight + learning.most_step)
        for member, weight in zip(state.members, state.current, strict=True)
    ]
    state.current = _project(target, low, high)
    state.log_prior = log_prior(zip(state.current, (member.prior for member in state.members), strict=True))
    state.gradient = [0] * len(state.members)
    state.counted, state.steps = 0, state.steps + 1
    return Step(state.number, proposal(state), tuple(state.squares), counted)


def _descend(state: Weights) -> list[float]:
    learning = state.learning
    slopes = [total / ONE / state.counted for total in state.gradient]
    common = math.fsum(slopes) / len(slopes)
    target = []
    for m, weight in enumerate(state.current):
        slope = slopes[m] - common
        state.squares[m] = round(learning.memory * state.squares[m] + slope * slope, 15)
        target.append(weight - learning.rate * slope / math.sqrt(state.squares[m]) if state.squares[m] else weight)
    return target


def proposal(state: Weights) -> dict[str, float]:
    """Return the weights in force, by model: at least 0, sum one, rounded to 1e-12."""
    return {member.model: weight for member, weight in zip(state.members, state.current, strict=True)}


def replay(start: Weights, score: Sequence[MemberScore], recorded: Mapping[int, Mapping[str, float]]) -> int | None:
    """Fold ``score`` from ``start`` (changed in place) and compare every step with the recorded one.

    Return the first block that differs by more than 1e-9 or was not recorded; None where all are equal."""
    for member_score in score:
        step = evolve(start, member_score)
        if step is None:
            continue
        other = recorded.get(step.block, {})
        if set(other) != set(step.weights) or any(abs(other[m] - w) > 1e-9 for m, w in step.weights.items()):
            return step.block
    return None


def _project(target: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[float]:
    """Return the point nearest to ``target`` with low <= w <= high and sum one.

    It is w = clip(target - shift), by bisection over the shift. Weights are rounded; the member with the most room
    takes the remainder."""

    def clipped(shift: float) -> list[float]:
        return [min(h, max(b, value - shift)) for value, b, h in zip(target, low, high, strict=True)]

    left, right = min(target) - 2.0, max(target) + 2.0
    for _ in range(80):
        middle = (left + right) / 2
        if sum(clipped(middle)) > 1.0:
            left = middle
        else:
            right = middle
    out = [round(weight, DIGITS) for weight in clipped(right)]
    roomiest = max(range(len(out)), key=lambda m: (min(out[m] - low[m], high[m] - out[m]), -m))
    out[roomiest] = round(1.0 - sum(weight for m, weight in enumerate(out) if m != roomiest), DIGITS)
    return out
