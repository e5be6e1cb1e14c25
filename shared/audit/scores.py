"""The layer of scores: the shadow-recorder again over bars, predictions, decisions and trades.

Its core is handed in. A score is a function of the events behind it and not of the order in which streams were read, so
what is compared is which scores there are: each by the prediction, decision or trade that it is about, and its content
to the bit. One that is not there is a fault once the recorder has come further with the same artifact and symbol.
Not checked: scores of a release whose events carry no stamps, and a trade that found its decision no more, which
depends on how many decisions had been read by then.
"""

from collections.abc import Sequence
from typing import Any, Final

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded
from schemas.scores import BallotMissing, InterferenceChecked, PredictionScored, PredictionUnscored, TradeJoined
from shared.audit.findings import Difference, Findings
from shared.audit.joining import JoinedScore
from shared.audit.source import END, EntryRange, ReadEvent, Recording, difference, readable
from shared.log import START, StreamKey
from shared.runtime.service import Service

READ: Final = ("market", "predictions", "decisions")
SETTLED_BARS: Final = 256
"""After so many bars more of the same kind, artifact and symbol, what is not there will not come."""
ABANDONED_BARS: Final = 4096
"""After so many bars more of anything about the symbol."""

Name = tuple[str, bytes, bytes]
"""The kind of a score, what it is about, and the artifact."""
Line = tuple[str, bytes, str, int]
"""Scores that come in the order of bars: kind, artifact, symbol, interval."""


def check_scores(
    source: Recording,
    recorder: Service[Any],
    control: Sequence[Envelope[CommandRecorded]],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Every score of a partition within ``span``."""
    findings = Findings()
    place = StreamKey("scores", partition)
    if next(iter(source.entries(place)), None) is None:
        return findings
    why = _unchecked(source, partition)
    if why:
        findings.skip(why, sum(1 for _ in source.entries(place)))
        return findings
    _Comparison(source, partition, span, findings).run(
        JoinedScore(source, recorder, control, partition, span, findings)
    )
    return findings


def _unchecked(source: Recording, partition: int) -> str:
    """Why scores cannot be recomputed; empty where they can."""
    for stream in READ:
        if not source.whole(StreamKey(stream, partition)):
            return f"scores: the first entries of {stream} are trimmed and not archived"
    for read in readable(source, StreamKey("predictions", partition), "score", Findings(), EntryRange(END)):
        if read.found.envelope.event.control_head is None:
            return "scores: of a release that wrote no stamps"
        break
    return ""


class _Comparison:
    def __init__(self, source: Recording, partition: int, span: EntryRange, findings: Findings) -> None:
        self.place = StreamKey("scores", partition)
        self.recorded = readable(source, self.place, "score", findings, span)
        self.span, self.findings = span, findings
        self.ahead: dict[Name, ReadEvent] = {}
        self.missing: dict[Name, Encoded] = {}
        self.lines: dict[Line, int] = {}
        self.series: dict[tuple[str, int], int] = {}

    def run(self, joined: JoinedScore) -> None:
        try:
            for sealed in joined.outputs():
                if sealed.stream == "scores":
                    self._follows(sealed)
        except (LookupError, ValueError, ArithmeticError) as error:
            self.findings.skip(f"scores: the recorder cannot take in what is recorded: {type(error).__name__}: {error}")
            return
        while self._read():
            pass
        for name, read in self.ahead.items():
            right = self.missing.pop(name, None)
            if right is not None:
                self._held(read, right)
            elif not read.found.fault:
                self._differ(read, "nothing follows from the bars, predictions and decisions here")
        if self.span == EntryRange(START, self.span.until):
            self._absent()

    def _follows(self, right: Encoded) -> None:
        """A score that follows, against the recorded one: the next on the stream as a rule."""
        name = _name(right.envelope.event)
        while name not in self.ahead and len(self.ahead) < SETTLED_BARS:
            if not self._read():
                break
        read = self.ahead.pop(name, None)
        if read is None:
            self.missing[name] = right
        else:
            self._held(read, right)

    def _read(self) -> bool:
        read = next(self.recorded, None)
        if read is None:
            return False
        event = read.found.envelope.event
        name = _name(event)
        if not read.found.fault:
            line, series = _line(event), (event.symbol, event.interval_ms)
            self.lines[line] = max(self.lines.get(line, 0), event.open_time)
            self.series[series] = max(self.series.get(series, 0), event.open_time)
        right = self.missing.pop(name, None)
        if right is not None:
            self._held(read, right)
        elif name in self.ahead and not read.found.fault:
            self._differ(read, "this was scored before")
        else:
            self.ahead[name] = read
        return True

    def _held(self, read: ReadEvent, right: Encoded) -> None:
        if not self.span.holds(read.entry):
            return
        said, follows = read.found.envelope.event, right.envelope.event
        if read.data == right.data:
            self.findings.see("scores")
        elif read.found.fault:
            self.findings.see("scores", equal=False)
        elif isinstance(said, TradeJoined) and isinstance(follows, TradeJoined) and said.joined != follows.joined:
            self.findings.skip("scores: a trade and its decision, which were read too far apart by one of the two")
        else:
            self._differ(read, _told(said, follows))

    def _absent(self) -> None:
        """Scores that follow and are not there, though the recorder has come further."""
        for right in self.missing.values():
            event = right.envelope.event
            bars = (self.lines.get(_line(event), 0) - event.open_time) / event.interval_ms
            others = (self.series.get((event.symbol, event.interval_ms), 0) - event.open_time) / event.interval_ms
            least = 0 if isinstance(event, PredictionScored) else SETTLED_BARS
            if bars > least or others > ABANDONED_BARS:
                about = _about(event)
                detail = f"{type(event).__name__} about {about.hex()[:12]} follows and is not there"
                where = (self.place.stream, self.place.partition, "", about.hex())
                self.findings.see("scores", equal=False)
                self.findings.differ(Difference("score", *where, detail, event.symbol, event.open_time, missing=True))

    def _differ(self, read: ReadEvent, detail: str) -> None:
        if self.span.holds(read.entry):
            self.findings.see("scores", equal=False)
            self.findings.differ(difference("score", self.place, read.entry, read.found, detail))


def _about(event: Any) -> bytes:
    """The event that a score is about."""
    match event:
        case PredictionScored() | PredictionUnscored():
            return event.prediction
        case BallotMissing() | InterferenceChecked():
            return event.decision
        case _:
            trade: bytes = event.trade
            return trade


def _name(event: Any) -> Name:
    return type(event).__name__, _about(event), getattr(event, "artifact", b"")


def _line(event: Any) -> Line:
    return type(event).__name__, getattr(event, "artifact", b""), event.symbol, event.interval_ms


def _told(said: Any, follows: Any) -> str:
    names = [name for name in said.__struct_fields__ if getattr(said, name) != getattr(follows, name)]
    pairs = [f"{name}: {getattr(said, name)!r} recorded, {getattr(follows, name)!r} follows" for name in names]
    return "; ".join(pairs) or "its envelope is not the one that follows"
