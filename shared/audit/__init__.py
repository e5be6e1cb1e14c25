"""Replay: recompute recorded events and report where they differ.

``source`` reads recorded entries. ``configurations`` folds control. ``votes``, ``features``, ``predictions``,
``scores`` and ``gates`` each recompute one layer. ``findings`` holds the result. Events are recomputed by the functions
that serve live: ``shared.voting.decision`` and the cores that callers pass in. There is no second implementation.
"""
