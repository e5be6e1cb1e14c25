"""Measure the false positive rate of tests under continuous monitoring, and the delay until a better model passes.

Under the null hypothesis, candidate and champion see the same signal with independent noise of the same size, so
neither is better. Labels of h bars overlap, and the noise is autocorrelated. ``pbe1`` is the test of the policy
``default``. It is compared, on the same scores, with a paired t-test and an asymptotic confidence sequence for
independent scores, both evaluated after every score from the 200th on, and with a Mann-Whitney rule on the two losses,
evaluated 120 times. The level of all tests is 5 %.

``pbe1`` is computed here for all paths at once; on a sample the result is compared with the folds, score by score.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from bench import forecasts
from bench.forecasts import Array, Market
from bench.harness import Figure
from shared.gates import betting, evidence
from shared.gates.confidence import rho_squared
from shared.gates.rows import Key, Plan, Scales

ALPHA = 0.05
LINE = float(np.log(1 / ALPHA))
BLOCKS = 60
FIRST_LOOK = 200
LOOKS = 120
NOISE = 0.7
WORSE = 2.0
MARGIN = 0.002
CELLS = [(h, tau) for h in (1, 6, 12, 24, 48) for tau in (0.0, 0.4, 0.8)]
QUICK_CELLS = [(1, 0.0), (12, 0.8), (48, 0.4)]


class Shares(NamedTuple):
    """The shares of paths in one cell that passed at any time. ``worse``: the share for a candidate that is worse by
    more than the margin, in the test of non-inferiority. ``gap``: by how much it is worse (nats)."""

    ours: float
    t_test: float
    mann_whitney: float
    iid_sequence: float
    worse: float
    gap: float


def run(quick: bool) -> dict[str, Figure]:
    """Return the highest rate of each method over the cells, the difference from the fold, and the delays."""
    cells, paths = (QUICK_CELLS, 200) if quick else (CELLS, 2000)
    found = {cell: _cell(*cell, paths, seed) for seed, cell in enumerate(cells)}
    allowed = ALPHA + 2 * float(np.sqrt(ALPHA * (1 - ALPHA) / paths))
    said = f"of {paths} equal paths a cell, {BLOCKS} blocks, horizon 1 to 48, autocorrelation 0 to 0.8"

    def worst(name: str) -> tuple[float, str]:
        cell = max(found, key=lambda one: getattr(found[one], name))
        return getattr(found[cell], name), f"worst at h {cell[0]}, tau {cell[1]}; {said}"

    figures = {
        "pbe1_wrongly_passed": Figure(worst("ours")[0], "share", f"<= {allowed:.4f}", worst("ours")[1]),
        "pbe1_wrongly_passed_mean": Figure(float(np.mean([one.ours for one in found.values()])), "share", "", said),
        "worse_passed": Figure(
            worst("worse")[0],
            "share",
            "<= 0",
            f"worse by {1e3 * min(one.gap for one in found.values()):.1f} mnat or more",
        ),
    }
    for name in ("t_test", "mann_whitney", "iid_sequence"):
        figures[f"{name}_wrongly_passed"] = Figure(worst(name)[0], "share", "", worst(name)[1])
        low = min(found, key=lambda one: getattr(found[one], name))
        figures[f"{name}_best_cell"] = Figure(
            getattr(found[low], name), "share", "", f"its best cell: h {low[0]}, tau {low[1]}"
        )
    figures["fold_difference"] = Figure(_fold_difference(), "ln E", "<= 1e-9", "largest, vectorised against the folds")
    return figures | _delays(200 if quick else 1000)


def _cell(horizon: int, tau: float, paths: int, seed: int) -> Shares:
    block = max(8 * horizon, 96)
    bars = BLOCKS * block
    width = max(8, min(paths, 1_200_000 // bars))
    backtest = _differences(forecasts.market(90_000 + seed, bars, 32, horizon), tau, 1, NOISE)
    scale = 3 * float(_block_means(backtest[0] - backtest[1], block, horizon).std())
    parts = []
    for start in range(0, paths, width):
        of = forecasts.market(100_000 * seed + start, bars, min(width, paths - start), horizon)
        mine, theirs = _differences(of, tau, 7 + start, NOISE)
        bad, _ = _differences(of, tau, 7 + start, WORSE, allowed=False)
        x = _block_means(mine - theirs, block, horizon)
        worse = _block_means(bad - theirs, block, horizon)
        parts.append(
            [
                _ever(x / scale),
                _t_test(mine - theirs),
                _mann_whitney(mine, theirs),
                _iid_sequence(mine - theirs),
                _ever((worse + MARGIN) / scale),
                -(bad - theirs).mean(axis=0),
            ]
        )
    return Shares(*(float(np.concatenate(column).mean()) for column in zip(*parts, strict=True)))


def _differences(of: Market, tau: float, seed: int, noise: float, allowed: bool = True) -> tuple[Array, Array]:
    """Return the log scores [T, P] of a candidate and of the champion, which is the same draw for every ``noise``."""
    uniform = np.full(3, 1.0)
    candidate = forecasts.forecast(of, b=False, noise=noise, seed=2 * seed, tau=tau, allowed=allowed)
    champion = forecasts.forecast(of, b=False, noise=NOISE, seed=2 * (seed // 8) + 1_000_001, tau=tau)
    return forecasts.gains(of, candidate, uniform), forecasts.gains(of, champion, uniform)


def _block_means(values: Array, block: int, purge: int) -> Array:
    """Return the mean of each block without its purged bars, [K, P]; each path is a column."""
    whole = len(values) // block
    means: Array = values[: whole * block].reshape(whole, block, -1)[:, : block - purge].mean(axis=1)
    return means


def log_e(x: Array) -> Array:
    """Return ln E after each block, [K, P]."""
    cut = np.clip(x, -1.0, 1.0)
    wealth = np.stack([np.cumsum(np.log1p(stake * cut), axis=0) for stake in betting.STAKES])
    top = wealth.max(axis=0)
    logs: Array = top + np.log(np.exp(wealth - top).mean(axis=0))
    return logs


def _ever(x: Array) -> Array:
    crossed: Array = (log_e(x).max(axis=0) >= LINE).astype(float)
    return crossed


def _running(d: Array) -> tuple[Array, Array, Array]:
    n = np.arange(1, len(d) + 1)[:, None].astype(float)
    mean = np.cumsum(d, axis=0) / n
    deviation = np.sqrt(np.maximum(np.cumsum(d * d, axis=0) / n - mean * mean, 1e-18))
    return n[FIRST_LOOK - 1 :], mean[FIRST_LOOK - 1 :], deviation[FIRST_LOOK - 1 :]


def _t_test(d: Array) -> Array:
    n, mean, deviation = _running(d)
    passed: Array = (mean * np.sqrt(n) / deviation > ndtri(1 - ALPHA)).any(axis=0).astype(float)
    return passed


def _iid_sequence(d: Array) -> Array:
    n, mean, deviation = _running(d)
    rho2 = rho_squared(ALPHA, FIRST_LOOK)
    scaled = n * rho2 + 1
    half = deviation * np.sqrt(2 * scaled / (n * n * rho2) * np.log(1 + np.sqrt(scaled) / (2 * ALPHA)))
    passed: Array = (mean > half).any(axis=0).astype(float)
    return passed


def _mann_whitney(mine: Array, theirs: Array, bins: int = 64) -> Array:
    """Test on log scores in 64 bins of equal mass, with the tie-corrected normal approximation."""
    edges = np.unique(np.quantile(theirs, np.arange(1, bins) / bins))
    length, paths = len(mine) // LOOKS, mine.shape[1]

    def counted(values: Array) -> Array:
        codes = np.searchsorted(edges, values[: LOOKS * length]).reshape(LOOKS, length, paths)
        where = (np.arange(LOOKS)[:, None, None] * paths + np.arange(paths)) * bins + codes
        counts = np.bincount(where.ravel(), minlength=LOOKS * paths * bins).reshape(LOOKS, paths, bins)
        running: Array = np.cumsum(counts, axis=0).astype(float)
        return running

    a, b = counted(mine), counted(theirs)
    n = a.sum(axis=-1)
    u = (a * (np.cumsum(b, axis=-1) - 0.5 * b)).sum(axis=-1)
    ties = ((a + b) ** 3 - (a + b)).sum(axis=-1)
    variance = n * n / 12 * ((2 * n + 1) - ties / (2 * n * (2 * n - 1)))
    looked = n[:, :1] >= FIRST_LOOK
    passed: Array = (((u - n * n / 2) / np.sqrt(variance) > ndtri(1 - ALPHA)) & looked).any(axis=0).astype(float)
    return passed


def _fold_difference(paths: int = 12) -> float:
    """Return the largest difference in ln E between this module and the fold of the policy, over all blocks."""
    horizon, block = 12, 96
    of = forecasts.market(4242, 20 * block, paths, horizon)
    prior = np.full(3, 1 / 3)
    candidate = forecasts.forecast(of, b=False, noise=NOISE, seed=1, tau=0.4)
    champion = forecasts.forecast(of, b=False, noise=NOISE, seed=2, tau=0.4)
    wanted = log_e(_block_means(forecasts.gains(of, candidate, champion), block, horizon) / 0.05)
    worst = 0.0
    for path in range(paths):
        column = slice(path, path + 1)
        one = of._replace(z=of.z[:, column], outcome=of.outcome[:, column], move=of.move[:, column])
        beside = forecasts.Story(prior, champion[:, column], champion[:, column])
        plan = Plan(Key("m", "a", "c", "f", "l", "p"), horizon, forecasts.FIVE_MINUTES, Scales())
        state = evidence.initial(plan)
        for seen in _closes(state, one, candidate[:, column], beside):
            ours = betting.log_e(state.bets[evidence.BETTER])
            worst = max(worst, abs(ours - float(wanted[seen - 1, path])))
    return worst


def _closes(state: evidence.Evidence, of: Market, candidate: Array, beside: forecasts.Story) -> Iterator[int]:
    seen = 0
    for row in forecasts.rows(of, candidate, beside):
        evidence.evolve(state, row)
        if state.blocks.closed > seen:
            seen = state.blocks.closed
            yield seen


def _delays(paths: int) -> dict[str, Figure]:
    """Return the number of blocks until a better candidate passes, and that of a test with a fixed sample size."""
    figures = {}
    for name, noise in (("large", 0.0), ("small", 0.45)):
        x, scale = _edge(paths, noise)
        logs = log_e(x / scale)
        crossed = logs >= LINE
        first = np.where(crossed.any(axis=0), crossed.argmax(axis=0) + 1, len(logs) + 1)
        first = np.maximum(first, 20)
        ratio = float(x.mean() / x.std())
        half, most = (((ndtri(1 - ALPHA) + ndtri(power)) / ratio) ** 2 for power in (0.5, 0.9))
        against = f"mean {1e3 * x.mean():.1f} mnat, {ratio:.2f} deviations a block; never within {len(logs)} blocks: "
        against += f"{float((~crossed.any(axis=0)).mean()):.3f}"
        figures[f"delay_{name}_median"] = Figure(float(np.median(first)), "blocks", "", against)
        figures[f"delay_{name}_p90"] = Figure(float(np.quantile(first, 0.9)), "blocks", "", "")
        figures[f"fixed_{name}_power_50"] = Figure(
            float(half), "blocks", "", "a z-test looked at once, sized in advance"
        )
        figures[f"fixed_{name}_power_90"] = Figure(float(most), "blocks", "", "the same, 90 % power")
    return figures


def _edge(paths: int, noise: float) -> tuple[Array, float]:
    """Return the block means [K, P] of eight symbols for a candidate that sees its signal with less noise."""
    symbols, horizon, block = 8, 12, 96
    length = 240
    parts = []
    for start in range(0, paths + 1, 50):
        of = forecasts.market(70_000 + start, length * block, 50, horizon)
        mine, theirs = _differences(of, 0.8, 50_000 + 8 * start, noise)
        parts.append(_block_means(mine - theirs, block, horizon))
    x = np.concatenate(parts, axis=1)
    whole = x.shape[1] // symbols
    grouped = x[:, : whole * symbols].reshape(len(x), whole, symbols).mean(axis=2)
    return grouped[:, 1:], 3 * float(grouped[:, 0].std())
