"""Compute positions, costs and money from recorded events.

    positions   what is held of a symbol: a fold of its orders and fills
    orders      the order that follows from an intent, or why there is none: caps, cool-down, expiry
    venue       where orders are executed; ``costs``: the prices of the paper venue
    account     all holdings of a partition: intents and bars in, events out
    equity      the value of an account at the close of each bar
    comparison  the ensemble's line of equity as recorded, and that of every model alone
    recorded    reads a log, with its archive, into ``comparison``
    figures     return, drawdown, exposure, turnover, Sharpe ratio and others, of a line of equity and its trades

The executor runs an ``Account`` on the intents of the ensemble. ``conclave money``, reports and the demo run the same
on what each model alone would have decided. An amount is in the quote currency of the symbols, which is assumed to be
one currency. All modules are pure except ``recorded``.
"""
