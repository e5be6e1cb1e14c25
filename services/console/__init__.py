"""The console: what a person types.

Reads
    Anything.
Writes
    ``control``: commands, each with who and why. It also moves a group past a gap, when told to.
Remembers
    Nothing. ``up`` leaves the pids of what it started in the state folder, for ``down``.
Refuses
    A command that the control fold would not accept; it says why, and the way out.
"""
