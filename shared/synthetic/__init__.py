"""A market made up from a seed, with a planted signal of known strength: for demos and for tests.

It is a ``BarSource`` of bars like a file, and every bar says ``origin: synthetic``. Since the law of its
returns is known, so is the best that any model can do on it: ``attainable`` gives the bound,
``posterior`` the very probabilities, ``SyntheticMarket.truth`` the hidden returns they are made of.
It shows that the machinery finds a signal where there is one, and finds none under ``null``; it says
nothing about real markets.
"""

from shared.synthetic.market import SCENARIOS, START_MS, SYMBOLS, SyntheticMarket, Truth
from shared.synthetic.theory import LAGS, Bound, Signal, attainable, labels, posterior, threshold

__all__ = [
    "LAGS",
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
