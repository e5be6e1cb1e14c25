"""The trainer: retrains models when somebody or something asks, in a process of its own, and refuses what collapsed.

Reads
    ``training`` and ``control`` from their beginning; ``gates`` of all partitions for ``InputsDrifted`` and
    ``SkillDecayed``; for a job ``market`` and ``features``, in Redis or sealed.
Writes
    ``training``: requests by schedule, drift and decay, and how each job goes. ``control``: ``RegisterArtifact`` of
    what was accepted, and ``StartShadow`` where the training policy says so. Artifacts into the store; what was
    refused into ``training/<job>/quarantine`` in the state folder. ``alarms``: a replaced owner.
Remembers
    Nothing but how far it has read ``gates``; all else is the fold of ``training`` (``shared.training.jobs``).
Refuses
    A second job at a time. A request within the cooldown or over the budget of the training policy. To train on
    unfit data, on a disk that is nearly full, or a family that it cannot train. To promote anything, ever.

One process for the whole installation. A job is a child process at the lowest priority, with a limit on its memory
and one thread; what it says, line by line, becomes events. A job whose trainer stopped is begun anew by the next
trainer from the same stream positions, and given up after three attempts: nothing stays "running".
"""
