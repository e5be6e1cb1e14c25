from collections.abc import Callable

import numpy as np
import pytest

from shared.features.bars import BarArrays

Walk = Callable[..., BarArrays]


def walk(count: int, seed: int = 0, interval_ms: int = 60_000, sigma: float = 1e-3) -> BarArrays:
    """Bars of a random walk: plausible, all different."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, sigma, count)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * (1.0 + sigma * random.random(count))
    low = np.minimum(open_, close) * (1.0 - sigma * random.random(count))
    times = (28_000_000 + np.arange(count, dtype=np.int64)) * interval_ms
    volume = random.lognormal(0.0, 1.0, count)
    trades = np.floor(1.0 + 9.0 * volume * random.random(count))
    further = (trades, volume * close, volume * random.random(count))
    return BarArrays(times, open_, high, low, close, volume, interval_ms, *further)


@pytest.fixture(name="walk", scope="session")
def walk_fixture() -> Walk:
    return walk
