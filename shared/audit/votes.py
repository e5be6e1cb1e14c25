"""The layer of votes: recompute every decision from the ballots it names and the configuration in force.

A decision follows to the bit from its ballots (``shared.voting.decision``), and each intent from its decision. An
intent is issued only where the fence was open at the decision's position on ``decisions`` (``shared.audit.fences``) and
the configuration of its stamp is not halted. ``shared.audit.ballots`` checks whether the ballots are those on
``predictions``, and whether the round was closed in time.
"""

import contextlib
from collections.abc import Iterator, Set
from typing import Final

import msgspec
from msgspec import Struct, structs

from schemas.codec import UNDECODABLE, Framed, Opened, UnreadableError, framed, opened, payload_of
from schemas.common import Origin, Probabilities
from schemas.decisions import DecisionMade, FenceClosed, FenceOpened
from shared.audit.comparison import differences
from shared.audit.configurations import Configuration, Configurations
from shared.audit.fences import Fence
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.source import EntryRange, Recording, beyond
from shared.log import START, Entry, StreamKey
from shared.voting.decision import ArtifactKey, Ballot, ClosedBy, Round, causation_of, decision_of, intent_of

STALE: Final = 2**52
"""A time (ms) at which every intent is stale, for a release that did not record when it decided."""
Fault = tuple[Layer, str] | None
"""The layer of a fault, and its description; None where there is none."""
DECISIONS: Final = "decisions"
INTENTS: Final = "intents"


class _Cast(Struct, gc=False):
    """A ballot in a decision, with the fields that the vote needs."""

    model: str
    artifact: str
    event: str
    probabilities: Probabilities


class _Absent(Struct, gc=False):
    """A member that did not vote."""

    model: str
    artifact: str
    event: str | None
    reason: str


class Basis(Struct, tag="decision.made"):
    """The fields that a decision rests on; all others must follow from them.

    It is decoded without the checks of ``schemas``, because the recomputed decision is compared with all that was
    written."""

    symbol: str
    interval_ms: int
    open_time: int
    origin: Origin
    control_version: int
    control_head: str
    counted: list[_Cast]
    absent: list[_Absent]
    shadow: list[_Cast]
    closed_by: ClosedBy
    intent: str
    decided_at: int | None = None


class _Late(Struct, tag="ballot.late"):
    """An event that is not a decision."""


_basis: Final = msgspec.json.Decoder(Basis | _Late | FenceClosed | FenceOpened).decode


def round_of(decision: Basis | DecisionMade, correlation: bytes = b"", flags: int = 0) -> Round:
    """Return the round that a decision claims to have decided."""
    ballots: dict[ArtifactKey, Ballot] = {}
    for ballot in decision.counted:
        ballots[ballot.model, ballot.artifact] = Ballot(ballot.event, ballot.probabilities, "")
    for absent in decision.absent:
        ballots[absent.model, absent.artifact] = Ballot(absent.event, None, absent.reason)
    for shadow in decision.shadow:
        ballots[shadow.model, shadow.artifact] = Ballot(shadow.event, shadow.probabilities, "")
    series = (decision.symbol, decision.interval_ms)
    return Round(series, decision.open_time, decision.origin, correlation, flags, "", None, ballots)


def recompute(configuration: Configuration, decision: Basis | DecisionMade, *, halted: bool = False) -> DecisionMade:
    """Return the decision that follows from the ballots in ``decision``.

    ``halted`` is True where the fence was closed at its position."""
    recorded = decision.decided_at
    now = STALE if recorded is None and decision.intent == "stale" else recorded
    state, panel = configuration
    decision_made = decision_of(state, panel, round_of(decision), decision.closed_by, now, halted=halted)
    return (
        decision_made if decision_made.decided_at == recorded else structs.replace(decision_made, decided_at=recorded)
    )


def configuration_fault(configurations: Configurations, decision: Basis | DecisionMade) -> str:
    """Return how a decision contradicts the control log; empty where it does not."""
    configuration = configurations.at(decision.control_version)
    if configuration is None:
        newest = configurations.newest.version
        return f"made under version {decision.control_version}; the control log ends at {newest}"
    if configuration.state.head != decision.control_head:
        heads = f"{decision.control_head[:12]} was recorded, {configuration.state.head[:12]} is the control log's"
        return f"head of version {decision.control_version}: {heads}"
    return ""


def check_votes(source: Recording, configurations: Configurations, partition: int, span: EntryRange) -> Findings:
    """Check every decision and intent of a partition within ``span``."""
    findings = Findings()
    place = StreamKey(DECISIONS, partition)
    intents = _Intents(source, partition, span, findings)
    fence = Fence(configurations)
    if span.after != START:
        fence.replay(source.entries(place, START, span.after))
    seen = equal = 0
    for entry in source.entries(place, span.after, span.until):
        try:
            frame = framed(DECISIONS, entry.data)
            basis = _basis(frame.payload)
        except (UnreadableError, *UNDECODABLE) as error:
            findings.differ(Difference("vote", DECISIONS, partition, entry.id, "", str(error)[:500]))
            continue
        if not isinstance(basis, Basis):
            wrong: Fault = ("vote", frame.fault) if frame.fault else None
            if isinstance(basis, FenceClosed | FenceOpened):
                detail = fence.mark(basis, entry.id, findings)
                wrong = wrong or (("intent", detail) if detail else None)
                findings.see("fence marks", equal=wrong is None)
            if wrong is not None:
                findings.differ(Difference(wrong[0], DECISIONS, partition, entry.id, frame.id.hex(), wrong[1]))
            continue
        seen += 1
        halted = fence.closed
        if not fence.marked and basis.intent == "halted":
            configuration = configurations.at(basis.control_version)
            if configuration is not None and not configuration.state.halted:
                findings.skip("intents: halted before the first mark of the fence, which counts as open")
                halted = True
        right, fault = _follows(configurations, frame, basis, halted=halted)
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
    intents.end({frame.id.hex() for frame in _frames(beyond(source, partition))})
    return findings


def fault_of(configurations: Configurations, data: bytes) -> Fault:
    """Return what in one recorded decision does not follow; None where all of it does.

    A decision alone does not show whether the fence was closed at its position: a halted one may have been halted by
    it."""
    frame = framed(DECISIONS, data)
    basis = _basis(frame.payload)
    if not isinstance(basis, Basis):
        return None
    return _follows(configurations, frame, basis, halted=basis.intent == "halted")[1]


def _frames(entries: Iterator[Entry]) -> Iterator[Framed]:
    for entry in entries:
        with contextlib.suppress(UnreadableError):
            yield framed(DECISIONS, entry.data)


def _follows(
    configurations: Configurations, frame: Framed, basis: Basis, *, halted: bool
) -> tuple[DecisionMade | None, Fault]:
    """Return the recomputed decision, and what in the recorded one does not follow."""
    if frame.fault:
        return None, ("vote", frame.fault)
    wrong = configuration_fault(configurations, basis)
    if wrong:
        return None, ("configuration", wrong)
    configuration = configurations.at(basis.control_version)
    assert configuration is not None
    right = recompute(configuration, basis, halted=halted)
    if payload_of(DECISIONS, right) != frame.payload:
        recorded = _as_written(frame)
        if recorded != right:
            layer: Layer = "intent" if isinstance(recorded, DecisionMade) and _only_intent(recorded, right) else "vote"
            return right, (layer, differences(recorded, right) if isinstance(recorded, DecisionMade) else recorded)
    if causation_of(right, frame.correlation) != frame.causation:
        return right, ("vote", "its cause is not its first ballot")
    return right, None


def _as_written(frame: Framed) -> DecisionMade | str:
    """Return the recorded decision in full, or why it cannot be read.

    Another release may write the same decision in other bytes."""
    try:
        return msgspec.json.decode(frame.payload, type=DecisionMade)
    except UNDECODABLE as error:
        return f"it cannot be read: {error}"


def _only_intent(decision: DecisionMade, right: DecisionMade) -> bool:
    """Return whether two decisions differ in nothing but the status of the intent."""
    return structs.replace(decision, intent=right.intent) == right


class _Intents:
    """Compare the intents of a partition with the decisions that issued them, in order."""

    def __init__(self, source: Recording, partition: int, span: EntryRange, findings: Findings) -> None:
        self._partition = partition
        self._entries = source.entries(StreamKey(INTENTS, partition), span.after)
        self._span = span
        self._findings = findings
        # Intents read ahead: entry, frame, and the id of the decision that the intent names.
        self._ahead: list[tuple[Entry, Framed, str]] = []
        self._aligned = span.after == START

    def expect(
        self, configurations: Configurations, entry: Entry, event: str, basis: Basis, right: DecisionMade | None
    ) -> None:
        """Compare the intent of the next decision, where it issued one."""
        if basis.intent != "issued":
            return
        intent = self._take(event)
        configuration = configurations.at(basis.control_version)
        if right is None or right.intent != "issued" or configuration is None:
            return
        expected = intent_of(configuration.panel, right, event)
        if intent is None:
            where: tuple[Layer, str, int, str, str] = ("intent", DECISIONS, self._partition, entry.id, event)
            about = (basis.symbol, basis.open_time, True)
            self._findings.differ(Difference(*where, "its intent is not on the stream", *about))
        elif not intent[1].fault and (
            payload_of(INTENTS, expected) == intent[1].payload or _read(intent[0]).envelope.event == expected
        ):
            self._findings.see("intents")
            return
        else:
            self._add_fault(intent, intent[1].fault or "the intent is not that of its decision")
        self._findings.see("intents", equal=False)

    def _add_fault(self, intent: tuple[Entry, Framed, str], detail: str) -> None:
        entry, frame, _ = intent
        self._findings.differ(Difference("intent", INTENTS, self._partition, entry.id, frame.id.hex(), detail))

    def _take(self, decision: str) -> tuple[Entry, Framed, str] | None:
        """Return the intent of a decision: the next one, or the one after an intent that no decision issued."""
        for place in range(2):
            if self._peek(place) == decision:
                for stray in self._ahead[:place]:
                    self._stray(stray)
                intent = self._ahead[place]
                self._ahead = self._ahead[place + 1 :]
                self._aligned = True
                return intent
        return self._seek(decision) if not self._aligned else None

    def _seek(self, decision: str) -> tuple[Entry, Framed, str] | None:
        """Skip the intents of decisions before the range, at its start."""
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
            except (UnreadableError, *UNDECODABLE) as error:
                self._findings.differ(Difference("intent", INTENTS, self._partition, entry.id, "", str(error)[:500]))
                continue
            self._ahead.append((entry, frame, named))
        return self._ahead[place][2]

    def _stray(self, intent: tuple[Entry, Framed, str]) -> None:
        if self._aligned:
            self._add_fault(intent, intent[1].fault or "an intent that no decision issued")

    def end(self, later: Set[str]) -> None:
        """Record a fault for each remaining intent without a decision. ``later``: ids of decisions that were made since
        the cut."""
        while self._peek(0) is not None and self._span.holds(self._ahead[0][0].id):
            intent = self._ahead.pop(0)
            if intent[2] not in later:
                self._stray(intent)


class _Named(Struct, tag="trade.intent"):
    """The decision that an intent names."""

    decision: str


_named: Final = msgspec.json.Decoder(_Named).decode


def _read(entry: Entry) -> Opened:
    return opened(INTENTS, entry.data)
