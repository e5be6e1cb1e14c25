"""The layer of scores: run the shadow-recorder again over bars, predictions, decisions and trades.

Its core is passed in. A score depends on the events that it is computed from and not on the order in which streams were
read. So the set of scores is compared: each is identified by the prediction, decision or trade that it is about, and
its content is compared to the bit. A score that is not recorded is a fault once the recorder has scored later bars of
the same artifact and symbol.

Scores before the first one with prices are of a release that did not record them. They are compared without.

Not checked: scores of a release whose events carry no stamps, and whether a trade still found its decision, which
depends on how many decisions had been read by then.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

from schemas.codec import Encoded, Envelope, encode
from schemas.control import CommandRecorded
from schemas.scores import BallotMissing, InterferenceChecked, PredictionScored, PredictionUnscored, TradeJoined
from shared.audit.comparison import Comparison, differences
from shared.audit.findings import Difference, Findings
from shared.audit.joining import JoinedReplay
from shared.audit.source import END, EntryRange, ReadEvent, Recording, readable
from shared.log import START, StreamKey
from shared.log.leases import id_order
from shared.runtime.service import Service

READ: Final = ("market", "predictions", "decisions")
SETTLED_BARS: Final = 256
"""After this many further bars of the same kind, artifact and symbol, a missing score will not be written."""
ABANDONED_BARS: Final = 4096
"""After this many further bars of anything about the symbol, a missing score will not be written."""

ScoreKey = tuple[str, bytes, bytes]
"""The kind of a score, the event that it is about, and the artifact."""
ScoreLine = tuple[str, bytes, str, int]
"""Scores that are written in the order of bars: kind, artifact, symbol, interval."""


def check_scores(
    source: Recording,
    recorder: Service[Any],
    control: Sequence[Envelope[CommandRecorded]],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Check every score of a partition within ``span``."""
    findings = Findings()
    place = StreamKey("scores", partition)
    if next(iter(source.entries(place)), None) is None:
        return findings
    why = _unchecked(source, partition)
    if why:
        findings.skip(why, sum(1 for _ in source.entries(place)))
        return findings
    _Comparison(source, partition, span, findings).run(
        JoinedReplay(source, recorder, control, partition, span, findings)
    )
    return findings


def _unchecked(source: Recording, partition: int) -> str:
    """Return why scores cannot be recomputed; empty where they can."""
    for stream in READ:
        if not source.whole(StreamKey(stream, partition)):
            return f"scores: the first entries of {stream} are trimmed and not archived"
    for read in readable(source, StreamKey("predictions", partition), "score", Findings(), EntryRange(END)):
        if read.opened.envelope.event.control_head is None:
            return "scores: of a release that wrote no stamps"
        break
    return ""


class _Comparison:
    def __init__(self, source: Recording, partition: int, span: EntryRange, findings: Findings) -> None:
        self.compared = Comparison("scores", StreamKey("scores", partition), span, findings)
        self.recorded = readable(source, self.compared.place, "score", findings, span)
        self.span, self.findings = span, findings
        self.ahead: dict[ScoreKey, ReadEvent] = {}
        self.missing: dict[ScoreKey, Encoded] = {}
        self.lines: dict[ScoreLine, int] = {}
        self.series: dict[tuple[str, int], int] = {}
        self.priced = ""

    def run(self, joined: JoinedReplay) -> None:
        try:
            for encoded in joined.outputs():
                if encoded.stream == "scores":
                    self._follows(encoded)
        except (LookupError, ValueError, ArithmeticError) as error:
            self.findings.skip(f"scores: the recorder cannot read the records: {type(error).__name__}: {error}")
            return
        while self._read():
            pass
        for name, read in self.ahead.items():
            right = self.missing.pop(name, None)
            if right is not None:
                self._compare(read, right)
            elif not read.opened.fault:
                self.compared.count(
                    "score", read, "no score follows from the bars, predictions and decisions at this position"
                )
        if self.span == EntryRange(START, self.span.until):
            self._absent()

    def _follows(self, right: Encoded) -> None:
        """Compare a recomputed score with the recorded one, which is normally the next on the stream."""
        name = _key(right.envelope.event)
        while name not in self.ahead and len(self.ahead) < SETTLED_BARS:
            if not self._read():
                break
        read = self.ahead.pop(name, None)
        if read is None:
            self.missing[name] = right
        else:
            self._compare(read, right)

    def _read(self) -> bool:
        read = next(self.recorded, None)
        if read is None:
            return False
        event = read.opened.envelope.event
        name = _key(event)
        if not self.priced and isinstance(event, PredictionScored) and event.prices is not None:
            self.priced = read.entry
        if not read.opened.fault:
            line, series = _line(event), (event.symbol, event.interval_ms)
            self.lines[line] = max(self.lines.get(line, 0), event.open_time)
            self.series[series] = max(self.series.get(series, 0), event.open_time)
        right = self.missing.pop(name, None)
        if right is not None:
            self._compare(read, right)
        elif name in self.ahead and not read.opened.fault:
            self.compared.count("score", read, "the same event was scored before")
        else:
            self.ahead[name] = read
        return True

    def _compare(self, read: ReadEvent, right: Encoded) -> None:
        recorded = read.opened.envelope.event
        if isinstance(recorded, PredictionScored) and recorded.prices is None and self._unpriced(read.entry):
            right = _without_prices(right)
        if self.compared.settled(read, right):
            return
        follows = right.envelope.event
        if isinstance(recorded, TradeJoined) and isinstance(follows, TradeJoined) and recorded.joined != follows.joined:
            self.findings.skip("scores: a trade and its decision, which the recorder or this replay read too far apart")
        else:
            self.compared.count("score", read, differences(recorded, follows))

    def _unpriced(self, entry: str) -> bool:
        """Return whether a score was written before any that records prices."""
        return not self.priced or id_order(entry) < id_order(self.priced)

    def _absent(self) -> None:
        """Record the recomputed scores that are not recorded, where the recorder has scored later bars."""
        for right in self.missing.values():
            event = right.envelope.event
            bars = (self.lines.get(_line(event), 0) - event.open_time) / event.interval_ms
            others = (self.series.get((event.symbol, event.interval_ms), 0) - event.open_time) / event.interval_ms
            least = 0 if isinstance(event, PredictionScored) else SETTLED_BARS
            if bars > least or others > ABANDONED_BARS:
                about = _about(event)
                detail = f"{type(event).__name__} about {about.hex()[:12]} follows but was not recorded"
                where = (self.compared.place.stream, self.compared.place.partition, "", about.hex())
                self.findings.see("scores", equal=False)
                self.findings.differ(Difference("score", *where, detail, event.symbol, event.open_time, missing=True))


def _without_prices(right: Encoded) -> Encoded:
    envelope = right.envelope
    event = structs.replace(envelope.event, prices=None)
    return encode("scores", event, causation=envelope.causation, correlation=envelope.correlation, flags=envelope.flags)


def _about(event: Any) -> bytes:
    """Return the id of the event that a score is about."""
    match event:
        case PredictionScored() | PredictionUnscored():
            return event.prediction
        case BallotMissing() | InterferenceChecked():
            return event.decision
        case _:
            trade: bytes = event.trade
            return trade


def _key(event: Any) -> ScoreKey:
    return type(event).__name__, _about(event), getattr(event, "artifact", b"")


def _line(event: Any) -> ScoreLine:
    return type(event).__name__, getattr(event, "artifact", b""), event.symbol, event.interval_ms
