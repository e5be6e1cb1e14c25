"""The feature builder: each closed bar becomes one vector for each feature set, or the reason why not.

Reads ``market``, and ``control`` from its beginning. Writes ``features``: for each bar and set, in the order of the
sets, ``FeaturesComputed`` or ``FeaturesWithheld``; before them ``BarsMissing`` where bars are missing before this one.
Each is stamped with the version and head of the configuration in force, and all that follows from the bar is handled
under that stamp by every service: this is where the order between bars and commands is recorded. Writes ``dead``:
a bar that was seen before (``duplicate``, or ``conflict`` with another content), that is older than the last
of its symbol (``out_of_order``), off the grid of its interval, or with impossible prices. Such a bar
changes nothing.

Remembers the last bars of each symbol and interval, as many as the longest set looks back on, and nothing
else: after a restart they are read again from ``market``. Synthetic bars have windows of their own; live
and replayed bars of a symbol share one.

Missing bars: up to ``bridge`` in a row stand in the window as flat bars (open, high, low and close at the
last close, volume 0), for which no vector is written; vectors that saw them count them in ``bridged``. After
more, the window starts anew and vectors are withheld (``gap``) until it is full. A symbol without a bar for
2^18 events (for each minute of its interval) is forgotten, and starts as new (``warming``).
"""
