"""Propose a voting policy from recorded rounds: chosen on the earlier of them, shown on the later."""
