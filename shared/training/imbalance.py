"""What is done about classes of unequal share: nothing by default, since the natural prior is the truth.

``logit_adjustment``: the loss is taken of f + ln(prior), and f + ln(prior) is served, so that f learns what the
prior does not say (Menon et al., ICLR 2021, with tau = 1). ``weights``: training rows weigh 1 / prior of their
class, which teaches the answers of a world with equal classes; ln(prior) is added before anything is judged
or served, so probabilities are those of this world. Both serve the natural prior; neither touches a row
outside the training part, repeats one, or makes one up.

Whatever is done, what can be gained is information, not spread: with 82 % HOLD even the best possible forecaster may
hold HOLD most likely always.
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
    """[N] how much each training row counts; the mean is one."""
    if policy != "weights":
        return np.ones(len(y))
    found = (1.0 / (3 * np.maximum(np.array(prior), LEAST_SHARE)))[y]
    return np.asarray(found / found.mean())


def offset(policy: Imbalance, prior: Probabilities) -> Offset | None:
    """What is added to the logits of every row that is judged or served."""
    return None if policy == "none" else np.log(np.maximum(np.array(prior), LEAST_SHARE))


def fitting_offset(policy: Imbalance, prior: Probabilities) -> Offset | None:
    """What is added to the logits of training rows before their loss is taken."""
    return offset(policy, prior) if policy == "logit_adjustment" else None
