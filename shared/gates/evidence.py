"""All that the ``default`` policy remembers of one candidate, and how a row enters it.

Eight quantities are averaged over purged blocks. Six are comparisons that are bet on or watched: gain in log
score (nats, probabilities cut at 0.01) over the class prior, the champion, the ensemble without it; the
champion's own gain over the prior; money against the champion; and two that calibration needs.
"""

import math
from typing import Final

from msgspec import Struct, field

from shared.gates import betting, blocks, calibration, degeneracy, ecusum, operations
from shared.gates.betting import Bets
from shared.gates.blocks import Blocks
from shared.gates.calibration import Reliability
from shared.gates.degeneracy import Answers
from shared.gates.ecusum import Cusum
from shared.gates.operations import Operations
from shared.gates.rows import Plan, Row

FLOOR: Final = 0.01
"""Probabilities enter a gain no smaller: |gain| is at most 4.6 nats."""
LOG_FLOOR: Final = math.log(FLOOR)
QUANTITIES: Final = 8
PRIOR, CHAMPION, POOL, INCUMBENT, MONEY, SELL, HOLD, BUY = range(QUANTITIES)
BETTER: Final = 5
"""Among the bets: against the champion without a margin."""
REFERENCE_BLOCKS: Final = 10
"""Without a backtest's histogram, the outputs of so many first blocks are the reference."""
DECAY: Final = 0.9
"""Weight of an older block's outputs against the next one's."""
ROWS_A_BLOCK: Final = 50.0
"""Effective rows of a block, at most, when outputs are compared: they overlap and repeat."""


class Residual(Struct, array_like=True, forbid_unknown_fields=True):
    """Mean and scatter over blocks of (probability said - outcome), for one class."""

    blocks: int = 0
    mean: float = 0.0
    squares: float = 0.0


def _residuals() -> list[Residual]:
    return [Residual(), Residual(), Residual()]


def _histogram() -> list[list[float]]:
    return [[0.0] * calibration.BINS for _ in range(3)]


class Outputs(Struct, array_like=True, forbid_unknown_fields=True):
    """Probabilities by class and hundredth: the reference, the recent ones (older blocks fade), and
    what had been counted at the last close."""

    reference: list[list[float]] = field(default_factory=_histogram)
    recent: list[list[float]] = field(default_factory=_histogram)
    counted: list[list[float]] = field(default_factory=_histogram)
    reference_blocks: float = 0.0
    recent_blocks: float = 0.0


class Evidence(Struct, array_like=True, forbid_unknown_fields=True):
    """The state of one candidate. It belongs to ``evolve`` and changes in place."""

    plan: Plan
    margin: float
    blocks: Blocks
    bets: list[Bets]
    loss: Cusum = field(default_factory=Cusum)
    reliability: Reliability = field(default_factory=Reliability)
    residuals: list[Residual] = field(default_factory=_residuals)
    answers: Answers = field(default_factory=Answers)
    outputs: Outputs = field(default_factory=Outputs)
    operations: Operations = field(default_factory=Operations)
    actions: list[int] = field(default_factory=lambda: [0, 0, 0])
    compared: int = 0
    copied: int = 0
    hours: int = 0


def begin(plan: Plan, margin: float = 0.002, block_ms: int = 0, fewest: int = blocks.FEWEST_ROWS) -> Evidence:
    """No evidence yet. ``margin`` (nats) is what a candidate may be worse than the champion and still
    be called no worse; ``block_ms`` 0: the shortest lawful block of the horizon."""
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
    state = Evidence(plan, margin, Blocks(length, purge, QUANTITIES, fewest), bets)
    if plan.outputs is not None:
        state.outputs.reference = [list(row) for row in plan.outputs]
        state.outputs.reference_blocks = REFERENCE_BLOCKS
    return state


def evolve(state: Evidence, row: Row) -> Evidence:
    """Takes one scored prediction. Rows come in the order of the ``scores`` stream; one that names no
    class is counted and otherwise left out."""
    symbol, open_time, p, outcome, base, action, champion_p, with_p, without_p, _, _, net, champion_net, latency = row
    sell, hold, buy = p
    ops = state.operations
    if not (0 <= outcome <= 2 and 0 <= action <= 2 and -1e-6 <= sell + hold + buy - 1.0 <= 1e-6 and min(p) >= 0.0):
        ops.unreadable += 1
        return state
    said = _score(p[outcome])
    prior = _score(base[outcome])
    champion = pool = incumbent = money = None
    if champion_p is not None:
        theirs = _score(champion_p[outcome])
        champion, incumbent = said - theirs, theirs - prior
        state.compared += 1
        state.copied += _same(p, champion_p)
        if net is not None and champion_net is not None:
            money = net - champion_net
    if with_p is not None and without_p is not None:
        pool = _score(with_p[outcome]) - _score(without_p[outcome])
    sold, held, bought = sell - (outcome == 0), hold - (outcome == 1), buy - (outcome == 2)
    values = (said - prior, champion, pool, incumbent, money, sold, held, bought)
    means = blocks.add(state.blocks, open_time, values)
    if means is not None:
        _close(state, means)
    calibration.observe(state.reliability, p, outcome)
    degeneracy.observe(state.answers, symbol, open_time, p)
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
    """Takes a prediction that should have come and did not."""
    state.operations.failed += 1
    return state


def restarted(state: Evidence | None, plan: Plan, margin: float = 0.002, block_ms: int = 0) -> Evidence:
    """The state itself if it is about ``plan``'s key; else one without evidence."""
    return state if state is not None and state.plan.key == plan.key else begin(plan, margin, block_ms)


def design_effect(state: Evidence, class_: int) -> float:
    """Rows per effective row, from the scatter of block residuals; at least 1. Before 8 blocks, the
    horizon: labels of that many bars overlap."""
    residual, reliability = state.residuals[class_], state.reliability
    if residual.blocks < 8:
        return float(max(1, state.plan.horizon))
    bins = zip(reliability.rows[class_], reliability.said[class_], strict=True)
    independent = sum(said * (1 - said / n) for n, said in bins if n) / max(1, reliability.count)
    rows_a_block = reliability.count / residual.blocks
    scatter = residual.squares / (residual.blocks - 1)
    return max(1.0, scatter * rows_a_block / independent) if independent > 0 else 1.0


def _score(p: float) -> float:
    return math.log(p) if p > FLOOR else LOG_FLOOR


def _same(p: tuple[float, float, float], q: tuple[float, float, float]) -> bool:
    """Whether two answers are one after rounding to 1e-3."""
    return abs(p[0] - q[0]) < 1e-3 and abs(p[1] - q[1]) < 1e-3 and abs(p[2] - q[2]) < 1e-3


def _close(state: Evidence, means: blocks.Means) -> None:
    for j in (PRIOR, CHAMPION, POOL, INCUMBENT, MONEY):
        mean = means[j]
        if mean is not None:
            betting.observe(state.bets[j], mean)
    better = means[CHAMPION]
    if better is not None:
        betting.observe(state.bets[BETTER], better)
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
