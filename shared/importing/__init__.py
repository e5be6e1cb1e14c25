"""Weights from elsewhere: read without running anything, recognised, compared with a reference, made an artifact."""
