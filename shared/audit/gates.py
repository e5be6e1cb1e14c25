"""The layer of gates: the gate-evaluator again over the recorded scores and vectors.

Its core is handed in. A command is handed to it before the first score of a decision under that version; it
may have seen it some entries earlier. So events that tell the newest version it knew are compared without
that version, and what it says of inputs, which depends on the vector at which it began, counts as not
recomputed where it differs.
"""

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Any

from msgspec import structs

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from shared.audit.findings import Findings
from shared.audit.source import Read, Source, Span, difference, order, readable
from shared.log import Place
from shared.service import Batch, Received, Service

Subject = tuple[str, str, str]
"""What an event is about: its type, a model and an artifact. Events about one thing come in one order."""


def check_gates(
    source: Source, evaluator: Service[Any], control: Sequence[Envelope[CommandRecorded]], partition: int, span: Span
) -> Findings:
    """Every verdict, guard and proposal of a partition within ``span``."""
    findings = Findings()
    place = Place("gates", partition)
    recorded: dict[Subject, list[Read]] = {}
    for read in readable(source, place, "gate", findings, span):
        recorded.setdefault(_subject(read.found.envelope.event), []).append(read)
    if not recorded:
        return findings
    if not source.whole(Place("scores", partition)):
        findings.skip("gates: the first scores are trimmed and not archived")
        return findings
    for event in _follow(source, evaluator, control, partition, span, findings):
        waiting = recorded.get(_subject(event))
        if waiting:
            _held(findings, place, span, waiting.pop(0), event)
    if not findings.unchecked:
        for read in (read for reads in recorded.values() for read in reads):
            if not read.found.fault and span.holds(read.entry):
                _unequal(findings, place, read, "nothing follows from the scores here")
    return findings


def _follow(
    source: Source,
    evaluator: Service[Any],
    control: Sequence[Envelope[CommandRecorded]],
    partition: int,
    span: Span,
    findings: Findings,
) -> Iterator[Any]:
    """What the evaluator writes, in order."""
    state = evaluator.begin(b"")
    first = next(readable(source, Place("scores", partition), "gate", Findings(), span), None)
    version = min(_version(first), len(control)) if first is not None else 0
    evaluator.absorb(state, Batch(control[:version], ()))
    streams = [_ordered(source, stream, partition, span, findings) for stream in evaluator.reads]
    for _, stream, read in merge(*streams, key=lambda one: one[:2]):
        wanted = max(version, _version(read)) if stream == "scores" else version
        if wanted > len(control):
            findings.skip(f"gates: scores under version {wanted}, which the control log does not make")
            return
        new, version = control[version:wanted], wanted
        outputs = evaluator.handle(state, Batch(new, [Received(stream, read.entry, read.found.envelope)]))
        yield from (sealed.envelope.event for sealed in outputs if sealed.stream == "gates")


def _ordered(
    source: Source, stream: str, partition: int, span: Span, findings: Findings
) -> Iterator[tuple[tuple[int, int], str, Read]]:
    """Scores are this layer's own; whether a vector is what it should be is another's question."""
    into = findings if stream == "scores" else Findings()
    for read in readable(source, Place(stream, partition), "gate", into, span):
        yield order(read.entry), stream, read


def _held(findings: Findings, place: Place, span: Span, read: Read, right: Any) -> None:
    if not span.holds(read.entry):
        return
    said = read.found.envelope.event
    if read.found.fault:
        findings.see("gates", equal=False)
    elif _plain(said) == _plain(right):
        findings.see("gates")
    elif type(said).__name__ == "InputsDrifted":
        findings.skip("gates: what is said of inputs, which depends on when a command was seen")
    else:
        _unequal(findings, place, read, f"{said!r} recorded, {right!r} follows")


def _unequal(findings: Findings, place: Place, read: Read, detail: str) -> None:
    findings.see("gates", equal=False)
    findings.differ(difference("gate", place, read.entry, read.found, detail))


def _subject(event: Any) -> Subject:
    return type(event).__name__, getattr(event, "model", ""), getattr(event, "artifact", "")


def _version(read: Read) -> int:
    return int(getattr(read.found.envelope.event, "control_version", 0))


def _plain(event: Any) -> Any:
    """An event without what depends on how soon a command or a vector was seen: the newest version known, the id
    of an event that says it, and the gate of inputs, which decides no outcome."""
    if type(event).__name__ == "VerdictReached":
        return structs.replace(event, gates=tuple(gate for gate in event.gates if gate.name != "input_drift"))
    if type(event).__name__ in {"EvidenceRestarted", "InputsDrifted"}:
        return event
    fields = {"control_version": 0, "evidence": "0" * 32}
    return structs.replace(event, **{name: value for name, value in fields.items() if hasattr(event, name)})
