"""Detect a fit that learns nothing, while it runs, from its predictions for the held-out rows after each epoch.

Predictions are compared with the class prior of the training part. Accuracy, F1 and the number of different floats show
nothing: a model that always predicts the prior has the accuracy of the majority class, and float noise makes hundreds
of "different" confidences within a ten-thousandth. None of these measures is part of the loss, so a fit cannot optimise
them.
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
"""A fit without skill and with hardly any spread is ended after this many readings and this share of all steps; the
learning rate has to warm up first."""
FLAT: Final = 5
FLAT_AFTER: Final = 0.3
"""The same for a fit without skill, however much its predictions vary."""
LEAST_SKILL: Final = 0.001
"""The share of the prior's log loss that a fit has to save."""
LEAST_SPREAD: Final = 0.02
"""The least standard deviation of log probabilities over rows."""
BLIND: Final = 1e-6
"""A narrower range of probabilities than this is one prediction for every input."""
DIVERGED: Final = 1.5
"""A loss above this many times that of the prior has diverged."""
MEMORISED: Final = 0.10
"""The least difference between the skill on training rows and on held-out rows that counts as memorising."""


class EpochReading(Struct, frozen=True):
    """Measures of a fit after one epoch; losses and entropies in nats.

    ``skill``: the share of the prior's log loss that is saved on the held-out rows; ``fit_skill``: on the training
    rows. ``spread``: the standard deviation of log probabilities over rows, averaged over classes. ``width``: the
    widest range of one class's probability. ``entropy``: the mean entropy of the predictions. ``distinct``: different
    predictions after rounding to 1e-3. ``top``: the share of the class that is most often the most likely."""

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
    """Why a fit is rejected: ``reason`` by name, and the evidence in words."""

    reason: Rejection
    evidence: str


def read(epoch: Epoch, y: NDArray[np.int64], prior: Probabilities) -> EpochReading:
    """Return the measures of an epoch's predictions for the held-out rows, whose classes are ``y`` [N]."""
    base = float(log_losses(np.tile(np.array(prior), (len(y), 1)), y).mean())
    of_training = -sum(share * math.log(share) for share in prior if share > 0)
    fitted, held = float(epoch.train_loss), float(epoch.held_loss)
    if not np.isfinite(epoch.held).all():
        bad = math.nan
        return EpochReading(epoch.number, epoch.of, fitted, bad, bad, bad, bad, bad, bad, 0, bad)
    p = probabilities(epoch.held, 1.0)
    logs = np.log(np.maximum(p, 1e-300))
    predicted = np.bincount(p.argmax(axis=1), minlength=3) / len(p)
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
        top=float(predicted.max()),
    )


def judge(readings: Sequence[EpochReading], loss_of_prior: float) -> Collapse | None:
    """Return why a fit with these readings has collapsed, or None.

    ``constant``: one prediction for every input, in at least two readings. ``diverged``: a loss of 1.5 times the
    prior's, or not finite. ``no_information``: no skill after three readings and a fifth of all steps, with hardly any
    spread; or no skill after five readings and 30 % of all steps. ``memorising``: skill on the training rows, while the
    held-out rows have none and get worse."""
    last = readings[-1]
    if not math.isfinite(last.held_loss) or last.held_loss > DIVERGED * loss_of_prior:
        return Collapse("diverged", f"log loss {last.held_loss:.4f}, the class prior has {loss_of_prior:.4f}")
    if len(readings) >= EPOCHS - 1 and all(one.width < BLIND for one in readings):
        return Collapse(
            "constant",
            f"one prediction for every input: probabilities differ by {last.width:.2g} at most over the held-out rows, "
            f"{last.top:.0%} one class; its predictions do not depend on its input",
        )
    best = max(one.skill for one in readings)
    falling = len(readings) >= EPOCHS and readings[-3].skill > readings[-2].skill > last.skill
    if best < LEAST_SKILL and falling and last.fit_skill - last.skill > MEMORISED:
        return Collapse(
            "memorising",
            f"training rows {last.fit_skill:+.1%}, held-out rows {last.skill:+.1%} of the prior's log loss, and "
            "falling; they never gained",
        )
    progress = last.number / last.of
    empty = len(readings) >= EPOCHS and progress >= EMPTY_AFTER and last.spread < LEAST_SPREAD
    flat = len(readings) >= FLAT and progress >= FLAT_AFTER
    if best < LEAST_SKILL and (empty or flat):
        return Collapse(
            "no_information",
            f"{len(readings)} epochs, and at best {best:+.2%} of the prior's log loss was gained; {last.distinct} "
            f"distinct predictions to 1e-3, probabilities within {last.width:.2g}, deviation of log probabilities "
            f"{last.spread:.2g}, {last.top:.0%} one class: it is no better than the class prior",
        )
    return None


class Watcher:
    """Measures every epoch, passes the reading to ``report``, and ends the fit once it has collapsed."""

    def __init__(
        self, y: NDArray[np.int64], prior: Probabilities, report: Callable[[EpochReading], None] | None = None
    ) -> None:
        self.readings: list[EpochReading] = []
        self.collapse: Collapse | None = None
        self._y, self._prior, self._report = y, prior, report
        self._base = float(log_losses(np.tile(np.array(prior), (len(y), 1)), y).mean())

    def __call__(self, epoch: Epoch) -> bool:
        """See ``shared.families.Watch``."""
        reading = read(epoch, self._y, self._prior)
        self.readings.append(reading)
        if self._report is not None:
            self._report(reading)
        self.collapse = self.collapse or judge(self.readings, self._base)
        return self.collapse is not None
