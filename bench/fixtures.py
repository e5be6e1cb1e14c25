"""Check that the policy ``default`` refuses known faulty outputs, each by the intended gate, and passes healthy models.

Every case runs through the whole policy on 21 days of five-minute bars of eight symbols, and is judged after each block
of scores. "P0.4" and "P0.6" are cases of the user's reports; a win probability w is the prediction (1 - w, 0, w).
"""

from collections.abc import Callable, Iterable

import numpy as np

from bench import forecasts
from bench.forecasts import Array, Market, Story
from bench.harness import Figure
from shared.gates import default, evidence
from shared.gates.rows import UNKNOWN, Row
from shared.gates.verdicts import Judgement

BACKTEST_BARS = 60 * 96
SYMBOLS = 8
LOOK_EVERY = 96 * SYMBOLS

Maker = Callable[[Market, Story, np.random.Generator], Array]


def run(quick: bool) -> dict[str, Figure]:
    """Return a figure for each case: 1 if the intended gate refused it, else 0; for healthy models the number that
    passed."""
    days = 14 if quick else 21
    figures = {}
    for name, (maker, gate, outcome) in CASES.items():
        found = judged(maker, days, 7)
        figures[name] = _refused(found, gate, outcome)
    figures["two_samples"] = _refused(_two_samples(days), "distinct", "inconclusive")
    figures["unknown_actions"] = _refused(_unknown_actions(days), "readable", "inconclusive")
    passed = [judged(_healthy, 28, seed) for seed in range(20)]
    figures["healthy_passed"] = Figure(
        float(sum(one.outcome == "passed" for one in passed)), "models", ">= 20", "of 20, 28 days"
    )
    return figures


def _refused(found: Judgement, gate: str, outcome: str) -> Figure:
    """Return 1 if the verdict is not ``passed`` and ``gate`` has the outcome ``outcome``, otherwise 0."""
    right = found.outcome != "passed" and any(one.name == gate and one.outcome == outcome for one in found.gates)
    failed = sum(one.outcome == "failed" for one in found.gates)
    return Figure(float(right), "refused", ">= 1", f"{found.outcome}: {gate} {outcome}, {failed} gates failed")


def judged(maker: Maker, days: int, seed: int) -> Judgement:
    """Return the verdict on a candidate: the first that passed, otherwise the last."""
    past = forecasts.market(10_000 + seed, BACKTEST_BARS, SYMBOLS)
    prior = np.bincount(past.outcome.ravel(), minlength=3) / past.outcome.size
    before = forecasts.story(past, 20_000 + seed, prior)
    plan = forecasts.plan(past, maker(past, before, np.random.default_rng(seed)), before)
    now = forecasts.market(seed, days * 288, SYMBOLS)
    beside = forecasts.story(now, 30_000 + seed, prior)
    state = evidence.initial(plan)
    return watched(state, forecasts.rows(now, maker(now, beside, np.random.default_rng(seed + 1)), beside))


def watched(state: evidence.Evidence, rows: Iterable[Row]) -> Judgement:
    """Judge the candidate after every 96 bars, until it passes or the rows end; return the last verdict."""
    for number, row in enumerate(rows, start=1):
        evidence.evolve(state, row)
        if number % LOOK_EVERY == 0:
            found = default.judge(state)
            if found.outcome == "passed":
                return found
    return default.judge(state)


def _rows(days: int, count: int) -> Iterable[Row]:
    now = forecasts.market(7, days * 288, SYMBOLS)
    prior = np.bincount(now.outcome.ravel(), minlength=3) / now.outcome.size
    beside = forecasts.story(now, 30_007, prior)
    for number, row in enumerate(forecasts.rows(now, forecasts.forecast(now, noise=0.4, seed=7), beside)):
        if number == count:
            return
        yield row


def _blank(days: int) -> evidence.Evidence:
    past = forecasts.market(10_007, days * 288, SYMBOLS)
    prior = np.bincount(past.outcome.ravel(), minlength=3) / past.outcome.size
    before = forecasts.story(past, 20_007, prior)
    return evidence.initial(forecasts.plan(past, forecasts.forecast(past, noise=0.4, seed=7), before))


def _two_samples(days: int) -> Judgement:
    return watched(_blank(days), _rows(days, 2))


def _unknown_actions(days: int) -> Judgement:
    return watched(_blank(days), (row._replace(action=UNKNOWN) for row in _rows(days, 20_000)))


def _healthy(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return forecasts.forecast(of, noise=0.4, seed=int(random.integers(1 << 30)))


def _wins(confidence: Array) -> Array:
    """Return a win probability w as class probabilities (1 - w, 0, w)."""
    return np.stack([1 - confidence, np.zeros_like(confidence), confidence], axis=-1)


def _p04(of: Market, beside: Story, random: np.random.Generator) -> Array:
    """0.6206 to 0.6207, 450 distinct values."""
    values: Array = 0.6206 + 0.0001 / 449 * random.integers(450, size=of.z.shape).astype(np.float64)
    return _wins(values)


def _p06(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return _wins(np.full(of.z.shape, 0.5239))


def _two_valued(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return _wins(np.where(random.random(of.z.shape) < 0.5, 0.50, 0.65))


def _per_symbol(of: Market, beside: Story, random: np.random.Generator) -> Array:
    """HOLD 0.970 for some symbols, 0.904 for the others, whatever the bar."""
    hold = np.where(np.arange(of.z.shape[1]) % 2 == 0, 0.970, 0.904) + np.zeros(of.z.shape)
    return np.stack([(1 - hold) / 2, hold, (1 - hold) / 2], axis=-1)


def _random(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return random.dirichlet((1.0, 1.0, 1.0), size=of.z.shape)


def _prior_noise(of: Market, beside: Story, random: np.random.Generator) -> Array:
    logits = np.log(beside.prior) + random.normal(0.0, 0.15, size=(*of.z.shape, 3))
    powers = np.exp(logits)
    noisy: Array = powers / powers.sum(axis=-1, keepdims=True)
    return noisy


def _copy(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return beside.champion


def _noisy_copy(of: Market, beside: Story, random: np.random.Generator) -> Array:
    """A copy with just enough noise that no ``copy`` gate detects it. It adds no skill."""
    logits = np.log(beside.champion) + random.normal(0.0, 0.05, size=beside.champion.shape)
    powers = np.exp(logits)
    noisy: Array = powers / powers.sum(axis=-1, keepdims=True)
    return noisy


def _inverted(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return forecasts.forecast(of, noise=0.4, seed=3)[..., ::-1]


def _overconfident(of: Market, beside: Story, random: np.random.Generator) -> Array:
    p = forecasts.forecast(of, a=False, noise=0.8, seed=int(random.integers(1 << 30))) ** 4
    sharp: Array = p / p.sum(axis=-1, keepdims=True)
    return sharp


def _same_everywhere(of: Market, beside: Story, random: np.random.Generator) -> Array:
    return np.repeat(forecasts.forecast(of, noise=0.4, seed=3)[:, :1], of.z.shape[1], axis=1)


def _frozen(of: Market, beside: Story, random: np.random.Generator) -> Array:
    """Healthy for five days, then the same prediction for every bar."""
    p = forecasts.forecast(of, noise=0.4, seed=3).copy()
    if len(p) != BACKTEST_BARS:
        p[5 * 288 :] = p[5 * 288]
    return p


CASES: dict[str, tuple[Maker, str, str]] = {
    "p04_float_noise": (_p04, "distinct", "failed"),
    "p06_constant": (_p06, "distinct", "failed"),
    "two_valued": (_two_valued, "entropy", "failed"),
    "per_symbol_constants": (_per_symbol, "longest_run", "failed"),
    "same_for_all_symbols": (_same_everywhere, "same_everywhere", "failed"),
    "frozen_output": (_frozen, "longest_run", "failed"),
    "random_output": (_random, "skill", "failed"),
    "noise_around_the_prior": (_prior_noise, "skill", "failed"),
    "inverted": (_inverted, "skill", "failed"),
    "overconfident": (_overconfident, "skill", "failed"),
    "copy_of_the_champion": (_copy, "copy", "failed"),
    "noisy_copy_of_the_champion": (_noisy_copy, "contribution", "inconclusive"),
}
