"""The feed: brings bars from a file, a folder or the synthetic market into the log.

Reads a source (``shared.bars.Source``), no stream. Writes ``market``: each good bar that comes in its
place, a root event. Writes ``dead``: each row that is no bar, and each bar that came before
(``duplicate``, or ``conflict`` with other content) or is older than the newest of its symbol and
interval (``out_of_order``), with file and line.

Remembers, in the memo that each commit carries: which source it reads, how many of its rows it has
handled, the newest bar of each symbol and interval. So it resumes at the very row behind its last
commit, wherever it was killed: no bar is lost and none comes twice. With several partitions each has
its own memo, written with its own bars.

Refuses a source other than the one it stands in, unless that one was read to its end, or the person
says ``restart``. In a source that is new to it, bars not newer than those the market has are passed
over without a word: so a file that has grown can be read again.

Waits where a reader of its partition falls more than a window of entries behind, a dead one too.
"""
