"""The watcher: notify people of what needs them, and export the state of the installation as gauges.

Reads
    ``control`` and ``training``; ``decisions``, ``gates``, ``dead``, ``alarms``, ``venue``, ``orders``, ``market``
    and ``scores`` of all partitions; the position, lag and lease of every consumer group. One process serves the whole
    installation.
Writes
    Nothing to the log; its Redis user may not. Notices by webhook, Telegram, Slack and whatever else Apprise supports,
    to the addresses in ``$CONCLAVE_NOTIFY_FILE``; each notice is also a line of the watcher's own log. Gauges, to the
    collector of the settings.
Remembers
    ``watcher.json`` in the state folder: how far each stream was read, which alerts are active, which notices were not
    accepted yet, what the fills paid and left, what each model and shadow would hold alone. After a crash a notice may
    be sent twice; it is not lost. Without the file the watcher begins at the present end of each stream, and folds all
    fills before it; the money of models and shadows begins with their next score.
Refuses
    A control stream with a broken chain: ``ControlError``, as every service does.

Not guaranteed: that the watcher itself runs. Something else must check that (systemd, Compose, the Prometheus rule
``ConclaveWatcherSilent``).
"""
