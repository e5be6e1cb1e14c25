"""The catalogue of alerts. Each has a runbook of the same name in ``docs/how-to/runbooks``."""

from typing import Final, Literal, NamedTuple

Severity = Literal["info", "warning", "critical"]


class Alert(NamedTuple):
    """``severity``: when to act: at leisure, today, now. ``meaning``: one line."""

    severity: Severity
    meaning: str


ALERTS: Final[dict[str, Alert]] = {
    "no-quorum": Alert("critical", "too few members vote, so no intents are written"),
    "no-decisions": Alert("critical", "live bars are due and were not decided"),
    "group-down": Alert("critical", "a service does not run"),
    "group-stuck": Alert("critical", "a service runs and its position does not move, though there are entries to read"),
    "group-lagging": Alert("warning", "a service has had a large lag for minutes"),
    "restarting": Alert("critical", "a service starts again and again"),
    "log-unreachable": Alert("critical", "the server of the log does not answer"),
    "halted": Alert("warning", "a halt stops all intents"),
    "guard-tripped": Alert("critical", "a champion that was promoted does harm, or answers the same to everything"),
    "probation-overdue": Alert("critical", "a probation is over and was not reverted: the guard does not run"),
    "action-due": Alert("warning", "the evidence calls for a command that only a person may issue"),
    "inputs-drifted": Alert("warning", "a model gets inputs unlike those it was trained on"),
    "skill-decayed": Alert("warning", "a voting model gains less than half of what it gained at first"),
    "retrain-rejected": Alert("warning", "a training was rejected: its data or its model may not be used"),
    "retrain-failed": Alert("warning", "a training ended without a result, for other reasons than its data"),
    "retrained": Alert("info", "a training gave an artifact; it does not vote yet"),
    "dead-letters": Alert("warning", "input was refused"),
    "gap-detected": Alert("critical", "entries were trimmed before a service had read them; it stopped"),
    "group-recreated": Alert("warning", "a missing consumer group was created again"),
    "owner-replaced": Alert("info", "a process took a group over from another"),
    "control-refused": Alert("critical", "an entry on the control stream was not written by a control writer"),
    "log-truncated": Alert("critical", "the server lost its last writes: the log is not the one that was read"),
    "interference-found": Alert("critical", "a decision does not follow from its counted ballots alone"),
    "archive-failed": Alert("critical", "the archive is damaged or out of reach, so nothing is trimmed"),
    "clock-apart": Alert("warning", "the clock of a process differs from the server's"),
    "clock-stepped": Alert("critical", "the server's clock was set"),
    "storage-failed": Alert("critical", "a service cannot write a file, and goes on without it"),
    "archive-works": Alert("info", "the archive works again after a failure"),
    "phone-silent": Alert("critical", "the chat server has not answered the bot for minutes: no one can halt by phone"),
    "exchange-waiting": Alert("critical", "an exchange has not answered for a minute, so no bars come from there"),
    "feed-interrupted": Alert("warning", "an exchange sent nothing for a minute or more, unplanned"),
    "bars-absent": Alert("warning", "an exchange does not have bars that it should have"),
    "bar-revised": Alert("info", "an exchange changed a bar after its close"),
    "symbol-stopped": Alert("critical", "a symbol is no longer read: delisted, halted, or its rows cannot be used"),
    "symbol-resumed": Alert("info", "a symbol that had stopped is read again"),
    "exchange-clock": Alert("critical", "an exchange's clock differs from the server's, so no bar is live"),
    "account-differs": Alert("critical", "an account at an exchange does not hold what follows from the log"),
    "order-rejected": Alert("warning", "an exchange refused an order"),
    "intents-refused": Alert("warning", "intents were not traded, for a reason that no command asks for"),
    "promoted": Alert("info", "another artifact votes for a model"),
    "rolled-back": Alert("warning", "a person, the guard or the evaluator rolled the configuration back"),
}
