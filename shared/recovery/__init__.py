"""Recover a log that lost its tail: find what is missing and where a copy is, and stop intents until then."""
