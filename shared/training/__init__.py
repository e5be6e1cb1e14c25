"""Training: from recorded or given bars to an artifact, and what makes it refuse.

``series``      what is trained on, with its digest: computed from bars, or as recorded (``recorded``)
``quality``     what a data set is like, and whether it is fit
``fitting``     labels, purged parts, fit, calibration, scores, checks: an artifact
``imbalance``   what is done about classes of unequal share
``collapse``    whether a fit learns anything, epoch by epoch
``worth``       an artifact against prior, logistic and champion; the fixed sanity checks
``jobs``        the fold of the ``training`` stream, and who may be trained when
``sweeps``      many seeds, parameters and folds at once
"""
