"""The labels that predictions are scored against, for a whole series and bar by bar."""
