"""Whether a fit learns anything, seen while it runs: what it answers on the held-out rows, epoch by epoch.

All is held against the class prior of the training part. Accuracy, F1 and the number of different floats say
nothing here: a model that always answers with the prior has the majority's accuracy, and float noise makes hundreds of
"different" confidences within a ten-thousandth. Nothing here is part of the loss, so nothing can be gamed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.common import Probabilities
from schemas.training import Rejection
from shared.artifacts.calibration import probabilities
from shared.artifacts.scoring import distinct, log_losses
from shared.families import Epoch

EPOCHS: Final = 3
EMPTY_AFTER: Final = 0.2
"""Readings, and the part of all steps, before a fit may be called empty: a learning rate warms up first."""
FLAT: Final = 5
FLAT_AFTER: Final = 0.3
"""The same before it may be called flat, however much its answers vary."""
LEAST_SKILL: Final = 0.001
LEAST_SPREAD: Final = 0.02
BLIND: Final = 1e-6
DIVERGED: Final = 1.5
MEMORISED: Final = 0.10


class EpochReading(Struct, frozen=True):
    """A fit after one epoch. Losses in nats. ``skill``: the share of the prior's loss that is gone, of the held-out
    rows; ``fit_skill`` of the training part. ``spread``: the mean deviation of the log probabilities over rows;
    ``width`` the widest range of one probability; ``entropy`` the mean of the answers' (nats); ``distinct``: different
    answers to 1e-3; ``top``: the share of the class most often held most likely."""

    number: int
    of: int
    train_loss: float
    held_loss: float
    skill: float
    fit_skill: float
    spread: float
    width: float
    entropy: float
    distinct: int
    top: float


class Collapse(NamedTuple):
    """Why a fit is worth nothing: ``reason`` by name, and the evidence in words."""

    reason: Rejection
    evidence: str


def read(epoch: Epoch, y: NDArray[np.int64], prior: Probabilities) -> EpochReading:
    """An epoch's answers to the held-out rows with classes ``y`` [N]."""
    base = float(log_losses(np.tile(np.array(prior), (len(y), 1)), y).mean())
    of_training = -sum(share * math.log(share) for share in prior if share > 0)
    fitted, held = float(epoch.train_loss), float(epoch.held_loss)
    if not np.isfinite(epoch.held).all():
        bad = math.nan
        return EpochReading(epoch.number, epoch.of, fitted, bad, bad, bad, bad, bad, bad, 0, bad)
    p = probabilities(epoch.held, 1.0)
    logs = np.log(np.maximum(p, 1e-300))
    chosen = np.bincount(p.argmax(axis=1), minlength=3) / len(p)
    return EpochReading(
        number=epoch.number,
        of=epoch.of,
        train_loss=fitted,
        held_loss=held,
        skill=1 - held / base,
        fit_skill=1 - fitted / of_training,
        spread=float(logs.std(axis=0).mean()),
        width=float(np.ptp(p, axis=0).max()),
        entropy=float(-(p * logs).sum(axis=1).mean()),
        distinct=distinct(p),
        top=float(chosen.max()),
    )


def judge(readings: Sequence[EpochReading], loss_of_prior: float) -> Collapse | None:
    """Whether what was read until now is a collapse. ``constant``: one answer for every input, after a second
    look. ``diverged``: half as bad again as knowing nothing, or not a number. ``no_information``: nothing gained
    in three epochs and a fifth of all, and hardly any spread; or nothing in five and a third of all.
    ``memorising``: the training part is learned by heart, while the held-out rows never gained and get worse."""
    last = readings[-1]
    if not math.isfinite(last.held_loss) or last.held_loss > DIVERGED * loss_of_prior:
        return Collapse("diverged", f"log loss {last.held_loss:.4f}, the class prior has {loss_of_prior:.4f}")
    if len(readings) >= EPOCHS - 1 and all(one.width < BLIND for one in readings):
        return Collapse(
            "constant",
            f"one answer for every input: probabilities differ by {last.width:.2g} at most over the held-out rows, "
            f"{last.top:.0%} one class; it does not see its input",
        )
    best = max(one.skill for one in readings)
    falling = len(readings) >= EPOCHS and readings[-3].skill > readings[-2].skill > last.skill
    if best < LEAST_SKILL and falling and last.fit_skill - last.skill > MEMORISED:
        return Collapse(
            "memorising",
            f"training rows {last.fit_skill:+.1%}, held-out rows {last.skill:+.1%} of the prior's log loss, and "
            "falling; they never gained",
        )
    gone = last.number / last.of
    empty = len(readings) >= EPOCHS and gone >= EMPTY_AFTER and last.spread < LEAST_SPREAD
    flat = len(readings) >= FLAT and gone >= FLAT_AFTER
    if best < LEAST_SKILL and (empty or flat):
        return Collapse(
            "no_information",
            f"{len(readings)} epochs, and at best {best:+.2%} of the prior's log loss was gained; {last.distinct} "
            f"distinct answers to 1e-3, probabilities within {last.width:.2g}, deviation of log probabilities "
            f"{last.spread:.2g}, {last.top:.0%} one class: it knows no more than the class prior",
        )
    return None


class Watcher:
    """Reads every epoch, tells who wants to know, and ends the fit once it has collapsed."""

    def __init__(
        self, y: NDArray[np.int64], prior: Probabilities, tell: Callable[[EpochReading], None] | None = None
    ) -> None:
        self.readings: list[EpochReading] = []
        self.collapse: Collapse | None = None
        self._y, self._prior, self._tell = y, prior, tell
        self._base = float(log_losses(np.tile(np.array(prior), (len(y), 1)), y).mean())

    def __call__(self, epoch: Epoch) -> bool:
        """See ``shared.families.Watch``."""
        reading = read(epoch, self._y, self._prior)
        self.readings.append(reading)
        if self._tell is not None:
            self._tell(reading)
        self.collapse = self.collapse or judge(self.readings, self._base)
        return self.collapse is not None
