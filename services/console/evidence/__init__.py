"""Commands that show the evidence about artifacts in shadow, and the verdicts of the gates."""
