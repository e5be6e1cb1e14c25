"""The layer of gates: the gate-evaluator again over the recorded scores.

Its core is handed in. A command is handed to it before the first score of a decision under that version; it
may have seen it some scores earlier. So events that tell the newest version it knew are compared without
that version.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from msgspec import structs

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from shared.audit.findings import Findings
from shared.audit.source import PAGE, Read, Source, Span, difference, readable
from shared.log import Place
from shared.service import Batch, Received, Service


def check_gates(
    source: Source, evaluator: Service[Any], control: Sequence[Envelope[CommandRecorded]], partition: int, span: Span
) -> Findings:
    """Every verdict, guard and proposal of a partition within ``span``."""
    findings = Findings()
    place, scores = Place("gates", partition), Place("scores", partition)
    if not source.whole(scores):
        findings.skip("gates: the first scores are trimmed and not archived")
        return findings
    recorded = (read for read in readable(source, place, "gate", findings, span))
    state = evaluator.begin(b"")
    version = 0
    followed = []
    pending: list[Read] = []
    reads = readable(source, scores, "gate", findings, span)
    while page := list(islice(reads, PAGE)):
        for read in page:
            wanted = max(version, _version(read))
            if wanted > len(control):
                findings.skip(f"gates: scores under version {wanted}, which the control log does not make")
                return findings
            new, version = control[version:wanted], wanted
            outputs = evaluator.handle(state, Batch(new, [Received("scores", read.entry, read.found.envelope)]))
            followed += [sealed for sealed in outputs if sealed.stream == "gates"]
        for sealed in followed:
            pending.extend(islice(recorded, 1))
            if not pending:
                return findings  # the evaluator has not come that far
            found = pending.pop(0)
            if not span.holds(found.entry):
                continue
            equal = _plain(found.found.envelope.event) == _plain(sealed.envelope.event)
            findings.see("gates", equal=equal and not found.found.fault)
            if not equal and not found.found.fault:
                detail = f"{found.found.envelope.event!r} recorded, {sealed.envelope.event!r} follows"
                findings.differ(difference("gate", place, found.entry, found.found, detail))
        followed = []
    for found in recorded:
        if not found.found.fault:
            findings.differ(difference("gate", place, found.entry, found.found, "nothing follows from the scores here"))
    return findings


def _version(read: Read) -> int:
    return int(getattr(read.found.envelope.event, "control_version", 0))


def _plain(event: Any) -> Any:
    """An event without what depends on how soon a command was seen."""
    if type(event).__name__ in {"GuardTripped", "WeightsProposed"}:
        return structs.replace(event, control_version=0)
    if type(event).__name__ == "ActionDue":
        return structs.replace(event, control_version=0, evidence="0" * 32)
    return event
