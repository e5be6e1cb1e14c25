"""Train forecasters of the ETT series and measure their errors, for ``bench.fidelity`` and ``bench.train_step``.

The series (Zhou et al., "Informer", AAAI 2021; ETDataset, CC BY-ND 4.0) are split and standardised as in both papers:
12 months for training, 4 for validation, 4 for the test; all channels by mean and deviation of the training part.
Errors are over every window of a part: none is dropped to fill a batch.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

MONTH_OF_HOURS = 30 * 24
HORIZON = 96


class Parts(NamedTuple):
    """Windows [N, 7, input + horizon] as views on the standardised series, 7 its channels."""

    train: Tensor
    validation: Tensor
    test: Tensor


class Errors(NamedTuple):
    """Mean squared and mean absolute error, of standardised values."""

    mse: float
    mae: float


class Settings(NamedTuple):
    """How a forecaster is trained: ``rate`` gives the learning rate of an epoch (from 0)."""

    epochs: int
    batch: int
    loss: Callable[[Tensor, Tensor], Tensor]
    rate: Callable[[int], float]


def read(path: Path, window: int) -> Parts:
    """Return the parts of an ETT file, ``.csv`` or ``.csv.gz``. Its name determines whether it is hourly or
    quarter-hourly."""
    values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(1, 8))
    month = MONTH_OF_HOURS * (4 if "ETTm" in path.name else 1)
    first, second, third = 12 * month, 16 * month, 20 * month
    if len(values) < third:
        raise ValueError(f"{path}: {len(values)} rows, an ETT file of this interval has at least {third}")
    standard = (values - values[:first].mean(axis=0)) / values[:first].std(axis=0)
    series = torch.from_numpy(standard.astype(np.float32)).T

    def windows(begin: int, end: int) -> Tensor:
        return series[:, begin:end].unfold(1, window + HORIZON, 1).transpose(0, 1)

    return Parts(windows(0, first), windows(first - window, second), windows(second - window, third))


def single(windows: Tensor, rows: Tensor) -> Tensor:
    """Return windows chosen by ``rows`` from those of all channels, each channel as a series: [B, length]."""
    channels = windows.shape[1]
    return windows[rows // channels, rows % channels]


def errors(model: nn.Module, windows: Tensor, window: int) -> Errors:
    """Return the errors of a model over all windows and channels."""
    model.eval()
    squared = absolute = 0.0
    with torch.inference_mode():
        for part in windows.split(64):
            off = (answer(model, part[..., :window]) - part[..., window:]).double()
            squared += float(off.square().sum())
            absolute += float(off.abs().sum())
    count = windows.shape[0] * windows.shape[1] * HORIZON
    return Errors(squared / count, absolute / count)


def answer(model: nn.Module, x: Tensor) -> Tensor:
    """Return the forecast [B, C, H] of ``x`` [B, C, L], also for a model of single series."""
    if getattr(model, "single", False):
        return model(x.reshape(-1, x.shape[-1])).view(*x.shape[:2], -1)
    return model(x)


class Epoch(NamedTuple):
    """The errors after an epoch."""

    number: int
    seconds: float
    validation: Errors
    test: Errors


def train(
    model: nn.Module, parts: Parts, window: int, settings: Settings, rows_an_epoch: int | None = None, seed: int = 0
) -> Iterator[Epoch]:
    """Train with Adam, and yield the errors after each epoch. The test errors have no influence on the training.

    A model of single series draws from the windows of all channels; ``rows_an_epoch`` limits an epoch."""
    alone = bool(getattr(model, "single", False))
    count = len(parts.train) * (parts.train.shape[1] if alone else 1)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.rate(0))
    for epoch in range(settings.epochs):
        begun = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(epoch)
        model.train()
        order = torch.randperm(count, generator=generator)[: rows_an_epoch or count]
        for rows in order.split(settings.batch):
            step(model, optimiser, single(parts.train, rows) if alone else parts.train[rows], window, settings.loss)
        seconds = time.perf_counter() - begun
        yield Epoch(epoch + 1, seconds, errors(model, parts.validation, window), errors(model, parts.test, window))


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    window: int,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Do one training step on windows and the values that follow them."""
    optimiser.zero_grad(set_to_none=True)
    loss(model(batch[..., :window]), batch[..., window:]).backward()
    optimiser.step()
