"""The shadow-recorder: join every prediction with its decision and its outcome, and check that shadows change no vote.

Reads
    ``market``, ``features`` (for the stamps of bars), ``predictions``, ``decisions`` and ``trades`` of its partition,
    ``control`` from its beginning.
Writes
    ``scores``. One ``PredictionScored`` for each prediction, voting or in shadow, once the decision of its round and
    its outcome are known; or one ``PredictionUnscored`` with the reason. The same for each decision by a voting policy
    in shadow (``policies``). ``BallotMissing`` for each active artifact without a ballot in a decision.
    ``InterferenceChecked`` for each decision with shadow ballots: the vote computed again without them, and how many of
    all such votes were equal so far. ``TradeJoined`` for each closed trade.
    ``alarms``: ``InterferenceFound`` for a vote that is not equal.
Remembers
    Predictions without a score yet; the bars, stamps and decisions that a prediction may still be joined with; the last
    8,192 decisions with an intent. All of these are read again after a restart. The memo has what cannot be read again:
    the volatility before the oldest bar, how far each series is complete, which artifacts answered bars after that, and
    the counts of checked and of equal votes.
Refuses
    A label across missing bars. A score without the decision of its round, if any model voted. A prediction that was
    not due at its bar, or was too late (``retention`` has the rule): it is unscored with the reason ``unheard``.

Each event on ``scores`` is a function of the content of the streams, each in its own order. It does not depend on how
fast they were read, in which interleaving, in which batches or with which restarts. The scores about one symbol whose
ballots are listed by decisions are in one order, too (``ordering``); where other events stand between them depends on
how the streams were read.

The answer of an artifact to a bar is its prediction, or the failure of it. A bar is kept until every artifact that was
active under its stamp has answered it. An artifact that does not answer while others do costs at most ``LATE`` (2,048)
bars for each symbol, about a kilobyte a bar. A prediction that is later than that counts only if the decision of its
bar lists it. A stream that is ahead of the others is paused for a while (``backpressure``).

A symbol without a bar for 2**18 bars of its partition has ended. Predictions that lack further bars are then unscored
with the reason ``gap``. Those that lack a decision or an answer are given up once all streams were read a minute past
the time at which the symbol was found to have ended; this alone depends on how far the streams had been read.
"""
