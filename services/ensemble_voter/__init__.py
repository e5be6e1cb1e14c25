"""The ensemble-voter: make one decision for every symbol and bar.

Reads
    ``predictions`` of its partition, ``control`` from its beginning.
Writes
    ``decisions``: one decision for each round, and late ballots. ``intents``: decisions that may be acted on.
    ``dead``: a second, different prediction of one artifact for one bar.
Remembers
    Open rounds, whose predictions are read again after a restart. Its snapshot: the last bar decided of each symbol.
Refuses
    To count the vote of an artifact that is not a model's champion; to decide a bar twice; to write an intent while the
    fence of the partition is closed or the configuration is halted, without quorum, or for a live bar whose time has
    passed.

A round opens with the first prediction for a bar, under the stamp of that prediction: the version of the configuration
in force when the bar came. Commands since then do not change the round. It closes when one of these holds:

- Every voting model has a prediction (a failure counts as one) for the bar: ``complete``.
- Every voting model has a prediction for the bar or a later one, or a later round in which the missing model has no
  vote has closed: ``superseded``.
- The deadline of this round or of a later one has passed, for live bars only: ``deadline``.

Bars from files have no deadline: a decision about history does not depend on a clock.
"""
