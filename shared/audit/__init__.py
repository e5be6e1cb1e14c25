"""Replay: recompute what was recorded, and say where it differs.

``source`` reads recorded entries, ``configurations`` folds control, ``votes``, ``features``,
``predictions`` and ``gates`` each recompute one layer, ``findings`` is what they find. The deciding
functions are those that serve live: ``shared.voting.decision`` and the cores that are handed in. There is no
second implementation.
"""
