"""The guard: reverts each promotion on probation that was not confirmed in time, and halts when an account at an
exchange does not hold what follows from the log.

Reads
    ``control`` from its beginning, for the open probations and the venue of orders; ``decisions`` of all partitions,
    starting ten minutes before each promotion, for the decisions that counted a ballot of the artifact on probation,
    or were made by the voting policy on probation;
    ``orders`` of all partitions while the policy names an exchange, for the last comparison of its account.
Writes
    ``control``: ``RevertProbation``, with the number of decisions and the id of the last, and ``Halt``, with the words
    of ``AccountDiffers``. They are signed if keys are trusted. ``decisions``: where a halt closed the fence.
Remembers
    Nothing that it needs. The open probations are read from ``control``, and their decisions are counted again every
    second. Of ``orders`` it reads the newest 10,000 entries after a start, then what is new.
Refuses
    To revert before the decisions of a probation were made, or twice: the id of the command is derived from the
    probation, so only one of two guards reverts it. To halt twice for one difference: the id of the command is derived
    from the event, so a person may resume. A control stream that fails verification: ``ControlError``, as in every
    service. A command that ``control`` refuses is logged once and retried.

One process serves the whole installation. It owns no consumer group, so a second guard does no harm. If no guard runs,
no probation is reverted, and the watcher raises ``probation-overdue``; the executor whose account differs sends no
orders all the same.
"""
