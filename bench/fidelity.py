"""Compare the errors of PatchTST and N-HiTS as forecasters on ETTh1 and ETTm2 with those in their papers.

    python -m bench fidelity ETTh1.csv.gz ETTm2.csv.gz [--quick]

The body of each classifier gets its paper's forecasting head and is trained as in the paper, on one thread, with
horizon 96. The epoch is chosen by the validation error, as in the papers. The test error of each epoch is printed. The
files are those of github.com/zhouhaoyi/ETDataset (CC BY-ND 4.0).

Sources of the papers' errors: PatchTST/42, Nie et al. 2023, table 3; N-HiTS on ETTm2, Challu et al. 2023, table 1;
N-HiTS on ETTh1, which is not in its paper, Nixtla's neuralforecast. There each error of N-HiTS is the best of 20
settings; here each file has one setting. ``--quick`` trains one short epoch and uses every 32nd window: it shows that
the benchmark runs, and its errors mean nothing.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from bench.forecasting import HORIZON, Epoch, Errors, Parts, Settings, read, train
from bench.harness import Figure
from shared.families.nhits.body import NHitsBody as NHiTSBody
from shared.families.nhits.body import Stack
from shared.families.nhits.net import Forecaster as NHiTS
from shared.families.patchtst.body import PatchTSTBody
from shared.families.patchtst.net import Forecaster as PatchTST


class Trial(NamedTuple):
    """One model on one series."""

    window: int
    build: Callable[[], nn.Module]
    settings: Settings
    paper: Errors
    rows_an_epoch: int | None = None


def patchtst_of(width: int, heads: int, feedforward: int, dropout: float) -> Callable[[], nn.Module]:
    """PatchTST/42: 336 steps, patches of 16 every 8, three layers."""
    body = PatchTSTBody(
        channels=7,
        window=336,
        patch=16,
        stride=8,
        width=width,
        heads=heads,
        layers=3,
        feedforward=feedforward,
        dropout=dropout,
        pad=True,
        classic=True,
        mixed=False,
    )
    return lambda: PatchTST(body, HORIZON)


def nhits_of(window: int, stacks: tuple[tuple[int, int], ...], dropout: float) -> Callable[[], nn.Module]:
    """N-HiTS: three stacks, three layers of 512."""
    body = NHiTSBody(1, 1, window, HORIZON, 512, 3, dropout, tuple(Stack(*stack) for stack in stacks))
    return lambda: NHiTS(body)


def falling(rate: float) -> Callable[[int], float]:
    """Return the learning rate schedule of PatchTST's authors: from the fourth epoch on, 10 % lower each epoch."""
    return lambda epoch: rate * 0.9 ** max(epoch - 2, 0)


def halving(rate: float, epochs: int) -> Callable[[int], float]:
    """Return the learning rate schedule of N-HiTS, which is halved three times."""
    return lambda epoch: rate * 0.5 ** (3 * epoch // epochs)


def huber(said: torch.Tensor, came: torch.Tensor) -> torch.Tensor:
    """Return the Huber loss with its threshold at half a standard deviation."""
    return functional.huber_loss(said, came, delta=0.5)


TRIALS: dict[tuple[str, str], Trial] = {
    ("patchtst", "ETTh1"): Trial(
        336,
        patchtst_of(16, 4, 128, 0.3),
        Settings(25, 128, functional.mse_loss, falling(1e-4)),
        Errors(0.375, 0.399),
    ),
    ("nhits", "ETTh1"): Trial(
        672,
        nhits_of(672, ((2, 48), (2, 12), (2, 1)), 0.5),
        Settings(10, 256, huber, halving(5e-4, 10)),
        Errors(0.378, 0.393),
        25_600,
    ),
    ("nhits", "ETTm2"): Trial(
        480,
        nhits_of(480, ((8, 24), (4, 12), (1, 1)), 0.0),
        Settings(10, 256, functional.l1_loss, halving(5e-4, 10)),
        Errors(0.176, 0.255),
        25_600,
    ),
    ("patchtst", "ETTm2"): Trial(
        336,
        patchtst_of(128, 16, 256, 0.2),
        Settings(3, 128, functional.mse_loss, falling(1e-4)),
        Errors(0.165, 0.255),
    ),
}


def run(quick: bool, *files: str, only: str = "") -> dict[str, Figure]:
    """Return the test errors of each model on each file, against those of the papers."""
    if not files:
        raise SystemExit("usage: python -m bench fidelity <ETTh1.csv[.gz]> <ETTm2.csv[.gz]>; see bench/fidelity.py")
    torch.set_num_threads(1)
    paths = {path.name.partition(".")[0]: path for path in map(Path, files)}
    figures: dict[str, Figure] = {}
    for (model, series), trial in TRIALS.items():
        if series in paths and only in {"", model}:
            figures |= _figures(model, series, trial, _best(f"{model} {series}", trial, paths[series], quick))
    return figures


def _best(name: str, trial: Trial, path: Path, quick: bool) -> Epoch:
    """Return the epoch with the lowest validation error."""
    torch.manual_seed(2021)
    settings = trial.settings._replace(epochs=1) if quick else trial.settings
    rows = 1_280 if quick else trial.rows_an_epoch
    parts = read(path, trial.window)
    if quick:
        parts = Parts(parts.train, parts.validation[::32], parts.test[::32])
    done: list[Epoch] = []
    for epoch in train(trial.build(), parts, trial.window, settings, rows):
        done.append(epoch)
        print(
            f"{time.strftime('%H:%M:%S')} {name} epoch {epoch.number} of {settings.epochs}, {epoch.seconds:.0f} s: "
            f"validation {epoch.validation.mse:.4f} / {epoch.validation.mae:.4f}, "
            f"test {epoch.test.mse:.4f} / {epoch.test.mae:.4f}",
            file=sys.stderr,
            flush=True,
        )
    return min(done, key=lambda epoch: epoch.validation.mse)


def _figures(model: str, series: str, trial: Trial, best: Epoch) -> dict[str, Figure]:
    ratio = best.test.mse / trial.paper.mse
    about = f"epoch {best.number} of {trial.settings.epochs}, {best.seconds:.0f} s each"
    return {
        f"{model}_{series}_mse": Figure(best.test.mse, "", "", f"{trial.paper.mse} in the paper; {about}"),
        f"{model}_{series}_mae": Figure(best.test.mae, "", "", f"{trial.paper.mae} in the paper"),
        f"{model}_{series}_over_paper": Figure(ratio, "times", "<= 1.05", "MSE over the paper's"),
    }
