"""Turn the predictions for one bar into a decision: by rounds of ballots and a log-linear pool."""
