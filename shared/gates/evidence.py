"""The evidence that the ``default`` policy keeps on one candidate, and how a row enters it.

Eight quantities are averaged over purged blocks. Six are comparisons that are bet on or monitored: gain in log score
(nats, probabilities cut at 0.01) over the class prior, over the champion, and of the ensemble with the candidate over
the ensemble without it; the champion's own gain over the prior; and money against the champion. The others are the
residuals of each class, which calibration needs.
"""

import math
from typing import Final

from msgspec import Struct, field

from shared.gates import betting, blocks, calibration, degeneracy, ecusum, operations
from shared.gates.betting import Bets
from shared.gates.blocks import Blocks
from shared.gates.calibration import Reliability
from shared.gates.degeneracy import OutputDistribution
from shared.gates.ecusum import Cusum
from shared.gates.operations import Operations
from shared.gates.rows import VOTES, Plan, Row

FLOOR: Final = 0.01
"""The smallest probability that enters a gain, so |gain| is at most 4.6 nats."""
LOG_FLOOR: Final = math.log(FLOOR)
QUANTITIES: Final = 8
PRIOR, CHAMPION, POOL, CHAMPION_OVER_PRIOR, MONEY, SELL, HOLD, BUY = range(QUANTITIES)
BETTER: Final = 5
"""The index among the bets of the comparison with the champion without a margin."""
EARNS_MORE: Final = 6
"""The index among the bets of money against the champion without a margin; only voting policies have it."""
REFERENCE_BLOCKS: Final = 10
"""Number of first blocks whose outputs are the reference where there is no histogram of a backtest."""
DECAY: Final = 0.9
"""Weight of an older block's outputs relative to the next block's."""
ROWS_A_BLOCK: Final = 50.0
"""Largest number of effective rows of a block when outputs are compared: rows overlap and repeat."""


class Residual(Struct, array_like=True, forbid_unknown_fields=True):
    """Mean and sum of squares, over blocks, of (predicted probability - outcome) for one class."""

    blocks: int = 0
    mean: float = 0.0
    squares: float = 0.0


def _residuals() -> list[Residual]:
    return [Residual(), Residual(), Residual()]


def _histogram() -> list[list[float]]:
    return [[0.0] * calibration.BINS for _ in range(3)]


class Outputs(Struct, array_like=True, forbid_unknown_fields=True):
    """Probabilities by class and hundredth: the reference, the recent ones (with decay), and the counts at the last
    close of a block."""

    reference: list[list[float]] = field(default_factory=_histogram)
    recent: list[list[float]] = field(default_factory=_histogram)
    counted: list[list[float]] = field(default_factory=_histogram)
    reference_blocks: float = 0.0
    recent_blocks: float = 0.0


class Evidence(Struct, array_like=True, forbid_unknown_fields=True):
    """The evidence on one candidate. ``evolve`` changes it in place."""

    plan: Plan
    margin: float
    blocks: Blocks
    bets: list[Bets]
    loss: Cusum = field(default_factory=Cusum)
    reliability: Reliability = field(default_factory=Reliability)
    residuals: list[Residual] = field(default_factory=_residuals)
    distribution: OutputDistribution = field(default_factory=OutputDistribution)
    outputs: Outputs = field(default_factory=Outputs)
    operations: Operations = field(default_factory=Operations)
    actions: list[int] = field(default_factory=lambda: [0, 0, 0])
    compared: int = 0
    copied: int = 0
    hours: int = 0


def initial(plan: Plan, margin: float = 0.002, block_ms: int = 0, fewest: int = blocks.FEWEST_ROWS) -> Evidence:
    """Return a state without evidence.

    ``margin`` (nats) is how much worse than the champion a candidate may be and still count as not worse. ``block_ms``
    0 takes the shortest valid block of the horizon."""
    length = block_ms or blocks.length_ms(plan.horizon, plan.interval_ms)
    if length % plan.interval_ms:
        raise ValueError(f"a block of {length} ms is not a whole number of bars of {plan.interval_ms} ms")
    purge = plan.horizon * plan.interval_ms
    scales = plan.scales
    bets = [
        Bets(scales.prior),
        Bets(scales.champion, margin),
        Bets(scales.pool),
        Bets(scales.prior),
        Bets(scales.money, scales.money / 30),
        Bets(scales.champion),
    ]
    if plan.key.feature_set == VOTES:
        bets.append(Bets(scales.money))
    state = Evidence(plan, margin, Blocks(length, purge, QUANTITIES, fewest), bets)
    if plan.outputs is not None:
        state.outputs.reference = [list(row) for row in plan.outputs]
        state.outputs.reference_blocks = REFERENCE_BLOCKS
    return state


def evolve(state: Evidence, row: Row) -> Evidence:
    """Add one scored prediction.

    Rows must come in the order of the ``scores`` stream. A row with an unknown class is counted and otherwise left
    out."""
    symbol, open_time, p, outcome, base, action, champion_p, with_p, without_p, _, _, net, champion_net, latency = row
    sell, hold, buy = p
    ops = state.operations
    if not (0 <= outcome <= 2 and 0 <= action <= 2 and -1e-6 <= sell + hold + buy - 1.0 <= 1e-6 and min(p) >= 0.0):
        ops.unreadable += 1
        return state
    score = _score(p[outcome])
    prior = _score(base[outcome])
    champion = pool = champion_over_prior = money = None
    if champion_p is not None:
        champion_score = _score(champion_p[outcome])
        champion, champion_over_prior = score - champion_score, champion_score - prior
        state.compared += 1
        state.copied += _same(p, champion_p)
        if net is not None and champion_net is not None:
            money = net - champion_net
    if with_p is not None and without_p is not None:
        pool = _score(with_p[outcome]) - _score(without_p[outcome])
    sell_residual, hold_residual, buy_residual = sell - (outcome == 0), hold - (outcome == 1), buy - (outcome == 2)
    values = (score - prior, champion, pool, champion_over_prior, money, sell_residual, hold_residual, buy_residual)
    means = blocks.add(state.blocks, open_time, values)
    if means is not None:
        _close(state, means)
    calibration.observe(state.reliability, p, outcome)
    degeneracy.observe(state.distribution, symbol, open_time, p)
    state.actions[action] += 1
    state.hours |= 1 << open_time // 3_600_000 % 24
    ops.answered += 1
    if open_time > ops.last:
        ops.last = open_time
        if ops.first < 0:
            ops.first = open_time
    if latency is not None:
        ops.timed += 1
        ops.latencies[operations.bucket(latency)] += 1
    return state


def fail(state: Evidence) -> Evidence:
    """Count a prediction that was due and failed."""
    state.operations.failed += 1
    return state


def restarted(state: Evidence | None, plan: Plan, margin: float = 0.002, block_ms: int = 0) -> Evidence:
    """Return ``state`` if it has the key of ``plan``, else a state without evidence."""
    return state if state is not None and state.plan.key == plan.key else initial(plan, margin, block_ms)


def design_effect(state: Evidence, class_: int) -> float:
    """Return the number of rows per effective row, at least 1, from the scatter of block residuals.

    Before 8 blocks it is the horizon, because labels of that many bars overlap."""
    residual, reliability = state.residuals[class_], state.reliability
    if residual.blocks < 8:
        return float(max(1, state.plan.horizon))
    bins = zip(reliability.rows[class_], reliability.predicted[class_], strict=True)
    independent = sum(predicted * (1 - predicted / n) for n, predicted in bins if n) / max(1, reliability.count)
    rows_a_block = reliability.count / residual.blocks
    scatter = residual.squares / (residual.blocks - 1)
    return max(1.0, scatter * rows_a_block / independent) if independent > 0 else 1.0


def _score(p: float) -> float:
    return math.log(p) if p > FLOOR else LOG_FLOOR


def _same(p: tuple[float, float, float], q: tuple[float, float, float]) -> bool:
    """Return whether two predictions are equal after rounding to 1e-3."""
    return abs(p[0] - q[0]) < 1e-3 and abs(p[1] - q[1]) < 1e-3 and abs(p[2] - q[2]) < 1e-3


def _close(state: Evidence, means: blocks.Means) -> None:
    for j in (PRIOR, CHAMPION, POOL, CHAMPION_OVER_PRIOR, MONEY):
        mean = means[j]
        if mean is not None:
            betting.observe(state.bets[j], mean)
    better = means[CHAMPION]
    if better is not None:
        betting.observe(state.bets[BETTER], better)
    earned = means[MONEY]
    if earned is not None and len(state.bets) > EARNS_MORE:
        betting.observe(state.bets[EARNS_MORE], earned)
    skill = means[PRIOR]
    if skill is not None:
        ecusum.observe(state.loss, -skill / state.plan.scales.prior)
    for class_, residual in enumerate(state.residuals):
        mean = means[SELL + class_]
        if mean is not None:
            residual.blocks += 1
            step = mean - residual.mean
            residual.mean += step / residual.blocks
            residual.squares += step * (mean - residual.mean)
    _close_outputs(state.outputs, state.reliability.rows)


def _close_outputs(outputs: Outputs, rows: list[list[float]]) -> None:
    filling = outputs.reference_blocks < REFERENCE_BLOCKS
    if filling:
        outputs.reference_blocks += 1
    else:
        outputs.recent_blocks = outputs.recent_blocks * DECAY + 1
    for class_, now in enumerate(rows):
        before = outputs.counted[class_]
        if filling:
            base = outputs.reference[class_]
            outputs.reference[class_] = [r + n - b for r, n, b in zip(base, now, before, strict=True)]
        else:
            recent = outputs.recent[class_]
            outputs.recent[class_] = [r * DECAY + n - b for r, n, b in zip(recent, now, before, strict=True)]
        outputs.counted[class_] = list(now)
