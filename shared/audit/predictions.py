"""The layer of predictions: run the model-worker again over the recorded vectors, one model at a time.

Its core is passed in with the whole of control. Each vector is predicted under its stamp. So the required predictions
follow from ``features`` alone: one by each artifact that is active under the stamp, up to the last vector that the
worker reached. Predictions are compared to the bit where libraries and processor are those of the artifact's manifest.
Elsewhere predictions within ``TOLERANCE`` count as tolerated, never as equal.

Not checked: whether an artifact that was recorded as not loaded really was not (a fact about a process), and
predictions for vectors without a stamp (of an earlier release).
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
from shared.audit.comparison import Comparison, differences
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.set_aside import set_aside
from shared.audit.source import PAGE, EntryRange, ReadEvent, Recording, readable
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service

AHEAD: Final = 256
"""Number of predictions that are read past those for the current vectors.

A worker predicts in order, except for bars whose vector is missing."""

LOOKED_BACK: Final = 64
"""Number of vectors of the previous page that may still lead to a prediction: those of the current bar."""
UNSTAMPED: Final = "predictions: on vectors of a release that wrote no stamps"


def check_predictions(
    source: Recording,
    worker: Service[Any],
    model: str,
    control: Sequence[Envelope[CommandRecorded]],
    examine: Callable[[str], Examined],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Check every prediction of one model within ``span``."""
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
        self.compared = Comparison("predictions", StreamKey("predictions", partition), span, findings)
        self.recorded = self._own(readable(source, self.compared.place, "ballot", findings, span))
        self.unmatched: dict[bytes, dict[bytes, ReadEvent]] = {}
        self.stamp = 0
        self.ended = False
        self.reported: set[bytes] = set()
        self.unstamped: frozenset[bytes] = frozenset()
        self.missing: list[Difference] = []
        self.entries: dict[bytes, str] = {}

    def _own(self, reads: Iterator[ReadEvent]) -> Iterator[ReadEvent]:
        return (read for read in reads if read.opened.envelope.event.model == self.model)

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
            self.entries = {**newest, **{read.opened.envelope.id: read.entry for read in page}}
            self._read_ahead(self.entries)
            for stamped, run in groupby(page, lambda read: read.opened.envelope.event.control_head is not None):
                events = [Received("features", read.entry, read.opened.envelope) for read in run]
                self._answer(state, events) if stamped else self._pass_over(state, events)
            if self.ended and not self.unmatched:
                break
        for read in (read for recorded in self.unmatched.values() for read in recorded.values()):
            if not read.opened.fault:
                self.compared.differ("feature", read, "its vector is not on features, or was predicted before")

    def _read_ahead(self, page: Mapping[bytes, str]) -> None:
        """Read recorded predictions until those for the current vectors are present."""
        beyond = 0
        while beyond < AHEAD and not self.ended:
            read = next(self.recorded, None)
            if read is None:
                self.ended = True
                return
            event = read.opened.envelope.event
            if event.artifact in self.unmatched.setdefault(event.vector, {}) and not read.opened.fault:
                self.compared.differ("ballot", read, "this artifact predicted this vector before")
            else:
                self.unmatched[event.vector][event.artifact] = read
            if event.control_head is not None and not read.opened.fault:
                if event.control_version < self.stamp:
                    self.compared.differ(
                        "ballot", read, f"stamped with version {event.control_version}, after {self.stamp}"
                    )
                self.stamp = max(self.stamp, event.control_version)
            beyond = beyond + 1 if event.vector not in page else 0

    def _answer(self, state: Any, events: list[Received]) -> None:
        for event in events:
            stamp = event.envelope.event.control_version
            if stamp > len(self.control):
                self.findings.skip(f"predictions: under version {stamp}, which the control log does not make")
                return
        for encoded in self.worker.handle(state, Batch((), events)):
            if encoded.stream == "predictions" and encoded.envelope.event.vector not in self.unstamped:
                self._compare(encoded)
        self.unstamped = frozenset()

    def _pass_over(self, state: Any, events: list[Received]) -> None:
        """Add vectors without a stamp to the windows; the configuration under which they were predicted is not
        known."""
        self.worker.apply(state, Batch((), events))
        self.unstamped = frozenset(event.envelope.id for event in events)
        for vector in self.unstamped & self.unmatched.keys():
            self.findings.skip(UNSTAMPED, len(self.unmatched.pop(vector)))

    def _compare(self, encoded: Encoded) -> None:
        event = encoded.envelope.event
        recorded = self.unmatched.get(event.vector, {})
        read = recorded.pop(event.artifact, None)
        if not recorded:
            self.unmatched.pop(event.vector, None)
        if read is None:
            self._missing(encoded)
            return
        for missing in self.missing:  # a worker predicts in order, and this one comes after those
            self.findings.differ(missing)
        self.missing.clear()
        if not self.compared.settled(read, encoded):
            self._compare_event(read, encoded)

    def _missing(self, encoded: Encoded) -> None:
        """Record that an active artifact made no prediction: a fault if its worker has predicted a later vector."""
        event = encoded.envelope.event
        entry = self.entries.get(event.vector)
        if entry is not None and self.span.holds(entry):
            who, version = f"{self.model} {event.artifact.hex()[:12]}", event.control_version
            detail = f"{who} was active under version {version} and made no prediction"
            where = ("features", self.partition, entry, event.vector.hex())
            self.missing.append(Difference("ballot", *where, detail, event.symbol, event.open_time, missing=True))

    def _compare_event(self, read: ReadEvent, right: Encoded) -> None:
        recorded, follows = read.opened.envelope.event, right.envelope.event
        stamp = (follows.control_version, follows.control_head)
        if (recorded.control_version, recorded.control_head) != stamp:
            self.compared.count(
                "ballot", read, f"made under version {recorded.control_version}; its vector's stamp is {stamp[0]}"
            )
        elif isinstance(recorded, PredictionFailed) and recorded.reason in ("not_loaded", "error"):
            self.findings.skip(f"predictions: {recorded.reason} at the time, which cannot be repeated")
        elif isinstance(follows, PredictionFailed) and follows.reason == "not_loaded":
            self._unloaded(read, follows)
        elif isinstance(recorded, PredictionMade) and isinstance(follows, PredictionMade):
            self._compare_probabilities(read, recorded, right)
        else:
            self.compared.count("ballot", read, differences(recorded, follows))

    def _unloaded(self, read: ReadEvent, follows: PredictionFailed) -> None:
        """Record that the artifact cannot run here: it is missing, was changed, or needs another machine."""
        examined = self.examine(follows.artifact.hex())
        if examined.layer is None:
            self.findings.skip(f"predictions: {examined.fault or follows.detail}")
            return
        self.findings.see("predictions", equal=False)
        if follows.artifact not in self.reported and isinstance(read.opened.envelope.event, PredictionMade):
            self.reported.add(follows.artifact)
            self.compared.differ(examined.layer, read, examined.fault)

    def _compare_probabilities(self, read: ReadEvent, recorded: PredictionMade, right: Encoded) -> None:
        """Compare two predictions that differ: within the tolerance, in other fields, or in the probabilities alone."""
        follows: PredictionMade = right.envelope.event
        artifact = self.examine(recorded.artifact.hex()).artifact
        apart = max(abs(a - b) for a, b in zip(recorded.probabilities, follows.probabilities, strict=True))
        others = [
            name
            for name in recorded.__struct_fields__
            if name != "probabilities" and getattr(recorded, name) != getattr(follows, name)
        ]
        if not others and apart and artifact is not None and not artifact.exact and apart <= TOLERANCE:
            self.findings.tolerate("predictions")
            return
        if others or not apart:
            self.compared.count("ballot", read, differences(recorded, follows))
            return
        layer, why = self._cause(read, right, recorded, follows)
        self.compared.count(layer, read, f"{recorded.probabilities} recorded, {follows.probabilities} follows; {why}")

    def _cause(
        self, read: ReadEvent, right: Encoded, recorded: PredictionMade, follows: PredictionMade
    ) -> tuple[Layer, str]:
        """Return the layer and the reason of a difference: whether the prediction was changed after the vote or
        differed from the start."""
        written, given = read.opened.envelope.id.hex().encode(), right.envelope.id.hex().encode()
        for entry in self.source.entries(StreamKey("decisions", self.partition)):
            if given in entry.data:
                counted = f"the decision at {entry.id} counted the recomputed prediction"
                return "ballot", f"{counted}: the recorded one was changed after the vote"
            if written in entry.data:
                break
        if differ_by_temperature(recorded.probabilities, follows.probabilities):
            return "calibration", "the same prediction at another temperature"
        return "model", "the artifact that it names predicts something else"


def differ_by_temperature(a: Sequence[float], b: Sequence[float]) -> bool:
    """Return whether two predictions differ by a temperature alone: their log odds have one ratio, which is not 1."""
    if min(*a, *b) <= 0.0:
        return False
    (a0, a1), (b0, b1) = ((math.log(p[0] / p[1]), math.log(p[2] / p[1])) for p in (a, b))
    if min(abs(b0), abs(b1)) < 1e-6:
        return False
    return abs(a0 / b0 - a1 / b1) < 1e-6 * abs(a0 / b0) and abs(a0 / b0 - 1.0) > 1e-6
