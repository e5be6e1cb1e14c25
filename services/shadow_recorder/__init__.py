"""The shadow-recorder: what every prediction was worth, and proof that shadows change nothing.

Reads
    ``market``, ``predictions``, ``decisions`` and ``trades`` of its partition, ``control`` from its
    beginning.
Writes
    ``scores``. One ``PredictionScored`` for each prediction, voting or in shadow, once the decision of
    its round and its outcome are known; or one ``PredictionUnscored`` with the reason. ``BallotMissing``
    for each active artifact that a decision had no ballot of. ``InterferenceChecked`` for each decision
    with shadow ballots: the vote taken again without them, N of N equal. ``TradeJoined`` for each
    closed trade. ``alarms``: a vote that is not equal.
Remembers
    Predictions that wait, the decisions of the last 128 bars of each symbol, the bars that may still be
    asked about: all read again after a restart. As its memo: the volatility before the oldest bar, how
    far each artifact's predictions are settled, the counts of N of N.
Refuses
    A label across missing bars. A score without the decision of its round, where models voted. A
    prediction that came more than 128 bars after its round.

A score is a function of the events behind it, never of which stream was read first: it waits until all
of them are there, and what it then says follows from their content alone. Only the order of scores on
the stream may differ. To keep what waits bounded, a stream that has run far ahead of the others is not
read for a while.
"""
