"""Live bars: read the closed bars of exchanges, and write each once.

Reads
    Exchanges, through ccxt: pages of bars by REST, and streams; inputs, where an installed set reads them. No stream of
    the log.
Writes
    ``market``: each closed bar as REST showed it after its close; ``live`` if it is fresh and the clock is known, else
    ``replay``; before it the inputs that were asked for (``inputs``). ``venue``: revisions, holes, interruptions,
    symbols that stopped or resumed, clocks. ``dead``: rows that are no bar.
Remembers
    In the memo of each commit: the last bars of each series. The next one is read from there, wherever it was killed.
Refuses
    To invent: a bar that the exchange does not have is a named hole. An interval that the exchange does not have.
"""
