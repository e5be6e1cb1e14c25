"""A synthetic market, generated from a seed, with a planted signal of known strength, for demos and tests.

It is a ``BarSource`` like a file; every bar has ``origin: synthetic``. The distribution of its returns is known, and
thus the best possible forecast. ``attainable`` returns the bound on skill, ``posterior`` the exact probabilities,
and ``SyntheticMarket.truth`` the hidden returns. The market serves to show that Conclave finds a signal that exists,
and finds none in the scenarios ``null``, ``flow-null`` and ``lead-null``. It shows nothing about real markets.
"""

from shared.synthetic.market import LEADER, SCENARIOS, START_MS, SYMBOLS, SyntheticMarket, Truth
from shared.synthetic.theory import LAGS, Bound, Signal, attainable, labels, posterior, threshold

__all__ = [
    "LAGS",
    "LEADER",
    "SCENARIOS",
    "START_MS",
    "SYMBOLS",
    "Bound",
    "Signal",
    "SyntheticMarket",
    "Truth",
    "attainable",
    "labels",
    "posterior",
    "threshold",
]
