"""The trainer: retrain models and fit stackers, on request, by schedule, or because of drift or decay.

Reads
    ``training`` and ``control`` from their beginning; ``InputsDrifted`` and ``SkillDecayed`` on ``gates`` of all
    partitions; for a job ``market``, ``features`` and ``venue``, or ``decisions`` and ``scores`` for a stacker, from
    Redis or from sealed files.
Writes
    ``training``: requests by schedule, drift and decay, and the progress and result of each job. ``control``:
    ``RegisterArtifact`` for each accepted artifact; ``StartShadow``, or ``StartPolicyShadow`` for a stacker, if the
    training policy asks for it. Accepted artifacts into the store; rejected ones into ``training/<job>/quarantine`` in
    the state folder. ``alarms``: ``OwnerReplaced``.
Remembers
    Its position on ``gates``. All else is the fold of ``training`` (``shared.training.jobs``).
Refuses
    A second job at a time. A request over the budget of the training policy, and an automatic one within its cooldown.
    To train on unfit data, on a nearly full disk, or a family that it cannot train. It never promotes an artifact.

One process serves the whole installation. A job is a child process at the lowest priority, with a limit on its memory
and one thread; each line that it prints becomes an event. If the trainer stops during a job, the next trainer starts
that job again from the same stream positions. After three attempts the job is given up, so no job stays ``running``.
"""
