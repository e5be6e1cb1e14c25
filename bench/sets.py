"""Compare feature sets walk forward on real bars: what each family gains over the prior, with the old and new sets.

    python -m bench sets FOLDER [--quick]          (or the folder in BARS)

FOLDER has files of 1 hour and of 15 minutes of BTC, ETH, LINK and DOT with all columns that the exchange publishes: a
set of order flow has no vector without them, and one of context none without BTC. Six walk-forward folds and seed 1 as
in ``bench.skill``, all symbols together, intervals of a circular block bootstrap. All sets of an interval are compared
on the same rows, so those with the longest lookback decide where they begin. Each new set is compared with the one that
it extends.

Quick: logistic regression, LightGBM and N-HiTS with its default epochs; every sixth training row of an hour and every
twelfth of 15 minutes for trees and linear models, every fourth for N-HiTS. With fewer rows and epochs N-HiTS gains most
with the set that has most features, which more of both turns round.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.harness import Figure
from bench.skill import interval, words
from bench.walk_forward import (
    FAMILIES,
    INTERVALS,
    WHOLE,
    Data,
    Effort,
    Floats,
    Fold,
    folds,
    joined,
    read,
    tables,
)
from shared.artifacts.scoring import log_losses, split_gains
from shared.features import SETS

TREES: Final = {
    "1h": ("core-28", "season-1h-36", "frames-43", "flow-38", "context-38", "context-36"),
    "15m": ("core-28", "season-15m-30", "frames-43", "flow-38", "context-38", "context-36"),
}
NETWORKS: Final = {
    "1h": ("window-7", "core-28", "window-flow-10", "window-1h-10", "window-1h-12"),
    "15m": ("window-7", "core-28", "window-flow-10", "window-15m-11"),
}
FEW: Final = ("logistic", "lightgbm", "nhits")
EVERY: Final = {"1h": 6, "15m": 12}
"""One of so many training rows is used for trees and linear models in a quick run."""


def run(quick: bool, *folders: str) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    folder = folders[0] if folders else os.environ.get("BARS", "")
    if not folder or not Path(folder).is_dir():
        raise SystemExit(
            f"expected a folder of bar files (on the command line or in BARS), got {folder!r}; see the docstring"
        )
    figures: dict[str, Figure] = {}
    for name, interval_ms in INTERVALS.items():
        effort = Effort(EVERY[name], 4, {"nhits": {}}) if quick else WHOLE
        pairs = [(SETS[trees], SETS[NETWORKS[name][0]]) for trees in TREES[name]]
        pairs += [(SETS[TREES[name][0]], SETS[networks]) for networks in NETWORKS[name]]
        every = tables(read(Path(folder), name), interval_ms, pairs)
        old: dict[str, Floats] = {}
        for family, data in _trials(every, len(TREES[name]), FEW if quick else FAMILIES, effort):
            chosen = (data.networks if family in effort.params else data.trees).name
            fold = joined(folds(data, name, effort, (family,), lambda said: print(said, flush=True)))
            base, losses = log_losses(fold.prior, fold.y), log_losses(fold.answers[family].p, fold.y)
            figures[f"{name} {family} {chosen}"] = _skill(fold, family, base - losses)
            if family in old:
                gain = interval(fold, old[family] - losses)
                against = f"{words(gain)}; over {NETWORKS[name][0] if family in effort.params else TREES[name][0]}"
                figures[f"{name} {family} {chosen}, gain"] = Figure(gain.value, "mnat", "", against)
            old.setdefault(family, losses)
    return figures


def _trials(every: list[Data], trees: int, families: tuple[str, ...], effort: Effort) -> Iterator[tuple[str, Data]]:
    """Yield each family with each of the sets of its kind; the first of a kind is what the others are compared with."""
    for family in families:
        for data in every[trees:] if family in effort.params else every[:trees]:
            yield family, data


def _skill(fold: Fold, family: str, gain: Floats) -> Figure:
    skill = interval(fold, gain)
    moves, direction = (1000.0 * float(part.mean()) for part in split_gains(fold.answers[family].p, fold.prior, fold.y))
    about = f"{words(skill)}; moves {moves:+.1f}, direction {direction:+.1f}; {len(fold.y):,} rows"
    return Figure(skill.value, "mnat", "", about)
