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
    The running statistics of each candidate, champion and the weights, and the newest versions of the configuration
    that were seen on ``scores`` and on ``features``: as its memo, bounded for each.
Refuses
    To judge from scores of another champion, label, feature set or policy than the newest, or of a run in shadow
    that has ended. To act under a gate policy that it cannot read. Where there are several partitions each
    evaluator judges the symbols of its own (``shared.gates.passing`` asks them all before a promotion), and issues
    rollbacks alone.

What it writes is a function of the ``scores`` stream in its order, of the ``features`` stream in its order (what
is written of inputs), and of the configurations at the stamps in them. It does not depend on when a command was
read, on batches or restarts, or on which of the two streams was read first:

- The newest stamp on ``scores`` is the configuration in force. Where it moves on, roles are followed version by
  version (``roles``); evidence about a role that was lost in between is let go, and ``EvidenceRestarted``
  (``candidate``) is written once the artifact is in shadow again.
- A score under an older stamp counts where its artifact has kept its role from that stamp to the newest one, and
  where it is about what its evidence is about (candidate, champion, feature set, label, policy).
- What was learned of inputs follows the stamps on ``features`` in the same way; they never fall.

The statistics are ``shared.gates``.
"""
