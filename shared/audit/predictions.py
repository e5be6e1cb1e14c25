"""The layer of predictions: the model-worker again over the recorded vectors, one model at a time.

Its core is handed in. Under which version of the configuration it answered a vector is what it wrote; what
it must then answer follows. Bits are compared where libraries and processor are those of the artifact's
manifest; elsewhere answers within ``TOLERANCE`` count as tolerated, never as equal. Not checked: that an
artifact was not loaded yet when it said so.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from schemas.codec import Envelope, Sealed
from schemas.control import CommandRecorded
from schemas.predictions import PredictionFailed, PredictionMade
from shared.artifacts.artifact import TOLERANCE
from shared.audit.artifacts import Examined
from shared.audit.findings import Findings, Layer
from shared.audit.source import PAGE, Read, Source, Span, difference, readable
from shared.log import Place
from shared.service import Batch, Received, Service

AHEAD: Final = 256
"""How many answers are read past those to the vectors in hand: a worker goes in order, but for bars whose
vector never came."""

Key = tuple[bytes, bytes]
"""A vector's event id, and the artifact."""


def models_of(control: Sequence[Envelope[CommandRecorded]]) -> tuple[str, ...]:
    """Every model that was ever registered."""
    named = {getattr(entry.event.command, "model", None) for entry in control}
    return tuple(sorted(name for name in named if name is not None))


def check_predictions(
    source: Source,
    worker: Service[Any],
    model: str,
    control: Sequence[Envelope[CommandRecorded]],
    examine: Callable[[str], Examined],
    partition: int,
    span: Span,
) -> Findings:
    """Every answer of one model within ``span``."""
    findings = Findings()
    _Replay(source, worker, model, control, examine, partition, span, findings).run()
    return findings


class _Replay:
    def __init__(
        self,
        source: Source,
        worker: Service[Any],
        model: str,
        control: Sequence[Envelope[CommandRecorded]],
        examine: Callable[[str], Examined],
        partition: int,
        span: Span,
        findings: Findings,
    ) -> None:
        self.source, self.worker, self.model, self.control = source, worker, model, control
        self.examine, self.partition, self.span, self.findings = examine, partition, span, findings
        self.place = Place("predictions", partition)
        self.answers = self._own(readable(source, self.place, "ballot", findings, span))
        self.said: dict[Key, Read] = {}
        self.versions: dict[bytes, int] = {}
        self.version = 0
        self.ended = False
        self.told: set[bytes] = set()

    def _own(self, reads: Iterator[Read]) -> Iterator[Read]:
        return (read for read in reads if read.found.envelope.event.model == self.model)

    def run(self) -> None:
        state = self.worker.begin(b"")
        unjudged = Span(self.span.until, self.span.until)
        vectors = readable(self.source, Place("features", self.partition), "feature", Findings(), unjudged)
        while page := list(islice(vectors, PAGE)):
            self._read_on({read.found.envelope.id for read in page})
            for version, events in self._runs(page):
                self._answer(state, version, events)
            if self.ended and not self.said:
                break
        for read in self.said.values():
            if not read.found.fault:
                self._differ("feature", read, "the vector that it answers is not on features")

    def _read_on(self, page: set[bytes]) -> None:
        """Answers, until those to the vectors in hand are there."""
        behind = 0
        while behind < AHEAD and not self.ended:
            read = next(self.answers, None)
            if read is None:
                self.ended = True
                return
            event = read.found.envelope.event
            self.said[event.vector, event.artifact] = read
            if not read.found.fault:
                self.versions[event.vector] = event.control_version
            behind = behind + 1 if event.vector not in page else 0

    def _runs(self, page: list[Read]) -> Iterator[tuple[int | None, list[Received]]]:
        """Successive vectors that were answered under one version; None: not answered at all. A version out
        of order is not believed: what follows from its neighbours' will differ from it."""
        found = [self.versions.pop(read.found.envelope.id, None) for read in page]
        answered = [version for version in found if version is not None]
        following = iter([*answered[1:], len(self.control)])
        run: list[Received] = []
        current: int | None = None
        believed = self.version
        for read, version in zip(page, found, strict=True):
            if version is not None:
                after = next(following)
                believed = version if believed <= version <= max(after, believed) else believed
            kept = None if version is None else believed
            if run and kept != current:
                yield current, run
                run = []
            current = kept
            run.append(Received("features", read.entry, read.found.envelope))
        if run:
            yield current, run

    def _answer(self, state: Any, version: int | None, events: list[Received]) -> None:
        if version is None:
            self.worker.absorb(state, Batch((), events))
            return
        if version > self.version:
            self.worker.absorb(state, Batch(self.control[self.version : version], ()))
            self.version = version
        for sealed in self.worker.handle(state, Batch((), events)):
            if sealed.stream == "predictions":
                self._compare(sealed)

    def _compare(self, right: Sealed) -> None:
        event = right.envelope.event
        read = self.said.pop((event.vector, event.artifact), None)
        if read is None:
            self._missing(right)
        elif self.span.holds(read.entry):
            self._held(read, right)

    def _missing(self, right: Sealed) -> None:
        """An artifact that was active did not answer, though another of its model did."""
        event = right.envelope.event
        if isinstance(event, PredictionMade) and event.artifact not in self.told:
            self.findings.skip(f"predictions: {self.model} {event.artifact.hex()[:12]} gave no answer to some vectors")

    def _held(self, read: Read, right: Sealed) -> None:
        said, follows = read.found.envelope.event, right.envelope.event
        if read.data == right.data:
            self.findings.see("predictions")
        elif read.found.fault:
            self.findings.see("predictions", equal=False)
        elif isinstance(said, PredictionFailed) and said.reason in ("not_loaded", "error"):
            self.findings.skip(f"predictions: {said.reason} at the time, which cannot be repeated")
        elif isinstance(follows, PredictionFailed) and follows.reason == "not_loaded":
            self._unloaded(read, follows)
        elif isinstance(said, PredictionMade) and isinstance(follows, PredictionMade):
            self._other(read, said, right)
        else:
            self.findings.see("predictions", equal=False)
            self._differ("ballot", read, _told(said, follows))

    def _unloaded(self, read: Read, follows: PredictionFailed) -> None:
        """The artifact cannot be asked here: it is gone, or changed, or needs another machine."""
        found = self.examine(follows.artifact.hex())
        if found.layer is None:
            self.findings.skip(f"predictions: {found.fault or follows.detail}")
            return
        self.findings.see("predictions", equal=False)
        if follows.artifact not in self.told and isinstance(read.found.envelope.event, PredictionMade):
            self.told.add(follows.artifact)
            self._differ(found.layer, read, found.fault)

    def _other(self, read: Read, said: PredictionMade, right: Sealed) -> None:
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

    def _blame(self, read: Read, right: Sealed, said: PredictionMade, follows: PredictionMade) -> tuple[Layer, str]:
        """Whether the answer was changed after the vote, or was another one from the start."""
        written, given = read.found.envelope.id.hex().encode(), right.envelope.id.hex().encode()
        for entry in self.source.entries(Place("decisions", self.partition)):
            if given in entry.data:
                return "ballot", f"the decision at {entry.id} counted what follows: it was changed after the vote"
            if written in entry.data:
                break
        if tempered(said.probabilities, follows.probabilities):
            return "calibration", "the same answer at another temperature"
        return "model", "the artifact that it names does not answer so"

    def _differ(self, layer: Layer, read: Read, detail: str) -> None:
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
