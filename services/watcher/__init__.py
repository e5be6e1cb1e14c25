"""The watcher: tells people what they should know, and monitoring how the installation stands.

Reads
    ``control`` and ``training``; ``decisions``, ``gates``, ``dead`` and ``alarms`` of all partitions; where every
    group stands. One process for the whole installation.
Writes
    Nothing to the log: its user may not. Notices by webhook, Telegram, Slack and what else Apprise speaks, to the
    addresses in ``$CONCLAVE_NOTIFY_FILE``; each is a line of its own log too. Gauges of the installation, to the
    collector of the settings.
Remembers
    ``watcher.json`` in the state folder: how far it has read, which alerts stand, which notices are not sent yet.
    A notice is sent again after a crash rather than lost. Without the file it begins with the present.
Refuses
    A control stream that cannot be trusted: ``ControlError``, as every service does.

Not guaranteed: that it runs. Something else must watch the watcher (systemd, Compose, ``ConclaveWatcherSilent``).
"""
