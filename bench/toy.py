"""Make a simple synthetic market, for tests that train models."""

import numpy as np

from shared.bars import Bars

MINUTE = 60_000


def market(symbol: str, bars: int, momentum: float, seed: int) -> Bars:
    """Return bars whose log returns are an AR(1) process with coefficient ``momentum``."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.001, bars + 1)
    returns = np.zeros(bars + 1)
    for t in range(1, bars + 1):
        returns[t] = momentum * returns[t - 1] + noise[t]
    path = 100 * np.exp(np.cumsum(returns))
    opened, close = path[:-1], path[1:]
    spread = 1 + np.abs(rng.normal(0, 0.0005, (2, bars)))
    high, low = np.maximum(opened, close) * spread[0], np.minimum(opened, close) / spread[1]
    open_time = np.arange(bars, dtype=np.int64) * MINUTE
    return Bars(symbol, MINUTE, open_time, opened, high, low, close, rng.lognormal(3, 0.5, bars))
