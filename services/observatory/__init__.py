"""The observatory: pages and an API that show what the installation does, in a browser.

Reads
    ``control`` and ``training``; ``market``, ``decisions``, ``orders``, ``scores``, ``gates``, ``readiness``, ``dead``,
    ``alarms`` and ``venue`` of all partitions; the position, lag and lease of every consumer group. For one decision
    that a person asks for also entries of ``features``, ``predictions`` and ``intents`` around it, at known places.
    No request reads a stream from its beginning, but for a what-if, which a child process computes. For the doctor
    the server, the disk of the state folder and the archive are asked.
Writes
    Nothing to the log; its Redis user may not.
Remembers
    ``observatory.bin`` in the state folder: how far each stream was read, and the projections up to there, in one file.
    After a crash it reads on from the last file, and shows the same. Without the file it reads the orders, verdicts and
    readiness from their beginning, and the last days (``[observatory] days``) of the other streams.
Refuses
    A control stream with a broken chain: ``ControlError``, as every service does. A request for a host that is not its
    own, and every method other than GET and HEAD.

Each screen is a pure function of the projections (``screens``). ``web`` serves it as a page and as JSON. Memory is
bounded: the last 300 bars and decisions of a series and at most 256 KiB of each.
"""
