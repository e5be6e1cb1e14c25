"""From predictions to a decision: the pool and the rounds."""
