"""The guard: reverts each promotion on probation that was not confirmed in time.

Reads
    ``control`` from its beginning, for the open probations; ``decisions`` of all partitions, starting ten minutes
    before each promotion, for the decisions that counted a ballot of the artifact on probation.
Writes
    ``control``: ``RevertProbation``, with the number of decisions and the id of the last. It is signed if keys are
    trusted. No other stream: its Redis user has no permission to write there.
Remembers
    Nothing. The open probations are read from ``control``, and their decisions are counted again every second.
Refuses
    To revert before the decisions of a probation were made, or twice: the id of the command is derived from the
    probation, so only one of two guards reverts it. A control stream that fails verification: ``ControlError``, as in
    every service. A revert that ``control`` refuses is logged once and retried.

One process serves the whole installation. It owns no consumer group, so a second guard does no harm. If no guard runs,
no probation is reverted, and the watcher raises ``probation-overdue``.
"""
