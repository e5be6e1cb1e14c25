"""Share one error budget among many candidates.

e-BH (Wang and Ramdas 2022): of K e-values, let k be the largest number such that the k-th largest is at least K /
(alpha k); those k are discoveries. The expected share of false discoveries is at most alpha, whatever the dependence
between candidates.
"""

import math
from collections.abc import Mapping


def e_bh(log_e: Mapping[str, float], alpha: float) -> frozenset[str]:
    """Return the candidates (by name, with ln e) that e-BH declares better. Ties are broken by name."""
    ranked = sorted(log_e, key=lambda name: (-log_e[name], name))
    count = len(ranked)
    best = 0
    for k, name in enumerate(ranked, start=1):
        if log_e[name] >= math.log(count / (alpha * k)):
            best = k
    return frozenset(ranked[:best])


def needed(log_e: Mapping[str, float], name: str, alpha: float) -> float:
    """Return ln of the e-value at which ``name`` would be declared better, the others unchanged."""
    count = len(log_e)
    others = sorted((value for other, value in log_e.items() if other != name), reverse=True)
    for k in range(count, 0, -1):
        bound = math.log(count / (alpha * k))
        if k == 1 or others[k - 2] >= bound:
            return bound
    return math.log(1 / alpha)
