"""The feed: write the bars of a file, a folder or the synthetic market to the log, and inputs.

Reads
    A source of bars (``shared.bars.BarSource``), which may have inputs (``shared.bars.input_source``). No stream.
Writes
    ``market``: each good bar that continues its series, as a root event. The bars of references, which the vectors of
    all symbols read, come first among those of one close, and are copied into all partitions but their own. Inputs come
    before the bars that close at or after their time.
    ``dead``: each row that is not a bar, and each bar that was already written (``duplicate``, or ``conflict`` if its
    content differs) or is older than the newest of its symbol and interval (``out_of_order``); each with file and line.
Remembers
    In the memo of each commit: which source it reads, how many of its rows are handled, and the newest bar of each
    symbol and interval. So it resumes at the first row that its last commit did not cover, wherever it was killed: no
    bar is lost and none is written twice. Each partition has a memo of its own, committed with its own bars.
Refuses
    Another source while the current one has not been read to its end, unless ``restart`` is set. In a new source, bars
    that are not newer than those on ``market`` are skipped without a dead letter, so that a file that has grown can be
    read again.

The feed waits while any consumer group of a partition lags by more than a window of entries, whether that group runs or
not.
"""
