"""Trains torch networks that map windows [B, T, F] to logits [B, 3], on one thread.

The optimiser is Adam with decoupled weight decay (Loshchilov and Hutter 2019), with one cycle of the learning rate
(Smith and Topin 2018) and clipped gradients. The epoch with the least held-out log loss is kept. The loss is the plain
log loss on the natural prior. No term rewards spread: it would only teach a network to be confidently wrong.
"""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from shared.families.base import Epoch, Logits, Params, Sample, Watch, Windows, class_shares, shifted
from shared.families.losses import mean_log_loss
from shared.families.windows import CutWindows

torch.set_num_threads(1)

ROWS: Final = 256
"""Windows that are evaluated in one call."""
LEAST_DEVIATION: Final = 1e-6
"""That of a volatility ahead which is the same in all rows."""

Floats = NDArray[np.float32]


class Net(Protocol):
    """A classifier whose forward pass returns logits [B, 3]."""

    def begin(self, log_prior: Tensor) -> None:
        """Initialise the network so that it predicts ``log_prior`` before its first step."""

    def outputs(self, x: Tensor) -> Tensor:
        """Return [B, 3 + K]: the logits, and K outputs that are learned with them."""

    def served(self) -> dict[str, Tensor]:
        """Return the weights that the logits depend on, by name."""


class Best(NamedTuple):
    """The epoch with the least held-out loss so far."""

    number: int
    loss: float
    state: dict[str, Tensor]


def predict(net: nn.Module, windows: Windows | CutWindows) -> Logits:
    """Return the logits [N, 3] of windows [N, T, F] in float64, computed by torch. Workers use the family's NumPy
    form."""
    with torch.inference_mode():
        logits = [
            net(torch.from_numpy(windows[at : at + ROWS].astype(np.float32))).numpy()
            for at in range(0, len(windows), ROWS)
        ]
    return np.concatenate(logits).astype(np.float64)


def learn(
    build: Callable[[], Any], train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None
) -> tuple[nn.Module, int]:
    """Fit a network on ``train``; return it and the number of the epoch that was kept.

    ``params``: see ``TRAINING`` of ``shared.families.sequence``. Torch's default random generator is left unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build()
        net.begin(torch.from_numpy(_log_prior(train)))
        train = train._replace(ahead=_standardised(train))
        best = _epochs(net, train, held, np.random.default_rng(seed), params, watch)
    net.load_state_dict(best.state)
    return net.eval(), best.number


def _log_prior(train: Sample) -> Floats:
    return shifted(np.log(class_shares(train)), train.offset, -1).astype(np.float32)


def _standardised(train: Sample) -> Floats | None:
    """Return the volatility ahead in units of its deviation."""
    if train.ahead is None:
        return None
    centred = train.ahead - np.average(train.ahead, axis=0, weights=train.weight)
    deviation = np.sqrt(np.average(np.square(centred), axis=0, weights=train.weight))
    return np.asarray(centred / np.maximum(deviation, LEAST_DEVIATION), dtype=np.float32)


def _epochs(
    net: nn.Module, train: Sample, held: Sample, random: np.random.Generator, params: Params, watch: Watch | None
) -> Best:
    epochs, batch = int(params["epochs"]), int(params["batch"])
    steps = epochs * -(-len(train.y) // batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=params["rate"], weight_decay=params["decay"])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=params["rate"], total_steps=steps + 1)
    best = Best(0, math.inf, {})
    for number in range(1, epochs + 1):
        net.train()
        total = 0.0
        for rows in np.array_split(random.permutation(len(train.y)), steps // epochs):
            ahead = None if train.ahead is None else train.ahead[rows]
            part = Sample(train.x[rows], train.y[rows], train.weight[rows], train.offset, ahead)
            total += _step(net, optimiser, part, params) * len(rows)
            cycle.step()
        net.eval()
        logits = shifted(predict(net, held.x), held.offset)
        loss = mean_log_loss(logits, held.y, held.weight)
        if loss < best.loss or not best.state:
            best = Best(number, loss, {name: value.clone() for name, value in net.state_dict().items()})
        ended = watch is not None and watch(Epoch(number, epochs, total / len(train.y), loss, logits))
        if ended or not math.isfinite(loss) or number - best.number >= params["patience"]:
            break
    return best


def _step(net: nn.Module, optimiser: torch.optim.Optimizer, rows: Sample, params: Params) -> float:
    """Take one optimiser step and return the weighted mean log loss of the classes before it."""
    x = torch.from_numpy(np.asarray(rows.x, dtype=np.float32))
    y, weight = torch.from_numpy(rows.y), torch.from_numpy(rows.weight)
    optimiser.zero_grad(set_to_none=True)
    outputs = net.outputs(x)
    logits, further = outputs[:, :3], outputs[:, 3:]
    if rows.offset is not None:
        logits = logits + torch.from_numpy(rows.offset.astype(np.float32))
    losses = functional.cross_entropy(logits, y, reduction="none", label_smoothing=params["smoothing"])
    log_loss = loss = (losses * weight).sum() / weight.sum()
    if rows.ahead is not None and further.shape[1]:
        missed = functional.smooth_l1_loss(further, torch.from_numpy(rows.ahead), reduction="none").mean(dim=1)
        loss = loss + params["auxiliary"] * (missed * weight).sum() / weight.sum()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), params["clip"])
    optimiser.step()
    return float(log_loss.detach())


def arrays_of(net: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the served weights by name, without the batch counts of normalisations, which are not used to predict."""
    return {name: value.detach().numpy() for name, value in net.served().items() if value.is_floating_point()}
