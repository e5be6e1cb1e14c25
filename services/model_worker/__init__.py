"""model-worker: answers feature vectors with the artifacts of one model.

Reads       ``features``, and ``control`` from its beginning.
Writes      ``predictions``: for every vector, of each artifact active under the vector's stamp whose feature
            set it is, one ballot (``PredictionMade``), or the reason why there is none (``PredictionFailed``).
            Active are the model's shadows and its champion, in that order, so that the voter, which closes a
            round with the last champion's ballot, has the shadows' by then; who votes is not its
            business. A shadow on another feature set than the champion's may come after it.
            ``readiness``: which artifacts it holds, verified and warm, which would not load, and which
            it freed; all that it holds again after a start.
Remembers   The configuration, the loaded artifacts, which feature sets the bar in hand has shown, and the last 512
            successive vectors of each symbol, whichever artifacts it knows. All of it is read again after a
            restart; the memo says from where. The newest three former champions that
            are not active stay loaded, so that a rollback finds them warm, and at a start they are
            loaded in the background. All else is freed once no vector under its configuration can come: a shadow
            that was stopped, an older champion, what was retired.
Refuses     To have an opinion where it has none. A vector withheld, of the wrong length or not
            finite, a bar of another interval, an artifact that does not load or does not answer
            with probabilities, a bar for which only other feature sets came: each is a
            ``PredictionFailed`` with its reason and what to look at.

What it answers is a function of the ``features`` stream and of the commands up to each stamp, but for ``not_loaded``,
which is a fact about a process. What is active at a start is loaded before anything is answered, and so is a champion:
ballots that vote never depend on how fast a file was read. A shadow that is started while live loads in a thread, and
is asked about full windows from the first bar that it answers.

Vectors of feature sets that no active artifact uses are passed over. The bar in hand ends when the
next one begins, of whatever symbol: the feature-builder writes all sets of a bar side by side.
"""
