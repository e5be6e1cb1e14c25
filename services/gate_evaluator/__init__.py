"""The gate-evaluator: judge every artifact in shadow, guard every champion that replaced another, learn weights from
results, and find causes to retrain.

Reads
    ``scores`` and ``features`` of its partition, ``control`` from its beginning.
Writes
    ``gates``: ``VerdictReached`` after every 500 scores of a candidate (``candidates.WRITE_EVERY``), and when a check
    after 250 (``CHECK_EVERY``) finds another verdict than the last one written;
    ``EvidenceRestarted`` when that which the evidence is about has changed; ``GuardTripped``; ``WeightsProposed``;
    ``ContributionsMeasured``; ``InputsDrifted`` when the inputs of an active artifact leave the distribution of its
    training part, or return to it; ``SkillDecayed`` when a voting artifact gains less than half of what it gained at
    first (the last two are causes to retrain); ``ActionDue`` for each command that follows from these.
    ``control``: those commands, written by ``main`` and only where the gate policy allows it. Each has the command id
    ``gate-<event>`` of the event that calls for it, so that a crash in between issues none twice.
    A voting policy in shadow is judged as an artifact of the model ``ENSEMBLE`` is, against the policy in force. One
    that was promoted is watched as a champion is, by the scores of the former one.
Remembers
    As its memo: the running statistics of each candidate, champion and the weights, and the newest versions of the
    configuration that were seen on ``scores`` and on ``features``. Its size does not grow with the number of scores.
Refuses
    To judge by scores of another champion, label, feature set or policy than the newest, or of a run in shadow that has
    ended. To act under a gate policy that it cannot read. With several partitions each evaluator judges the symbols of
    its own (``shared.gates.passing`` asks them all before a promotion), and issues only rollbacks.

Its output is a function of the ``scores`` stream in its order, the ``features`` stream in its order (for events about
inputs), and the configurations that the stamps on them name. It does not depend on when a command was read, on batches
or restarts, or on which of the two streams was read first:

- The newest stamp on ``scores`` is the configuration in force. When it advances, roles are followed version by version
  (``roles``). Evidence about an artifact that lost its role in between is dropped, and ``EvidenceRestarted``
  (``candidate``) is written once the artifact is in shadow again.
- A score under an older stamp counts if its artifact has kept its role from that stamp to the newest one, and if the
  score is about what the evidence is about (candidate, champion, feature set, label, policy).
- The statistics of inputs follow the stamps on ``features`` in the same way. Those stamps never fall.

The statistics are in ``shared.gates``.
"""
