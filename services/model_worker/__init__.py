"""model-worker: predicts from feature vectors with the artifacts of one model.

Reads       ``features``, and ``control`` from its beginning.
Writes      ``predictions``: for each vector, one event for each artifact that is active under the vector's stamp and
            trained on its feature set: a prediction (``PredictionMade``), or the reason why there is none
            (``PredictionFailed``). Active are the model's shadows and its champion, in this order, since the voter
            closes a round with the last champion's prediction and has those of the shadows by then. A shadow on
            another feature set than the champion's may come after it.
            ``readiness``: which artifacts are loaded, verified and warm, which failed to load, and which were freed;
            after a start, all that are loaded again.
Remembers   The configuration, the loaded artifacts, the feature sets that came for the current bar, and the last 512
            successive vectors of each symbol. All of it is read again after a restart, from the entry that the
            snapshot names. The newest three former champions that are not active stay loaded, so that a rollback finds
            them warm; at a start they load in the background. Any other artifact is freed once no vector under its
            configuration can come: a stopped shadow, an older champion, a retired artifact.
Refuses     To predict without grounds. Each of these is a ``PredictionFailed`` with its reason and what to look at:
            a vector that is withheld, of the wrong length or not finite, a bar of another interval, an artifact that
            does not load or does not return probabilities, a bar for which only other feature sets came.

Predictions are a function of the ``features`` stream and of the commands up to each stamp. The one exception is
``not_loaded``, a fact about this process. What is active at a start, and every champion, is loaded before anything is
predicted under its configuration, so predictions that vote never depend on how fast a file is read. A shadow that is
started while the worker runs loads in a thread. Its first prediction uses a full window.

Vectors of feature sets that no active artifact uses are ignored. The current bar ends when the next one begins, of any
symbol, since the feature-builder writes all sets of a bar together.
"""
