"""The console: the commands of ``conclave``.

Reads
    Every stream.
Writes
    ``control``: commands, each with its actor and its reason. ``conclave groups skip`` also moves the position of a
    consumer group past a gap.
Remembers
    Nothing. ``conclave up`` writes its pid to the state folder, for ``conclave down``.
Refuses
    A command that the fold of ``control`` would reject, with the reason and what to do.
"""
