"""The layer of gates: run the gate-evaluator again over the recorded scores and over the recorded vectors.

Its core is passed in. Its events about inputs follow from ``features`` alone and all others from ``scores`` alone, each
in order and under their stamps. So the two are recomputed one after the other and compared to the byte. An event that
differs, is missing or is at another position is a difference.

Where the first vectors of a partition carry no stamp, a release served it that did not record the order of commands and
bars. Its gate events, and evidence that a later release continued, need not follow from the records. Differences there
count as not recomputed.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from msgspec import Struct, field, structs

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded
from schemas.gates import InputsDrifted
from shared.audit.comparison import Comparison
from shared.audit.findings import Findings
from shared.audit.source import EntryRange, ReadEvent, Recording, difference, readable
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service

UNSTAMPED: Final = "gates: evidence of a release that did not record the order of commands and bars"
TRIMMED: Final = "gates: the first {} are trimmed and not archived"
Subject = tuple[str, str, str]
"""What an event is about: its type, a model and an artifact."""


class GateCheck(Struct):
    """The check of one partition. ``excuse`` is the reason why a differing event counts as not recomputed; empty: it is
    a difference."""

    source: Recording
    evaluator: Service[Any]
    control: Sequence[Envelope[CommandRecorded]]
    partition: int
    span: EntryRange
    findings: Findings = field(default_factory=Findings)
    excuse: str = ""

    @property
    def compared(self) -> Comparison:
        """The stream that is checked."""
        return Comparison("gates", StreamKey("gates", self.partition), self.span, self.findings)


def check_gates(
    source: Recording,
    evaluator: Service[Any],
    control: Sequence[Envelope[CommandRecorded]],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Check every verdict, guard, proposal and drift of a partition within ``span``."""
    check = GateCheck(source, evaluator, control, partition, span)
    recorded = list(readable(source, check.compared.place, "gate", check.findings, span))
    if recorded:
        inputs = [read for read in recorded if isinstance(read.opened.envelope.event, InputsDrifted)]
        _check_inputs(check, inputs)
        _check_scores(check, [read for read in recorded if not isinstance(read.opened.envelope.event, InputsDrifted)])
    return check.findings


def _check_inputs(check: GateCheck, recorded: Sequence[ReadEvent]) -> None:
    """Check the events that follow from vectors. Record whether gate events of this partition are excused."""
    if not check.source.whole(StreamKey("features", check.partition)):
        check.excuse = TRIMMED.format("vectors")
        for _ in _within(check, recorded):
            check.findings.skip(check.excuse)
        return
    older = False

    def watched() -> Iterator[ReadEvent]:
        nonlocal older
        for read in _read(check, "features", Findings()):  # whether a vector is what it should be: another layer
            older = older or getattr(read.opened.envelope.event, "control_head", None) is None
            yield read

    replayed = list(_replay(check, "features", watched()))
    check.excuse = UNSTAMPED if older else check.excuse
    _compare(check, recorded, replayed)
    check.excuse = UNSTAMPED if older else ""


def _check_scores(check: GateCheck, recorded: Sequence[ReadEvent]) -> None:
    """Check the events that follow from scores."""
    if not check.source.whole(StreamKey("scores", check.partition)):
        for _ in _within(check, recorded):
            check.findings.skip(TRIMMED.format("scores"))
        return
    _compare(check, recorded, _replay(check, "scores", _read(check, "scores", check.findings)))


def _read(check: GateCheck, stream: str, findings: Findings) -> Iterator[ReadEvent]:
    return readable(check.source, StreamKey(stream, check.partition), "gate", findings, check.span)


def _within(check: GateCheck, reads: Iterable[ReadEvent]) -> Iterator[ReadEvent]:
    return (read for read in reads if check.span.holds(read.entry))


def _replay(check: GateCheck, stream: str, reads: Iterator[ReadEvent]) -> Iterator[Encoded]:
    """Yield what the evaluator writes over one stream, in order.

    It receives all commands first: each event is handled under its stamp, so later commands have no effect on it."""
    state = check.evaluator.initial(b"")
    check.evaluator.apply(state, Batch(check.control, ()))
    for read in reads:
        version = getattr(read.opened.envelope.event, "control_version", 0)
        if version > len(check.control):
            check.excuse = f"gates: {stream} under a version that the control log does not make"
            check.findings.skip(check.excuse)
            return
        yield from check.evaluator.handle(state, Batch((), [Received(stream, read.entry, read.opened.envelope)]))


def _compare(check: GateCheck, recorded: Sequence[ReadEvent], replayed: Iterable[Encoded]) -> None:
    """Match recomputed events with recorded ones by their bytes.

    A recomputed event after the last match is not missing: the evaluator had not reached it yet."""
    numbers = {read.data: number for number, read in reversed(list(enumerate(recorded)))}
    matched: set[int] = set()
    omitted: list[tuple[Encoded, ReadEvent]] = []
    pending: list[Encoded] = []
    leading = not check.source.whole(check.compared.place)  # what was trimmed is not missing
    newest = -1
    for encoded in replayed:
        number = numbers.get(encoded.data)
        if number is None or number in matched:
            pending.append(encoded)
            continue
        matched.add(number)
        _see(check, recorded[number], "" if number > newest else "it is recorded after events that follow later")
        if not leading:
            omitted += [(each, recorded[number]) for each in pending]
        pending, leading, newest = [], False, max(newest, number)
    _differ(check, [read for number, read in enumerate(recorded) if number not in matched], omitted, pending)


def _differ(
    check: GateCheck,
    unmatched: Sequence[ReadEvent],
    omitted: Sequence[tuple[Encoded, ReadEvent]],
    pending: Sequence[Encoded],
) -> None:
    """Pair each unmatched recorded event with an unmatched recomputed one of the same subject, and record the
    differences."""
    waiting: dict[Subject, list[Encoded]] = {}
    for encoded in chain((each for each, _ in omitted), pending):
        waiting.setdefault(_subject(encoded.envelope.event), []).append(encoded)
    for read in unmatched:
        event = read.opened.envelope.event
        pair = waiting.get(_subject(event), [])
        right = pair.pop(0).envelope.event if pair else None
        follows = f"{right!r} follows" if right != event else "the same follows from another event"
        _see(check, read, f"{event!r} recorded, {follows}" if right is not None else "no event follows here")
    for encoded, following in omitted:
        unpaired = encoded in waiting.get(_subject(encoded.envelope.event), [])
        if unpaired and check.span.holds(following.entry) and not check.excuse:
            detail = f"an event that follows before it was not recorded: {encoded.envelope.event!r}"
            lost = difference("gate", check.compared.place, following.entry, following.opened, detail)
            check.findings.differ(structs.replace(lost, missing=True))


def _see(check: GateCheck, read: ReadEvent, fault: str) -> None:
    """Count a recorded event, as equal where there is no fault."""
    if fault and check.excuse:
        if check.span.holds(read.entry):
            check.findings.skip(check.excuse)
    else:
        check.compared.count("gate", read, fault)


def _subject(event: Any) -> Subject:
    return type(event).__name__, getattr(event, "model", ""), getattr(event, "artifact", "")
