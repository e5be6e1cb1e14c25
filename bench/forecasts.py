"""Simulate a market whose optimal forecast is known, and forecasters of it, for the benchmarks of the gates.

Two hidden signals a and b (AR(1), per symbol) move the returns: r_{t+1} = beta_a a_t + beta_b b_t + noise. The label is
SELL, HOLD or BUY by the sum of the next h returns; the threshold is chosen so that a given share is HOLD. A forecaster
that sees one signal or both computes the distribution of that sum, so its probabilities are optimal given what it sees.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from shared.gates.rows import Key, Plan, Row, Scales

Array = NDArray[np.float64]
FIVE_MINUTES = 300_000
FLOOR = 0.01


class Market(NamedTuple):
    """A simulated market. All arrays are [T, S]: the two signals, the sums of the next ``horizon`` returns in units of
    their deviation, the outcomes, and the returns over an hour. ``beta`` is the weight of both signals, ``kappa`` the
    threshold of the labels."""

    a: Array
    b: Array
    z: Array
    outcome: NDArray[np.int64]
    move: Array
    beta: float
    phi: float
    kappa: float
    horizon: int


class Story(NamedTuple):
    """The context in which a candidate is judged: the class prior, the predictions of the champion and of the rest of
    the ensemble (each [T, S, 3]), and the cost of a round trip as a fraction."""

    prior: Array
    champion: Array
    other: Array
    cost: float = 0.0005


def market(
    seed: int, bars: int, symbols: int = 8, horizon: int = 12, beta: float = 0.10, hold: float = 0.5, phi: float = 0.9
) -> Market:
    """Draw a market from ``seed``. ``hold`` is the share of HOLD, ``phi`` the autocorrelation of the signals."""
    random = np.random.default_rng(seed)
    total = bars + horizon + 200
    innovations = random.normal(size=(2, total, symbols)) * np.sqrt(1 - phi * phi)
    a, b = (lfilter([1.0], [1.0, -phi], one, axis=0)[200:] for one in innovations)
    returns = beta * (a + b) + random.normal(size=a.shape)
    sums = np.concatenate([np.zeros((1, symbols)), np.cumsum(returns, axis=0)])
    z = sums[horizon : bars + horizon] - sums[:bars]
    # Row t has r_{t+1}, so the sum from row t on is over the returns after t.
    deviation = float(np.sqrt(_variance(beta, phi, horizon, known=0)))
    kappa = float(ndtri((1 + hold) / 2)) * deviation
    outcome = 1 + (z > kappa).astype(np.int64) - (z < -kappa).astype(np.int64)
    return Market(a[:bars], b[:bars], z, outcome, z * 0.002 / kappa, beta, phi, kappa, horizon)


def _variance(beta: float, phi: float, horizon: int, known: int) -> float:
    """Return the variance of the sum of returns given ``known`` of the two signals."""
    kernel = np.array([(1 - phi ** (horizon - k)) / (1 - phi) for k in range(horizon)])
    to_come = (1 - phi * phi) * float((kernel[1:] ** 2).sum())
    at_start = float(kernel[0] ** 2)
    return horizon + beta * beta * (2 * to_come + (2 - known) * at_start)


def forecast(
    of: Market,
    a: bool = True,
    b: bool = True,
    noise: float = 0.0,
    seed: int = 0,
    tau: float = 0.9,
    allowed: bool = True,
) -> Array:
    """Return the probabilities [T, S, 3] of a forecaster that sees signal ``a``, ``b`` or both.

    ``noise`` (AR(1) with ``tau``, in units of the signal) is added to what it sees. The forecaster accounts for the
    noise unless ``allowed`` is False."""
    reach = (1 - of.phi**of.horizon) / (1 - of.phi)
    known = (of.a if a else 0.0) + (of.b if b else 0.0) + np.zeros_like(of.a)
    extra = 0.0
    if noise:
        random = np.random.default_rng([seed, 1])
        blur = lfilter([1.0], [1.0, -tau], random.normal(size=of.a.shape) * np.sqrt(1 - tau * tau), axis=0)
        share = (a + b) / (a + b + noise**2) if allowed else 1.0
        known = share * (known + noise * blur)
        extra = (of.beta * reach) ** 2 * (a + b) * (1 - share)
    mean = of.beta * reach * known
    deviation = np.sqrt(_variance(of.beta, of.phi, of.horizon, known=a + b) + extra)
    sell, buy = ndtr((-of.kappa - mean) / deviation), 1 - ndtr((of.kappa - mean) / deviation)
    return np.stack([sell, 1 - sell - buy, buy], axis=-1)


def pool(prior: Array, members: list[Array]) -> Array:
    """Return the log-linear pool of the members with equal weights, their evidence centred by its mean."""
    logs = [np.log(np.maximum(p, 1e-9)) for p in members]
    logits = np.log(prior) + sum(one - one.mean(axis=(0, 1)) for one in logs) / len(logs)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    pooled: Array = powers / powers.sum(axis=-1, keepdims=True)
    return pooled


def actions(p: Array, edge: float = 0.10) -> NDArray[np.int64]:
    """Return the actions under ``logpool``: BUY or SELL where P(BUY) - P(SELL) reaches the edge, else HOLD."""
    lead = p[..., 2] - p[..., 0]
    return 1 + (lead >= edge).astype(np.int64) - (lead <= -edge).astype(np.int64)


def gains(of: Market, p: Array, base: Array) -> Array:
    """Return the gain in log score of ``p`` over ``base``, [T, S]."""
    chosen = np.take_along_axis(p, of.outcome[..., None], -1)[..., 0]
    against = np.take_along_axis(np.broadcast_to(base, p.shape), of.outcome[..., None], -1)[..., 0]
    gained: Array = np.log(np.maximum(chosen, FLOOR)) - np.log(np.maximum(against, FLOOR))
    return gained


def block_means(values: Array, block: int, purge: int) -> Array:
    """Return the mean of each complete block of ``block`` bars, without its purged bars; axis 0 is time."""
    whole = len(values) // block
    rows = values[: whole * block].reshape(whole, block, -1)[:, : block - purge]
    means: Array = rows.mean(axis=(1, 2))
    return means


def story(of: Market, seed: int, prior: Array) -> Story:
    """Return a context with a champion that sees signal a with noise, and another member with more noise."""
    return Story(
        prior,
        forecast(of, b=False, noise=0.5, seed=seed + 1),
        forecast(of, b=False, noise=1.0, seed=seed + 2),
    )


def plan(of: Market, candidate: Array, beside: Story, name: str = "candidate") -> Plan:
    """Return the plan that a backtest on ``of`` fixes before any score: scales, action mix, histogram."""
    block = max(8 * of.horizon, 96)
    bases = [
        gains(of, candidate, beside.prior),
        gains(of, candidate, beside.champion),
        gains(of, pool(beside.prior, [candidate, beside.other]), pool(beside.prior, [beside.champion, beside.other])),
        _net(of, candidate, beside.cost) - _net(of, beside.champion, beside.cost),
    ]
    scales = [max(1e-4, 3 * float(block_means(values, block, of.horizon).std())) for values in bases]
    mix = np.bincount(actions(candidate).ravel(), minlength=3) / candidate[..., 0].size
    counts = [np.histogram(candidate[..., k], bins=100, range=(0.0, 1.0))[0] for k in range(3)]
    key = Key("bench", name, "champion", "features", "label", "default")
    return Plan(
        key,
        of.horizon,
        FIVE_MINUTES,
        Scales(*scales),
        (float(mix[0]), float(mix[1]), float(mix[2])),
        None,
        tuple(tuple(row.tolist()) for row in counts),
    )


def rows(of: Market, candidate: Array, beside: Story, *, argmax: bool = False) -> Iterator[Row]:
    """Yield the scores of ``candidate`` in the order of the stream: by bar, then by symbol."""
    own = candidate.argmax(axis=-1) if argmax else actions(candidate)
    joined = pool(beside.prior, [candidate, beside.other])
    rest = pool(beside.prior, [beside.champion, beside.other])
    decided = rest.argmax(axis=-1) if argmax else actions(rest)
    net, theirs = _net(of, candidate, beside.cost), _net(of, beside.champion, beside.cost)
    prior = (float(beside.prior[0]), float(beside.prior[1]), float(beside.prior[2]))
    columns = [candidate, of.outcome, own, beside.champion, joined, rest, decided, of.move, net, theirs]
    names = [f"S{s:02}USDT" for s in range(candidate.shape[1])]
    for t in range(len(candidate)):
        p, y, act, champion, with_, without, ensemble, move, mine, his = (column[t].tolist() for column in columns)
        for s, name in enumerate(names):
            yield Row(
                name,
                t * FIVE_MINUTES,
                tuple(p[s]),
                y[s],
                prior,
                act[s],
                tuple(champion[s]),
                tuple(with_[s]),
                tuple(without[s]),
                ensemble[s],
                move[s],
                mine[s],
                his[s],
                12.0,
            )


def _net(of: Market, p: Array, cost: float) -> Array:
    side = actions(p) - 1
    net: Array = side * of.move - cost * np.abs(side)
    return net
