from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared.features.bars import BarArrays
from shared.inputs.kinds import FUNDING_MS, KINDS
from shared.inputs.samples import InputSamples, Samples

Walk = Callable[..., BarArrays]


def walk(count: int, seed: int = 0, interval_ms: int = 60_000, sigma: float = 1e-3) -> BarArrays:
    """Bars of a random walk: plausible, all different. Each input has a sample at each close."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, sigma, count)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * (1.0 + sigma * random.random(count))
    low = np.minimum(open_, close) * (1.0 - sigma * random.random(count))
    times = (28_000_000 + np.arange(count, dtype=np.int64)) * interval_ms
    volume = random.lognormal(0.0, 1.0, count)
    trades = np.floor(1.0 + 9.0 * volume * random.random(count))
    further = (trades, volume * close, volume * random.random(count))
    return BarArrays(
        times, open_, high, low, close, volume, interval_ms, *further, inputs=inputs(times + interval_ms, seed)
    )


def inputs(times: np.ndarray[Any, np.dtype[np.int64]], seed: int) -> InputSamples:
    """Samples of each kind at these times."""
    random, none = np.random.default_rng([seed, 1]), np.zeros(len(times), np.int64)
    return {
        kind: Samples(kind, times, random.lognormal(0.0, 0.1, (len(times), len(fields))), none + FUNDING_MS)
        for kind, fields in KINDS.items()
    }


@pytest.fixture(name="walk", scope="session")
def walk_fixture() -> Walk:
    return walk
