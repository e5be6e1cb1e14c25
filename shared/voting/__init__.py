"""Turn the predictions about one bar into a decision: the rounds and the pool."""
