"""The layer of votes: every decision again, from the ballots it names and the configuration in force.

A decision follows from the ballots in it (``shared.rounds``), to the bit, and each intent from its
decision. Whether those ballots are the ones that were cast is ``shared.audit.ballots``'s question. Not
checked: when a round that lacked a ballot was closed by the clock, and whether a live intent was stale by
it, for the clock is not recorded.
"""

from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import Framed, Opened, UnreadableError, framed, opened, payload_of
from schemas.common import Origin, Probabilities
from schemas.decisions import DecisionMade
from shared.audit.configurations import Configuration, Configurations
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.source import Source, Span
from shared.log import START, Entry, Place
from shared.rounds import SILENT, Answer, ClosedBy, Round, Voice, causation_of, decision_of, intent_of

STALE: Final = 2**52
"""A moment at which every intent is stale (ms)."""
DECISIONS: Final = "decisions"
INTENTS: Final = "intents"


class _Cast(Struct, gc=False):
    """A ballot in a decision: what the vote takes from it."""

    model: str
    artifact: str
    event: str
    probabilities: Probabilities


class _Gone(Struct, gc=False):
    """A member that did not vote."""

    model: str
    artifact: str
    event: str | None
    reason: str


class Basis(Struct, tag="decision.made"):
    """What a decision rests on; the rest of it must follow. Read without the checks of ``schemas``, for
    what follows is compared with all that was written."""

    symbol: str
    interval_ms: int
    open_time: int
    origin: Origin
    control_version: int
    control_head: str
    counted: list[_Cast]
    absent: list[_Gone]
    shadow: list[_Cast]
    closed_by: ClosedBy
    intent: str


class _Late(Struct, tag="ballot.late"):
    """Not a decision."""


class _Closed(_Late, tag="fence.closed"):
    """Not a decision."""


class _Opened(_Late, tag="fence.opened"):
    """Not a decision."""


_basis: Final = msgspec.json.Decoder(Basis | _Late | _Closed | _Opened).decode


def round_of(decision: Basis | DecisionMade, correlation: bytes = b"", flags: int = 0) -> Round:
    """The round that a decision says it decided."""
    answers: dict[Voice, Answer] = {}
    for ballot in decision.counted:
        answers[ballot.model, ballot.artifact] = Answer(ballot.event, ballot.probabilities, "")
    for absent in decision.absent:
        answers[absent.model, absent.artifact] = Answer(absent.event, None, absent.reason)
    for shadow in decision.shadow:
        answers[shadow.model, shadow.artifact] = Answer(shadow.event, shadow.probabilities, "")
    series = (decision.symbol, decision.interval_ms)
    return Round(series, decision.open_time, decision.origin, correlation, flags, "", None, answers)


def again(configuration: Configuration, decision: Basis | DecisionMade) -> DecisionMade:
    """The decision that follows from the ballots in ``decision``."""
    now = STALE if decision.intent == "stale" else None
    state, panel = configuration
    return decision_of(state, panel, round_of(decision), decision.closed_by, now)


def misplaced(configurations: Configurations, decision: Basis | DecisionMade) -> str:
    """What contradicts the control log in a decision; empty where nothing does."""
    configuration = configurations.at(decision.control_version)
    if configuration is None:
        newest = configurations.newest.version
        return f"made under version {decision.control_version}; the control log ends at {newest}"
    if configuration.state.head != decision.control_head:
        heads = f"{decision.control_head[:12]} was recorded, {configuration.state.head[:12]} is the control log's"
        return f"head of version {decision.control_version}: {heads}"
    return ""


def check_votes(source: Source, configurations: Configurations, partition: int, span: Span) -> Findings:
    """Every decision and intent of a partition within ``span``."""
    findings = Findings()
    place = Place(DECISIONS, partition)
    intents = _Intents(source, partition, span, findings)
    seen = equal = 0
    for entry in source.entries(place, span.after, span.until):
        try:
            frame = framed(DECISIONS, entry.data)
            basis = _basis(frame.payload)
        except (UnreadableError, msgspec.DecodeError, UnicodeDecodeError) as error:
            findings.differ(Difference("vote", DECISIONS, partition, entry.id, "", str(error)[:500]))
            continue
        if isinstance(basis, _Late):
            if frame.fault:
                findings.differ(Difference("vote", DECISIONS, partition, entry.id, frame.id.hex(), frame.fault))
            continue
        seen += 1
        right, fault = _follows(configurations, frame, basis)
        if fault is None:
            equal += 1
        else:
            about = Difference(
                fault[0], DECISIONS, partition, entry.id, frame.id.hex(), fault[1][:1000], basis.symbol, basis.open_time
            )
            findings.differ(about)
        intents.expect(configurations, entry, frame.id.hex(), basis, right)
    if seen:
        findings.see("decisions", times=equal)
        findings.see("decisions", equal=False, times=seen - equal)
    intents.end()
    return findings


def fault_of(configurations: Configurations, data: bytes) -> tuple[Layer, str] | None:
    """What in one recorded decision does not follow, and of which layer; None where all of it does."""
    frame = framed(DECISIONS, data)
    basis = _basis(frame.payload)
    return None if isinstance(basis, _Late) else _follows(configurations, frame, basis)[1]


def _follows(
    configurations: Configurations, frame: Framed, basis: Basis
) -> tuple[DecisionMade | None, tuple[Layer, str] | None]:
    """The decision that follows, and what in the recorded one does not."""
    if frame.fault:
        return None, ("vote", frame.fault)
    wrong = misplaced(configurations, basis)
    if wrong:
        return None, ("configuration", wrong)
    configuration = configurations.at(basis.control_version)
    assert configuration is not None
    right = again(configuration, basis)
    if payload_of(DECISIONS, right) != frame.payload:
        said = _as_written(frame)
        if said != right:
            return right, ("vote", _told(said, right) if isinstance(said, DecisionMade) else said)
    if basis.closed_by == "complete" and any(gone.reason == SILENT and not gone.event for gone in basis.absent):
        return right, ("vote", "closed as complete, though a member had not answered")
    if causation_of(right, frame.correlation) != frame.causation:
        return right, ("vote", "its cause is not its first ballot")
    return right, None


def _as_written(frame: Framed) -> DecisionMade | str:
    """The recorded decision in full, or why nobody can read it. Another release may write the same decision
    in other bytes."""
    try:
        return msgspec.json.decode(frame.payload, type=DecisionMade)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"


def _told(decision: DecisionMade, right: DecisionMade) -> str:
    """The fields that differ, by name."""
    wrong = [name for name in DecisionMade.__struct_fields__ if getattr(decision, name) != getattr(right, name)]
    return "; ".join(
        f"{name}: {getattr(decision, name)!r} recorded, {getattr(right, name)!r} follows" for name in wrong
    )


class _Intents:
    """The intents of a partition, held against the decisions that issued them, in order."""

    def __init__(self, source: Source, partition: int, span: Span, findings: Findings) -> None:
        self._partition = partition
        self._entries = source.entries(Place(INTENTS, partition), span.after)
        self._span = span
        self._findings = findings
        self._ahead: list[tuple[Entry, Framed, str]] = []
        self._met = span.after == START

    def expect(
        self, configurations: Configurations, entry: Entry, event: str, basis: Basis, right: DecisionMade | None
    ) -> None:
        """The intent of the next decision, where it issued one."""
        if basis.intent != "issued":
            return
        found = self._take(event)
        configuration = configurations.at(basis.control_version)
        if right is None or right.intent != "issued" or configuration is None:
            return
        expected = intent_of(configuration.panel, right, event)
        if found is None:
            where: tuple[Layer, str, int, str, str] = ("intent", DECISIONS, self._partition, entry.id, event)
            about = (basis.symbol, basis.open_time, True)
            self._findings.differ(Difference(*where, "its intent is not there", *about))
        elif not found[1].fault and (
            payload_of(INTENTS, expected) == found[1].payload or _read(found[0]).envelope.event == expected
        ):
            self._findings.see("intents")
            return
        else:
            self._tell(found, found[1].fault or "the intent is not that of its decision")
        self._findings.see("intents", equal=False)

    def _tell(self, found: tuple[Entry, Framed, str], detail: str) -> None:
        entry, frame, _ = found
        self._findings.differ(Difference("intent", INTENTS, self._partition, entry.id, frame.id.hex(), detail))

    def _take(self, decision: str) -> tuple[Entry, Framed, str] | None:
        """The intent of a decision: the next one, or the one behind an intent that no decision issued."""
        for place in range(2):
            if self._peek(place) == decision:
                for stray in self._ahead[:place]:
                    self._stray(stray)
                found = self._ahead[place]
                self._ahead = self._ahead[place + 1 :]
                self._met = True
                return found
        return self._seek(decision) if not self._met else None

    def _seek(self, decision: str) -> tuple[Entry, Framed, str] | None:
        """At the start of a range: past the intents of decisions before it."""
        while (named := self._peek(0)) is not None and named != decision:
            self._ahead.pop(0)
        return self._ahead.pop(0) if self._ahead else None

    def _peek(self, place: int) -> str | None:
        while len(self._ahead) <= place:
            entry = next(self._entries, None)
            if entry is None:
                return None
            try:
                frame = framed(INTENTS, entry.data)
                named = _named(frame.payload).decision
            except (UnreadableError, msgspec.DecodeError, UnicodeDecodeError) as error:
                self._findings.differ(Difference("intent", INTENTS, self._partition, entry.id, "", str(error)[:500]))
                continue
            self._ahead.append((entry, frame, named))
        return self._ahead[place][2]

    def _stray(self, found: tuple[Entry, Framed, str]) -> None:
        if self._met:
            self._tell(found, found[1].fault or "an intent that no decision issued")

    def end(self) -> None:
        """No intent may stand without a decision."""
        while self._peek(0) is not None and self._span.holds(self._ahead[0][0].id):
            self._stray(self._ahead.pop(0))


class _Named(Struct, tag="trade.intent"):
    """The decision that an intent names."""

    decision: str


_named: Final = msgspec.json.Decoder(_Named).decode


def _read(entry: Entry) -> Opened:
    return opened(INTENTS, entry.data)
