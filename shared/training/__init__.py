"""Training: from bars to an artifact, or to a refusal with its reason.

``series``      data sets: bars and feature vectors of symbols, and their digests
``recorded``    the data set of a job, read from recorded streams
``quality``     the report on a data set, and whether it is fit for training
``splits``      purged parts of a data set in time order
``fitting``     labels, fit, calibration, scores and checks: an artifact
``scaling``     temperature and vector scaling
``imbalance``   policies for classes of unequal frequency
``collapse``    whether a fit learns anything, epoch by epoch
``worth``       the gain of an artifact over prior, logistic baseline and champion; fixed sanity checks
``recipe``      the recipe by which an artifact can be trained again
``jobs``        the state of all training jobs, folded from the stream ``training``, and which may start
``ledger``      reading and appending that stream
``sweeps``      many seeds, parameters and folds at once
"""
