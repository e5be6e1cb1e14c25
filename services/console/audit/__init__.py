"""Commands that verify what was recorded and show who answers for it."""
