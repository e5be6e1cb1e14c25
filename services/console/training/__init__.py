"""Commands that train, import and show models."""
