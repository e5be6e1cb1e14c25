"""Documents generated from the schemas, and the rules by which they may change."""
