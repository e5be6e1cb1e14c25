"""Rebuild two earlier trainings that collapsed: the shape of their data, their features and their settings.

Each row of a table was repeated to make a "sequence" of 128 steps. A constant window has no deviation, so instance
normalisation removed all of its information. The models could only learn the shares of the classes.
"""

from typing import NamedTuple

import numpy as np

from schemas.training import Recipe
from shared.families import complete, family_named
from shared.families.windows import CutWindows
from shared.features import SETS
from shared.training.fitting import Prepared, cut
from shared.training.series import Float32s, Table

SET = SETS["user-8"]
STEPS = 128
HOUR = 3_600_000
NETWORK: dict[str, int | float] = {
    "window": STEPS, "patch": 16, "stride": 16, "mixed": 1, "width": 128, "heads": 4, "layers": 3, "feedforward": 256,
    "dropout": 0.1, "batch": 32,
}  # fmt: skip


class Past(NamedTuple):
    """A training: its number of rows, the share of wins and the recipe. ``exact``: the mean of equal numbers had no
    rounding error."""

    rows: int
    wins: float
    recipe: Recipe
    exact: bool


def _recipe(imbalance: str, **params: int | float) -> Recipe:
    settings = complete(family_named("patchtst"), {**NETWORK, **params})
    return Recipe("patchtst", SET.name, settings, 1, 0.02, 1, "weights" if imbalance == "weights" else "none")


P04 = Past(3_949, 0.593, _recipe("none", epochs=15, patience=15, rate=5e-4), False)
"""15 epochs, with a constant loss. It always predicted WIN, with 450 distinct confidences within 0.0001."""
P06 = Past(3_094, 0.5, _recipe("weights", epochs=20, patience=20, rate=3e-4, smoothing=0.1), True)
"""Undersampled to 1,547 rows of each class, with class weights and label smoothing. It gave the same prediction for
every input, up to rounding."""


def prepared(past: Past, seed: int = 1) -> Prepared:
    """Return the data of a training, split by time. WIN is BUY and LOSS is SELL; 2 % are HOLD, since a model here has
    three classes."""
    random = np.random.default_rng(seed)
    symbols = 5
    count = past.rows // symbols
    rows = np.cumsum(random.standard_normal((count, symbols, len(SET))), axis=0).reshape(-1, len(SET))
    rows = (100 + rows).astype(np.float32)
    windows = still(np.repeat(rows[:, None, :], STEPS, axis=1), past.exact)
    time = np.repeat(np.arange(count, dtype=np.int64) * HOUR, symbols)
    wins = random.random(len(rows)) < past.wins
    z = np.where(wins, 1.0, -1.0) * random.uniform(0.5, 2.0, len(rows))
    symbol, ahead = np.tile(np.arange(symbols), count), np.zeros((len(time), 2))
    table = Table(CutWindows.separate(windows), time, time + HOUR, z, symbol, ahead)
    return cut(table, SET, past.recipe, HOUR // 100)  # the embargo is in bars of the sequence, which spans no time


def still(windows: Float32s, exact: bool) -> Float32s:
    """Normalise each channel by its mean and deviation over the window (RevIN, Kim et al. 2022), in float32 as in a
    network. A constant channel becomes zero, or a rounding error if not ``exact``."""
    channels = np.ascontiguousarray(windows.transpose(0, 2, 1))
    mean = channels.mean(axis=2, dtype=np.float64 if exact else np.float32).astype(np.float32)[:, :, None]
    if not exact:
        mean = np.nextafter(mean, np.float32(np.inf))  # off by the last bit, as sums in another order are
    deviation = np.sqrt(((channels - mean) ** 2).mean(axis=2)[:, :, None] + np.float32(1e-5))
    return np.ascontiguousarray(((channels - mean) / deviation).transpose(0, 2, 1))
