"""Commands that change the configuration, and its history."""
