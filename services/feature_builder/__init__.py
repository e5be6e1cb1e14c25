"""feature-builder: computes a vector from each closed bar, for each feature set, or the reason why there is none.

Reads
    ``market``, and ``control`` from its beginning. Copies of references on ``market`` are read for sets with context,
    and lead to no event.
Writes
    ``features``: for each bar and set, in the order of the sets, ``FeaturesComputed`` or ``FeaturesWithheld``; before
    them ``BarsMissing``, if bars are missing before this one. Each event is stamped with the version and head of the
    configuration in force. Every service handles under that stamp what follows from the bar, so the order between bars
    and commands is recorded here.
    ``dead``: a bar that was seen before (``duplicate``, or ``conflict`` if its content differs), that is older than the
    last of its symbol (``out_of_order``), off the grid of its interval, or with impossible prices. Such a bar changes
    nothing.
Remembers
    The last bars of each symbol and interval, as many as the longest set needs, the last bars of references, and
    nothing else. After a restart they are read again from ``market``. Synthetic bars have windows of their own; live
    and replayed bars of a symbol share one.

References: a set with context has a vector of a bar only if the bars of its references with the same close were read
before (``shared.features.streaming``). Otherwise the vector is withheld (``undefined``) with their names.

Missing bars: up to ``bridge`` in a row are filled with flat bars (open, high, low and close at the last close, volume
0), for which no vector is written; ``bridged`` of a vector counts those in its window. After more missing bars the
window restarts, and vectors are withheld (``gap``) until it is full. A symbol is forgotten after 2^18 events without a
bar of its own, times the minutes of its interval; then it starts as a new one (``warming``).
"""
