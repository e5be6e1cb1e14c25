"""Policies for classes of unequal frequency. The default is ``none``, since the natural prior is the truth.

``logit_adjustment``: the loss is that of f + ln(prior), and f + ln(prior) is served, so that f learns what the prior
does not contain (Menon et al., ICLR 2021, with tau = 1). ``weights``: each training row is weighted by 1 / prior of its
class, so that f learns probabilities for classes of equal frequency; ln(prior) is added before scoring and serving,
which restores the natural frequencies. Neither policy changes rows outside the training part, and neither repeats or
invents rows.

Neither makes predictions more diverse: with 82 % HOLD, HOLD may be the most likely class in every row even for the best
possible forecaster.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.common import Probabilities
from schemas.training import Imbalance
from shared.families.base import Offset

Weights = NDArray[np.float64]
LEAST_SHARE: Final = 1e-6


def weights(policy: Imbalance, y: NDArray[np.int64], prior: Probabilities) -> Weights:
    """Return the weights [N] of the training rows, with mean one."""
    if policy != "weights":
        return np.ones(len(y))
    inverse = (1.0 / (3 * np.maximum(np.array(prior), LEAST_SHARE)))[y]
    return np.asarray(inverse / inverse.mean())


def offset(policy: Imbalance, prior: Probabilities) -> Offset | None:
    """Return the offset that is added to all logits before scoring and serving, or None."""
    return None if policy == "none" else np.log(np.maximum(np.array(prior), LEAST_SHARE))


def fitting_offset(policy: Imbalance, prior: Probabilities) -> Offset | None:
    """Return the offset that is added to the logits of training rows before the loss, or None."""
    return offset(policy, prior) if policy == "logit_adjustment" else None
