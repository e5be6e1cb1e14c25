"""``conclave demo``: a whole installation in two minutes."""
