"""The log loss of logits, by SciPy. Apart from ``base``, which pure cores import."""

import numpy as np

from shared.families.base import Classes, Logits, Weights
from shared.families.libraries import library


def mean_log_loss(logits: Logits, y: Classes, weight: Weights | None = None) -> float:
    """Return the mean log loss in nats of ``logits`` [N, 3] for classes ``y`` [N], weighted by ``weight`` [N]."""
    losses = -library("scipy.special").log_softmax(logits, axis=1)[np.arange(len(y)), y]
    return float(np.average(losses, weights=weight))
