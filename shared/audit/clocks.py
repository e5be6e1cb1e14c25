"""What a decision says about the voter's clock, held against deadlines and against its entry.

A live bar's decision has ``decided_at``, the voter's clock. A round may be closed by it once the deadline of its bar
has passed, or that of a later bar of its symbol which the same look at the clock closed. How right the clock was shows
in the id of the entry, which the server's clock gave: it cannot have been written before it was decided. It may have
been written long after (a voter that was suspended); then its clock proves nothing, and that is counted.
"""

from typing import Final

from schemas.decisions import DecisionMade
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import ReadEvent, order
from shared.voting.decision import Series

APART_MS: Final = 60_000
"""How far the voter's clock and the server's may be apart."""
EARLY: Final = "closed by the clock before its deadline had passed, or that of a later bar which the same look closed"


class Clocks:
    """The decisions of a partition in order. ``early``: those closed before their own deadline, which only a later
    bar's can justify, by series."""

    def __init__(self, configurations: Configurations, findings: Findings) -> None:
        self._configurations, self._findings = configurations, findings
        self._early: dict[Series, list[tuple[ReadEvent, int]]] = {}

    def fault(self, read: ReadEvent, decision: DecisionMade, *, stamped: bool) -> str:
        """What is wrong with a decision's clock. ``stamped``: its ballots were written by a release that records it."""
        at = decision.decided_at
        if decision.origin != "live":
            return "" if at is None else f"it says when it was decided, though its bar is {decision.origin}"
        if at is None:
            if stamped:
                return "it does not say when it was decided, though its bar is live"
            if decision.closed_by == "deadline" or decision.intent == "stale":
                self._findings.skip("votes: a deadline of an earlier release, which did not record its clock")
            return ""
        written = order(read.entry)[0]
        if at > written + APART_MS:
            return f"decided {(at - written) / 1000:.0f} s after it was written, by its own clock"
        if at < written - APART_MS and (decision.closed_by == "deadline" or decision.intent in {"issued", "stale"}):
            self._findings.skip("votes: written more than a minute after its clock: a voter that stood still")
        return ""

    def deadlines(self, read: ReadEvent, decision: DecisionMade) -> list[tuple[ReadEvent, str]]:
        """Decisions that were closed by the clock before any deadline had passed: known at the next decision of their
        series."""
        series = (decision.symbol, decision.interval_ms)
        at, configuration = decision.decided_at, self._configurations.at(decision.control_version)
        waiting = self._early.pop(series, [])
        wrong = [(early, EARLY) for early, moment in waiting if moment != at]
        waiting = [(early, moment) for early, moment in waiting if moment == at]
        if decision.closed_by == "deadline" and at is not None and configuration is not None:
            due = decision.open_time + decision.interval_ms + configuration.panel.policy.deadline_ms
            waiting = [*waiting, (read, at)] if at < due else []
        if waiting:
            self._early[series] = waiting
        return wrong

    def left(self) -> list[tuple[ReadEvent, str]]:
        """Those that no later decision justifies."""
        found = [early for series in self._early.values() for early, _ in series]
        return [(early, EARLY) for early in found]
