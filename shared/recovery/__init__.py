"""What is done where the log lost its tail: what is missing, where it can be had, and how intents wait for that."""
