"""The layer of predictions: the model-worker again over the recorded vectors, one model at a time.

Its core is handed in, with the whole of control: each vector is answered under its stamp, so what must be answered
follows from ``features`` alone, once and by each artifact that was active under the stamp, up to where its worker has
come. Bits are compared where libraries and processor are those of the artifact's manifest; elsewhere answers within
``TOLERANCE`` count as tolerated, never as equal. Not checked: that an artifact was not loaded yet when it said so (a
fact about a process), and answers to vectors without a stamp (of an earlier release).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, Final

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded
from schemas.predictions import PredictionFailed, PredictionMade
from shared.artifacts.artifact import TOLERANCE
from shared.audit.artifacts import Examined
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.set_aside import set_aside
from shared.audit.source import PAGE, EntryRange, ReadEvent, Recording, difference, readable
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service

AHEAD: Final = 256
"""How many answers are read past those to the vectors in hand: a worker goes in order, but for bars whose
vector never came."""

LOOKED_BACK: Final = 64
"""How many vectors of the page before may still lead to an answer: those of the bar in hand."""
UNSTAMPED: Final = "predictions: on vectors of a release that wrote no stamps"


def models_of(control: Sequence[Envelope[CommandRecorded]]) -> tuple[str, ...]:
    """Every model that was ever registered."""
    named = {getattr(entry.event.command, "model", None) for entry in control}
    return tuple(sorted(name for name in named if name is not None))


def check_predictions(
    source: Recording,
    worker: Service[Any],
    model: str,
    control: Sequence[Envelope[CommandRecorded]],
    examine: Callable[[str], Examined],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Every answer of one model within ``span``."""
    findings = Findings()
    _Replay(source, worker, model, control, examine, partition, span, findings).run()
    return findings


class _Replay:
    def __init__(
        self,
        source: Recording,
        worker: Service[Any],
        model: str,
        control: Sequence[Envelope[CommandRecorded]],
        examine: Callable[[str], Examined],
        partition: int,
        span: EntryRange,
        findings: Findings,
    ) -> None:
        self.source, self.worker, self.model, self.control = source, worker, model, control
        self.examine, self.partition, self.span, self.findings = examine, partition, span, findings
        self.place = StreamKey("predictions", partition)
        self.answers = self._own(readable(source, self.place, "ballot", findings, span))
        self.said: dict[bytes, dict[bytes, ReadEvent]] = {}
        self.stamp = 0
        self.ended = False
        self.told: set[bytes] = set()
        self.unstamped: frozenset[bytes] = frozenset()
        self.missing: list[Difference] = []
        self.entries: dict[bytes, str] = {}

    def _own(self, reads: Iterator[ReadEvent]) -> Iterator[ReadEvent]:
        return (read for read in reads if read.found.envelope.event.model == self.model)

    def run(self) -> None:
        state = self.worker.initial(b"")
        self.worker.apply(state, Batch(self.control, ()))
        aside = set_aside(self.source, self.worker.group, self.partition, self.findings)
        unjudged = EntryRange(self.span.until, self.span.until)
        vectors = (
            read
            for read in readable(self.source, StreamKey("features", self.partition), "feature", Findings(), unjudged)
            if ("features", read.entry) not in aside
        )
        while page := list(islice(vectors, PAGE)):
            newest = dict(list(self.entries.items())[-LOOKED_BACK:])
            self.entries = {**newest, **{read.found.envelope.id: read.entry for read in page}}
            self._read_on(self.entries)
            for stamped, run in groupby(page, lambda read: read.found.envelope.event.control_head is not None):
                events = [Received("features", read.entry, read.found.envelope) for read in run]
                self._answer(state, events) if stamped else self._pass_over(state, events)
            if self.ended and not self.said:
                break
        for read in (read for answers in self.said.values() for read in answers.values()):
            if not read.found.fault:
                self._differ("feature", read, "the vector that it answers is not on features, or was answered before")

    def _read_on(self, page: Mapping[bytes, str]) -> None:
        """Answers, until those to the vectors in hand are there."""
        behind = 0
        while behind < AHEAD and not self.ended:
            read = next(self.answers, None)
            if read is None:
                self.ended = True
                return
            event = read.found.envelope.event
            if event.artifact in self.said.setdefault(event.vector, {}) and not read.found.fault:
                self._differ("ballot", read, "this artifact answered this vector before")
            else:
                self.said[event.vector][event.artifact] = read
            if event.control_head is not None and not read.found.fault:
                if event.control_version < self.stamp:
                    self._differ("ballot", read, f"stamped with version {event.control_version}, after {self.stamp}")
                self.stamp = max(self.stamp, event.control_version)
            behind = behind + 1 if event.vector not in page else 0

    def _answer(self, state: Any, events: list[Received]) -> None:
        for event in events:
            stamp = event.envelope.event.control_version
            if stamp > len(self.control):
                self.findings.skip(f"predictions: under version {stamp}, which the control log does not make")
                return
        for sealed in self.worker.handle(state, Batch((), events)):
            if sealed.stream == "predictions" and sealed.envelope.event.vector not in self.unstamped:
                self._compare(sealed)
        self.unstamped = frozenset()

    def _pass_over(self, state: Any, events: list[Received]) -> None:
        """Vectors without a stamp are part of windows; under which configuration they were answered is not known."""
        self.worker.apply(state, Batch((), events))
        self.unstamped = frozenset(event.envelope.id for event in events)
        for vector in self.unstamped & self.said.keys():
            self.findings.skip(UNSTAMPED, len(self.said.pop(vector)))

    def _compare(self, right: Encoded) -> None:
        event = right.envelope.event
        answers = self.said.get(event.vector, {})
        read = answers.pop(event.artifact, None)
        if not answers:
            self.said.pop(event.vector, None)
        if read is None:
            self._missing(right)
            return
        for missing in self.missing:  # a worker goes in order, and this was written after those were due
            self.findings.differ(missing)
        self.missing.clear()
        if self.span.holds(read.entry):
            self._held(read, right)

    def _missing(self, right: Encoded) -> None:
        """An artifact that was active did not answer; a fault, if its worker has come further."""
        event = right.envelope.event
        entry = self.entries.get(event.vector)
        if entry is not None and self.span.holds(entry):
            who, version = f"{self.model} {event.artifact.hex()[:12]}", event.control_version
            detail = f"{who} was active under version {version} and did not answer"
            where = ("features", self.partition, entry, event.vector.hex())
            self.missing.append(Difference("ballot", *where, detail, event.symbol, event.open_time, missing=True))

    def _held(self, read: ReadEvent, right: Encoded) -> None:
        said, follows = read.found.envelope.event, right.envelope.event
        stamp = (follows.control_version, follows.control_head)
        if read.data == right.data:
            self.findings.see("predictions")
        elif read.found.fault:
            self.findings.see("predictions", equal=False)
        elif (said.control_version, said.control_head) != stamp:
            self.findings.see("predictions", equal=False)
            self._differ("ballot", read, f"made under version {said.control_version}; its vector's stamp is {stamp[0]}")
        elif isinstance(said, PredictionFailed) and said.reason in ("not_loaded", "error"):
            self.findings.skip(f"predictions: {said.reason} at the time, which cannot be repeated")
        elif isinstance(follows, PredictionFailed) and follows.reason == "not_loaded":
            self._unloaded(read, follows)
        elif isinstance(said, PredictionMade) and isinstance(follows, PredictionMade):
            self._other(read, said, right)
        else:
            self.findings.see("predictions", equal=False)
            self._differ("ballot", read, _told(said, follows))

    def _unloaded(self, read: ReadEvent, follows: PredictionFailed) -> None:
        """The artifact cannot be asked here: it is gone, or changed, or needs another machine."""
        found = self.examine(follows.artifact.hex())
        if found.layer is None:
            self.findings.skip(f"predictions: {found.fault or follows.detail}")
            return
        self.findings.see("predictions", equal=False)
        if follows.artifact not in self.told and isinstance(read.found.envelope.event, PredictionMade):
            self.told.add(follows.artifact)
            self._differ(found.layer, read, found.fault)

    def _other(self, read: ReadEvent, said: PredictionMade, right: Encoded) -> None:
        follows: PredictionMade = right.envelope.event
        artifact = self.examine(said.artifact.hex()).artifact
        apart = max(abs(a - b) for a, b in zip(said.probabilities, follows.probabilities, strict=True))
        others = [
            name
            for name in said.__struct_fields__
            if name != "probabilities" and getattr(said, name) != getattr(follows, name)
        ]
        if not others and apart and artifact is not None and not artifact.exact and apart <= TOLERANCE:
            self.findings.tolerate("predictions")
            return
        self.findings.see("predictions", equal=False)
        if others or not apart:
            self._differ("ballot", read, _told(said, follows))
            return
        layer, why = self._blame(read, right, said, follows)
        self._differ(layer, read, f"{said.probabilities} recorded, {follows.probabilities} follows; {why}")

    def _blame(
        self, read: ReadEvent, right: Encoded, said: PredictionMade, follows: PredictionMade
    ) -> tuple[Layer, str]:
        """Whether the answer was changed after the vote, or was another one from the start."""
        written, given = read.found.envelope.id.hex().encode(), right.envelope.id.hex().encode()
        for entry in self.source.entries(StreamKey("decisions", self.partition)):
            if given in entry.data:
                return "ballot", f"the decision at {entry.id} counted what follows: it was changed after the vote"
            if written in entry.data:
                break
        if tempered(said.probabilities, follows.probabilities):
            return "calibration", "the same answer at another temperature"
        return "model", "the artifact that it names does not answer so"

    def _differ(self, layer: Layer, read: ReadEvent, detail: str) -> None:
        if self.span.holds(read.entry):
            self.findings.differ(difference(layer, self.place, read.entry, read.found, detail))


def tempered(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two answers differ by a temperature alone: their log odds are in one proportion, not 1."""
    if min(*a, *b) <= 0.0:
        return False
    (a0, a1), (b0, b1) = ((math.log(p[0] / p[1]), math.log(p[2] / p[1])) for p in (a, b))
    if min(abs(b0), abs(b1)) < 1e-6:
        return False
    return abs(a0 / b0 - a1 / b1) < 1e-6 * abs(a0 / b0) and abs(a0 / b0 - 1.0) > 1e-6


def _told(said: Any, follows: Any) -> str:
    if type(said) is not type(follows):
        return f"{type(said).__name__} recorded, {type(follows).__name__} follows"
    names = [name for name in said.__struct_fields__ if getattr(said, name) != getattr(follows, name)]
    pairs = [f"{name}: {getattr(said, name)!r} recorded, {getattr(follows, name)!r} follows" for name in names]
    return "; ".join(pairs) or "its envelope is not the one that follows"
