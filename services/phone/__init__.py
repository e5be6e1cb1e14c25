"""The phone: a bot in a chat that shows the installation, and halts and resumes it, approves and refuses proposals for
the persons of the settings.

Reads
    ``control``, and by the projections of the observatory (``services.observatory.projection``) ``market``,
    ``decisions``, ``orders``, ``gates``, ``training``, ``dead``, ``alarms`` and ``venue`` of all partitions; the
    position and lease of every consumer group. For an approval, the evidence on ``readiness``, ``gates`` and
    ``scores``. The updates of the chat's server, which it asks for: nothing outside connects to this process.
Writes
    ``control``: Halt, Resume, Approve and Refuse, each signed with the key of the person who confirmed it; the fences,
    with their notes on ``decisions``. Its Redis user may append nothing else. The keys are files of this server, which
    holds them on behalf of the persons.
Remembers
    ``phone.bin`` in the state folder: the last update, the questions that wait for a confirmation, and the answers that
    the chat did not accept yet. ``phone.projections.bin``: the projections.
Refuses, in words
    A sender who is no person of the settings, a chat that is not private, a forwarded message, a command that is not
    one of the bot's, an act that the person's key may not sign, a confirmation by another person, a second time or too
    late. Without words: an update that was handled before.

A command has the id of the question that it confirms. So an update that arrives again after a crash, or a second tap on
the button, is the same command, which ``control`` records once.
"""
