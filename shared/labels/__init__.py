"""Label bars with the class that predictions are scored against: for a whole series at once and bar by bar."""
