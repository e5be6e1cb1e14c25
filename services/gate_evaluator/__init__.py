"""The gate-evaluator: verdicts on every artifact in shadow, a guard over every champion that replaced
another, weights by results, and what is a cause to retrain.

Reads
    ``scores`` and ``features`` of its partition, ``control`` from its beginning.
Writes
    ``gates``: ``VerdictReached`` when a verdict changes, and every 500 scores of a candidate;
    ``EvidenceRestarted`` when what the evidence is about has changed; ``GuardTripped``,
    ``WeightsProposed``, ``ContributionsMeasured``; ``InputsDrifted`` when the inputs of an active artifact leave
    those of its training, or return; ``SkillDecayed`` when a voting artifact earns less than half of what it did:
    both are causes to retrain; ``ActionDue`` for each command that follows. ``control``, from its shell and
    only where the gate policy lets it act: those commands, under the name ``gate-<event>`` of what asked for
    them, so that a crash in between issues none twice.
Remembers
    The running statistics of each candidate, champion and the weights: as its memo, bounded for each.
Refuses
    To judge from scores of another champion, label, feature set or policy than the newest. To act under
    a gate policy that it cannot read. Where there are several partitions each evaluator judges the symbols of
    its own (``shared.gates.passing`` asks them all before a promotion), and issues rollbacks alone.

What is judged is said by the scores and by the configuration under which each was made; the shadow's
statistics are ``shared.gates``.
"""
