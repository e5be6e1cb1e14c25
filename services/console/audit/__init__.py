"""Commands that verify what was recorded and trace a decision to its causes."""
