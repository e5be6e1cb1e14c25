"""The shadow-recorder: join every prediction with its decision and its outcome, and prove that shadows change nothing.

Reads
    ``market``, ``features`` (for the stamps of bars), ``predictions``, ``decisions`` and ``trades`` of its partition,
    ``control`` from its beginning.
Writes
    ``scores``. One ``PredictionScored`` for each prediction, voting or in shadow, once the decision of its round and
    its outcome are known; or one ``PredictionUnscored`` with the reason. ``BallotMissing`` for each active artifact
    that a decision has no ballot of. ``InterferenceChecked`` for each decision with shadow ballots: the vote taken
    again without them, N of N equal. ``TradeJoined`` for each closed trade. ``alarms``: a vote that is not equal.
Remembers
    Predictions that wait; the bars, stamps and decisions that a prediction may still be joined with; the last 8,192
    decisions with an intent. All of these are read again after a restart. Its memo has what cannot be: the volatility
    before the oldest bar, how far each series is complete, who answered bars after that, the counts of N of N.
Refuses
    A label across missing bars. A score without the decision of its round, where models voted. A prediction that was
    not due at its bar, or came too late (``retention`` has the rule): it is unscored, ``unheard``.

Each event on ``scores`` is a function of the content of the streams, each in its own order. It does not depend on how
fast they were read, in which interleaving, in which batches or with which restarts; only the order of scores on the
stream does, and those of one artifact about one symbol come in the order of bars. A bar is kept until every artifact
that was active under its stamp has answered it. An artifact that is silent while others go on costs at most the bars of
``LATE`` (2,048) for each symbol, about a kilobyte a bar; a prediction that comes later than that counts only if the
decision of its bar lists it. A stream that is ahead of the others is not read for a while (``backpressure``).

A symbol without a bar for 2**18 bars of its partition has ended. What waits for further bars is unscored, ``gap``; what
waits for a decision or an answer is given up once all streams were read a minute past that bar, and this alone depends
on how far the streams had been read.
"""
