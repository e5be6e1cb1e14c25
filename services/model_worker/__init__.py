"""model-worker: answers feature vectors with the artifacts of one model.

Reads       ``features``, and ``control`` from its beginning.
Writes      ``predictions``: for every vector of an active artifact's feature set one ballot
            (``PredictionMade``), or the reason why there is none (``PredictionFailed``). Active are
            the model's champion and its shadows, in that order; who votes is not its business.
Remembers   The configuration, the loaded artifacts, which feature sets the bar in hand has shown,
            and the last T - 1 vectors of each symbol where an artifact looks at windows. All of it
            is read again after a restart: there is no memo.
Refuses     To have an opinion where it has none. A vector withheld, of the wrong length or not
            finite, a bar of another interval, an artifact that does not load or does not answer
            with probabilities, a bar for which only other feature sets came: each is a
            ``PredictionFailed`` with its reason and what to look at.

Vectors of feature sets that no active artifact uses are passed over. The bar in hand ends when the
next one begins, of whatever symbol: the feature-builder writes all sets of a bar side by side.
"""
