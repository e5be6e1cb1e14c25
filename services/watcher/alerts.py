"""The alerts there are. Each has a runbook of its name under ``docs/how-to/runbooks``."""

from typing import Final, Literal, NamedTuple

Severity = Literal["info", "warning", "critical"]


class Alert(NamedTuple):
    """``severity``: what to do: read it some time, today, now. ``meaning``: one line."""

    severity: Severity
    meaning: str


ALERTS: Final[dict[str, Alert]] = {
    "no-quorum": Alert("critical", "too few members vote, so no intents are written"),
    "no-decisions": Alert("critical", "live bars are due and nothing was decided about them"),
    "group-down": Alert("critical", "a service does not run"),
    "group-stuck": Alert("critical", "a service runs and does not move, though there is something to read"),
    "group-lagging": Alert("warning", "a service has been far behind for minutes"),
    "restarting": Alert("critical", "a service starts again and again"),
    "log-unreachable": Alert("critical", "the server of the log does not answer"),
    "halted": Alert("warning", "a halt stops all intents"),
    "guard-tripped": Alert("critical", "a champion that was promoted does harm, or answers the same to everything"),
    "probation-overdue": Alert("critical", "a probation is over and nobody reverted it: the guard does not run"),
    "action-due": Alert("warning", "the evidence asks for a command that only a person may give"),
    "inputs-drifted": Alert("warning", "a model sees inputs unlike those it was trained on"),
    "skill-decayed": Alert("warning", "a voting model earns less than half of what it earned at first"),
    "retrain-rejected": Alert("warning", "a training was refused: nothing may come of its data or its model"),
    "retrain-failed": Alert("warning", "a training ended without a result, by no fault of the data"),
    "retrained": Alert("info", "a training gave an artifact; it votes nowhere yet"),
    "dead-letters": Alert("warning", "input was refused"),
    "gap-detected": Alert("critical", "entries were trimmed before a service had read them; it stopped"),
    "group-recreated": Alert("warning", "a consumer group had vanished and was made again"),
    "owner-replaced": Alert("info", "a process took a group over from another"),
    "control-refused": Alert("critical", "somebody wrote to the control stream past its door"),
    "log-truncated": Alert("critical", "the server lost its last writes: the log is not the one that was read"),
    "interference-found": Alert("critical", "a decision does not follow from its counted ballots alone"),
    "archive-failed": Alert("critical", "the archive is damaged or out of reach, so nothing is trimmed"),
    "promoted": Alert("info", "another artifact votes for a model"),
    "rolled-back": Alert("warning", "the configuration went back, by a person, the guard or the evaluator"),
}
