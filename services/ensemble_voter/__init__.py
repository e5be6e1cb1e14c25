"""The ensemble-voter: one decision for every symbol and bar.

Reads
    ``predictions`` of its partition, ``control`` from its beginning.
Writes
    ``decisions``: one for each round, and ballots that came late. ``intents``: what may be acted on.
    ``dead``: a second, different ballot of one artifact for one bar.
Remembers
    Open rounds, read again after a restart; and, as its memo, the last bar decided of each symbol.
Refuses
    To let anything vote but a model's champion; to decide a bar twice; to write an intent while the fence of
    the partition is closed or the configuration is halted, without quorum, or for a live bar whose time has passed.

A round opens with the first ballot for a bar, under the stamp of that ballot: the version of the configuration in
force when the bar came, whatever was commanded since. It closes as soon as every voting model has answered
(a failure is an answer), has moved on to a later bar or is superseded by a later round in which it has no vote
(``superseded``), or, for live bars only, has stayed silent past the deadline of this round or of a later one.
Bars from files have no deadline: a decision about history does not depend on a clock.
"""
