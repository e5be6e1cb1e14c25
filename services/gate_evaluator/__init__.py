"""The gate-evaluator: verdicts on every artifact in shadow, a guard over every champion that replaced
another, and weights by results.

Reads
    ``scores`` and ``features`` of its partition, ``control`` from its beginning.
Writes
    ``gates``: ``VerdictReached`` when a verdict changes, and every 500 scores of a candidate;
    ``EvidenceRestarted`` when what the evidence is about has changed; ``GuardTripped``,
    ``WeightsProposed``, ``ContributionsMeasured``; ``InputsDrifted`` when the inputs of an active artifact leave
    those of its training, or return; ``ActionDue`` for each command that follows. ``control``, from its shell and only
    where the gate policy lets it act: those commands, under the name ``gate-<event>`` of what asked for
    them, so that a crash in between issues none twice.
Remembers
    The running statistics of each candidate, champion and the weights: as its memo, bounded for each.
Refuses
    To judge from scores of another champion, label, feature set or policy than the newest. To act under
    a gate policy that it cannot read. An installation of several partitions: gates weigh all symbols
    together, and a service sees the scores of one partition.

What is judged is said by the scores and by the configuration under which each was made; the shadow's
statistics are ``shared.gates``.
"""
