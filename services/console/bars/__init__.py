"""Look at files of bars, put them together, and make longer bars of shorter ones."""
