"""The guard: reverts each promotion on probation that nobody confirmed in time.

Reads
    ``control`` from its beginning, for the open probations; ``decisions`` of all partitions, from ten minutes before
    each promotion on, for the decisions that counted a ballot of the artifact on probation.
Writes
    ``control``: ``RevertProbation``, with the number of decisions and the id of the last. Signed, where keys are
    trusted. Nothing to any other stream: its user may not.
Remembers
    Nothing. The open probations are those of ``control``, and their decisions are counted again each second.
Refuses
    To revert before the decisions of a probation have passed, or twice: the command's id is that of the probation, so
    of two guards one reverts it. A control stream that cannot be trusted: ``ControlError``, as every service does.
    A revert that ``control`` refuses is logged once and tried again.

One process for the whole installation. It owns no group, so a second one does no harm. Where none runs, no probation
ends by itself; the watcher raises ``probation-overdue``.
"""
