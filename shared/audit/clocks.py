"""Check the voter's clock in decisions: against deadlines, and against the id of the decision's entry.

The decision of a live bar has ``decided_at``, the server's time as the voter knew it. A round that a deadline closed
has ``opened_at`` and ``waited_ms``: it must have waited as long as ``shared.voting.deadline`` requires, or have been
closed at the same reading of the clock as a later bar of its symbol that did. Earlier releases recorded neither; there
``decided_at`` must be after the deadline.

The id of the entry comes from the server's clock: a decision cannot have been written before it was made. It may have
been written long after (a voter that was suspended). Then its clock proves nothing, and the decision is counted as not
recomputed.
"""

from typing import Final

from msgspec import UNSET

from schemas.decisions import DecisionMade
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import ReadEvent
from shared.log.leases import id_order
from shared.voting.deadline import wait_ms
from shared.voting.decision import Series

APART_MS: Final = 60_000
"""Largest difference (ms) between the voter's clock and the server's."""
WITHIN_MS: Final = 1_000
"""Largest difference (ms) between two measures of one wait, by clocks that are not set."""
EARLY: Final = "closed by the clock before its deadline had passed, or that of a later bar closed at the same reading"


class Clocks:
    """Check the decisions of a partition, in order."""

    def __init__(self, configurations: Configurations, findings: Findings) -> None:
        self._configurations, self._findings = configurations, findings
        # Decisions closed before their own deadline, by series: only the deadline of a later bar can justify them.
        self._early: dict[Series, list[tuple[ReadEvent, int]]] = {}

    def fault(self, read: ReadEvent, decision: DecisionMade, *, stamped: bool) -> str:
        """Return what is wrong with the clock of a decision; empty where nothing is.

        ``stamped`` is True where its ballots were written by a release that records the clock."""
        at = decision.decided_at
        if decision.origin != "live":
            return "" if at is None else f"it has a time of decision, though its bar is {decision.origin}"
        if at is None:
            if stamped:
                return "it has no time of decision, though its bar is live"
            if decision.closed_by == "deadline" or decision.intent == "stale":
                self._findings.skip("votes: a deadline of an earlier release, which did not record its clock")
            return ""
        written = id_order(read.entry)[0]
        fault = self._wait_fault(decision, at, written)
        if fault:
            return fault
        if at > written + APART_MS:
            if written < decision.open_time + decision.interval_ms:
                self._findings.skip("votes: written before the close of its bar, by a server's clock that was set back")
                return ""
            return f"decided {(at - written) / 1000:.0f} s after it was written, by its own clock"
        if at < written - APART_MS and (decision.closed_by == "deadline" or decision.intent in {"issued", "stale"}):
            self._findings.skip("votes: written more than a minute after its clock: the voter was suspended")
        return ""

    def _wait_fault(self, decision: DecisionMade, at: int, written: int) -> str:
        opened_at, waited_ms = decision.opened_at, decision.waited_ms
        if opened_at is UNSET or waited_ms is UNSET:
            return ""
        if decision.closed_by != "deadline":
            return "it has waited for a deadline, though no deadline closed it"
        if opened_at > at:
            return f"{EARLY}: it was opened {(opened_at - at) / 1000:.0f} s after it was decided"
        # The wait is longer than the server's clock shows if that clock was set back meanwhile. Then it gave an id that
        # is not later than the decision either.
        hidden_ms = waited_ms - (at - opened_at)
        if hidden_ms > WITHIN_MS:
            if written - at > hidden_ms / 2:
                return f"{EARLY}: it waited {waited_ms / 1000:.0f} s, {(at - opened_at) / 1000:.0f} s by its own clock"
            self._findings.skip("votes: a deadline while the server's clock was set back")
        return ""

    def deadlines(self, read: ReadEvent, decision: DecisionMade) -> list[tuple[ReadEvent, str]]:
        """Return decisions that were closed by the clock before any deadline had passed.

        This is known at the next decision of their series."""
        series = (decision.symbol, decision.interval_ms)
        at, configuration = decision.decided_at, self._configurations.at(decision.control_version)
        waiting = self._early.pop(series, [])
        wrong = [(early, EARLY) for early, moment in waiting if moment != at]
        waiting = [(early, moment) for early, moment in waiting if moment == at]
        if decision.closed_by == "deadline" and at is not None and configuration is not None:
            waiting = [*waiting, (read, at)] if _early(decision, configuration.panel.policy.deadline_ms, at) else []
        if waiting:
            self._early[series] = waiting
        return wrong

    def unjustified(self) -> list[tuple[ReadEvent, str]]:
        """Return the early decisions that no later decision justified."""
        return [(early, EARLY) for series in self._early.values() for early, _ in series]


def _early(decision: DecisionMade, deadline_ms: int, at: int) -> bool:
    """Return whether a decision was closed by the clock before its own deadline had passed."""
    close = decision.open_time + decision.interval_ms
    if decision.opened_at is UNSET or decision.waited_ms is UNSET:
        return at < close + deadline_ms
    return decision.waited_ms < wait_ms(close, decision.opened_at, deadline_ms)
