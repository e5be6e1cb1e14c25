"""The layer of gates: the gate-evaluator again over the recorded scores, and again over the recorded vectors.

Its core is handed in. What it writes of inputs follows from ``features`` alone, everything else from ``scores``
alone, each in its order and under its stamps. So the two are recomputed one after the other, and what was recorded
is compared to the byte: an event that differs, one that is missing and one that stands elsewhere are differences.

A partition whose first vectors carry no stamp was served by a release that did not record the order of commands and
bars. What it wrote, and evidence that it left to a later release, need not follow from what is recorded: there, what
differs counts as not recomputed.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from msgspec import Struct, field, structs

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded
from schemas.gates import InputsDrifted
from shared.audit.findings import Findings
from shared.audit.source import EntryRange, ReadEvent, Recording, difference, readable
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service

UNSTAMPED: Final = "gates: evidence of a release that did not record the order of commands and bars"
TRIMMED: Final = "gates: the first {} are trimmed and not archived"
Subject = tuple[str, str, str]
"""What an event is about: its type, a model and an artifact."""


class Gates(Struct):
    """One partition's check. ``excuse``: why an event that differs counts as not recomputed; empty: it differs."""

    source: Recording
    evaluator: Service[Any]
    control: Sequence[Envelope[CommandRecorded]]
    partition: int
    span: EntryRange
    findings: Findings = field(default_factory=Findings)
    excuse: str = ""

    @property
    def place(self) -> StreamKey:
        """The stream that is checked."""
        return StreamKey("gates", self.partition)


def check_gates(
    source: Recording,
    evaluator: Service[Any],
    control: Sequence[Envelope[CommandRecorded]],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Every verdict, guard, proposal and drift of a partition within ``span``."""
    check = Gates(source, evaluator, control, partition, span)
    recorded = list(readable(source, check.place, "gate", check.findings, span))
    if recorded:
        inputs = [read for read in recorded if isinstance(read.found.envelope.event, InputsDrifted)]
        _check_inputs(check, inputs)
        _check_scores(check, [read for read in recorded if not isinstance(read.found.envelope.event, InputsDrifted)])
    return check.findings


def _check_inputs(check: Gates, recorded: Sequence[ReadEvent]) -> None:
    """What follows from the vectors. Notes whether the evidence in this partition may be excused."""
    if not check.source.whole(StreamKey("features", check.partition)):
        check.excuse = TRIMMED.format("vectors")
        for _ in _within(check, recorded):
            check.findings.skip(check.excuse)
        return
    older = False

    def watched() -> Iterator[ReadEvent]:
        nonlocal older
        for read in _read(check, "features", Findings()):  # whether a vector is what it should be: another layer
            older = older or getattr(read.found.envelope.event, "control_head", None) is None
            yield read

    replayed = list(_replay(check, "features", watched()))
    check.excuse = UNSTAMPED if older else check.excuse
    _compare(check, recorded, replayed)
    check.excuse = UNSTAMPED if older else ""


def _check_scores(check: Gates, recorded: Sequence[ReadEvent]) -> None:
    """What follows from the scores."""
    if not check.source.whole(StreamKey("scores", check.partition)):
        for _ in _within(check, recorded):
            check.findings.skip(TRIMMED.format("scores"))
        return
    _compare(check, recorded, _replay(check, "scores", _read(check, "scores", check.findings)))


def _read(check: Gates, stream: str, findings: Findings) -> Iterator[ReadEvent]:
    return readable(check.source, StreamKey(stream, check.partition), "gate", findings, check.span)


def _within(check: Gates, reads: Iterable[ReadEvent]) -> Iterator[ReadEvent]:
    return (read for read in reads if check.span.holds(read.entry))


def _replay(check: Gates, stream: str, reads: Iterator[ReadEvent]) -> Iterator[Encoded]:
    """What the evaluator writes over one stream, in order. It is handed all commands first: an event is handled under
    its stamp, whatever came later."""
    state = check.evaluator.initial(b"")
    check.evaluator.apply(state, Batch(check.control, ()))
    for read in reads:
        version = getattr(read.found.envelope.event, "control_version", 0)
        if version > len(check.control):
            check.excuse = f"gates: {stream} under a version that the control log does not make"
            check.findings.skip(check.excuse)
            return
        yield from check.evaluator.handle(state, Batch((), [Received(stream, read.entry, read.found.envelope)]))


def _compare(check: Gates, recorded: Sequence[ReadEvent], replayed: Iterable[Encoded]) -> None:
    """Match what follows with what was recorded, by bytes. What follows after the last match is not missing: the
    evaluator had not got there yet."""
    numbers = {read.data: number for number, read in reversed(list(enumerate(recorded)))}
    matched: set[int] = set()
    omitted: list[tuple[Encoded, ReadEvent]] = []
    pending: list[Encoded] = []
    leading = not check.source.whole(check.place)  # what was trimmed is not missing
    newest = -1
    for sealed in replayed:
        number = numbers.get(sealed.data)
        if number is None or number in matched:
            pending.append(sealed)
            continue
        matched.add(number)
        _see(check, recorded[number], "" if number > newest else "it stands after what follows later")
        if not leading:
            omitted += [(each, recorded[number]) for each in pending]
        pending, leading, newest = [], False, max(newest, number)
    _differ(check, [read for number, read in enumerate(recorded) if number not in matched], omitted, pending)


def _differ(
    check: Gates,
    unmatched: Sequence[ReadEvent],
    omitted: Sequence[tuple[Encoded, ReadEvent]],
    pending: Sequence[Encoded],
) -> None:
    """Pair each recorded event that does not follow with one of the same subject that does and was not recorded."""
    waiting: dict[Subject, list[Encoded]] = {}
    for sealed in chain((each for each, _ in omitted), pending):
        waiting.setdefault(_subject(sealed.envelope.event), []).append(sealed)
    for read in unmatched:
        event = read.found.envelope.event
        pair = waiting.get(_subject(event), [])
        right = pair.pop(0).envelope.event if pair else None
        follows = f"{right!r} follows" if right != event else "the same follows from another event"
        _see(check, read, f"{event!r} recorded, {follows}" if right is not None else "nothing follows here")
    for sealed, following in omitted:
        unpaired = sealed in waiting.get(_subject(sealed.envelope.event), [])
        if unpaired and check.span.holds(following.entry) and not check.excuse:
            detail = f"before it follows what was not recorded: {sealed.envelope.event!r}"
            lost = difference("gate", check.place, following.entry, following.found, detail)
            check.findings.differ(structs.replace(lost, missing=True))


def _see(check: Gates, read: ReadEvent, fault: str) -> None:
    """Count a recorded event: as equal where there is no fault."""
    if not check.span.holds(read.entry):
        return
    if fault and check.excuse:
        check.findings.skip(check.excuse)
        return
    check.findings.see("gates", equal=not fault and not read.found.fault)
    if fault and not read.found.fault:  # a fault of its frame was noted as it was read
        check.findings.differ(difference("gate", check.place, read.entry, read.found, fault))


def _subject(event: Any) -> Subject:
    return type(event).__name__, getattr(event, "model", ""), getattr(event, "artifact", "")
