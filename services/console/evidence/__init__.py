"""Commands that show what gates and shadows concluded."""
