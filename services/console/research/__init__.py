"""Commands that compute what would have been decided."""
