"""The layer of features: run the feature-builder again over the recorded bars and compare byte by byte.

Its core is passed in and runs from the first recorded bar, so that a window that began after a gap is the same as live.
The feature sets that it served and the number of missing bars that it bridged are read from its output. So is the stamp
of each bar: it must be a version that control makes, and stamps never fall.

Not checked: features of bars before which the market was trimmed and is not archived, and which version a release
without stamps had folded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from msgspec import structs

from schemas.codec import Encoded, Envelope, UnreadableError, opened
from schemas.control import CommandRecorded
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed
from shared.audit.comparison import ENVELOPE, Comparison, differences
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.set_aside import set_aside
from shared.audit.source import PAGE, EntryRange, ReadEvent, Recording, difference, readable
from shared.features.bars import BRIDGE
from shared.features.installed import FEATURE_SETS
from shared.features.sets import FeatureSet, feature_set
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service

AHEAD = 64
"""Number of groups of features that are searched for the current bar, where an earlier group refers to a missing
bar."""

Build = Callable[[Sequence[FeatureSet], int], Service[Any]]


class Survey(NamedTuple):
    """What the builder served, as its output shows: the digests of feature sets, and the number of missing bars it
    bridged."""

    sets: frozenset[bytes]
    bridge: int


class _Group(NamedTuple):
    """All events that were written about one bar."""

    bar: bytes
    reads: list[ReadEvent]

    @property
    def about(self) -> tuple[str, int, int]:
        event = self.reads[0].opened.envelope.event
        return event.symbol, event.interval_ms, event.open_time


def known_sets(artifacts: Mapping[str, Any]) -> dict[bytes, FeatureSet]:
    """Return feature sets by digest: those that exist by name, and those of registered artifacts."""
    sets = {each.digest: each for each in FEATURE_SETS.values()}
    for registered in artifacts.values():
        try:
            table = feature_set(registered.feature_set_name, *registered.features)
        except ValueError:
            continue  # a set of another release, with a feature that this release lacks
        sets.setdefault(table.digest, table)
    return sets


def survey(source: Recording, partition: int) -> Survey:
    """Read the recorded features once and return what the builder served."""
    sets, most, least = set(), 0, None
    for entry in source.entries(StreamKey("features", partition)):
        try:
            event = opened("features", entry.data).envelope.event
        except UnreadableError:
            continue
        if not isinstance(event, BarsMissing):
            sets.add(event.feature_set)
        elif event.bridged:
            most = max(most, event.count)
        else:
            least = event.count if least is None else min(least, event.count)
    fits = most <= BRIDGE and (least is None or least > BRIDGE)
    return Survey(frozenset(sets), BRIDGE if fits else most)


def check_features(
    source: Recording,
    build: Build,
    known: Mapping[bytes, FeatureSet],
    control: Sequence[Envelope[CommandRecorded]],
    partition: int,
    span: EntryRange,
) -> Findings:
    """Check every vector of a partition within ``span``, and every recorded reason why there is none."""
    findings = Findings()
    served = survey(source, partition)
    for digest in sorted(served.sets - set(known)):
        findings.skip(f"features: set {digest.hex()[:12]} is not known to this release")
    sets = [known[digest] for digest in sorted(served.sets & set(known))]
    if sets:
        _Comparison(source, sets, control, partition, span, findings).run(build(sets, served.bridge))
    return findings


class _Comparison:
    def __init__(
        self,
        source: Recording,
        sets: Sequence[FeatureSet],
        control: Sequence[Envelope[CommandRecorded]],
        partition: int,
        span: EntryRange,
        findings: Findings,
    ) -> None:
        self.source, self.partition, self.span, self.findings = source, partition, span, findings
        self.control, self.version, self.folded = control, 0, 0
        self.aside = set_aside(source, "feature-builder", partition, findings)
        self.compared = Comparison("features", StreamKey("features", partition), span, findings)
        self.market = StreamKey("market", partition)
        self.groups = self._grouped(readable(source, self.compared.place, "feature", findings, span))
        self.ahead: list[_Group] = []
        self.active: set[bytes] = set()
        self.known = {each.digest for each in sets}
        self.pending: dict[bytes, Difference] = {}
        self.whole = source.whole(self.market)
        self.last = b""

    def run(self, builder: Service[Any]) -> None:
        state = builder.initial(b"")
        bars = (
            read
            for read in readable(self.source, self.market, "bar", self.findings, self.span)
            if ("market", read.entry) not in self.aside
        )
        while page := list(islice(bars, PAGE)):
            groups = [self._group_of(read) for read in page]
            written: dict[bytes, list[Encoded]] = {}
            for run in self._stamped(page, groups):
                new, self.folded = self.control[self.folded : self.version], max(self.folded, self.version)
                for encoded in builder.handle(state, Batch(new, run)):
                    if encoded.stream == "features":
                        written.setdefault(encoded.envelope.causation, []).append(encoded)
            for read, group in zip(page, groups, strict=True):
                self._compare(
                    read, group, written.pop(read.opened.envelope.id, [])
                )  # a bar that is recorded twice is compared once
        for group in (*self.ahead, *self.groups):
            if not group.reads[0].opened.fault:
                self.compared.differ("bar", group.reads[0], "computed from a bar that is not on market")

    def _stamped(self, page: list[ReadEvent], groups: list[_Group | None]) -> Iterator[list[Received]]:
        """Yield runs of successive bars with one stamp; ``version`` is that stamp when the run is yielded."""
        run: list[Received] = []
        for read, group in zip(page, groups, strict=True):
            stamp = self._stamp(group)
            if stamp != self.version:
                if run:
                    yield run
                run, self.version = [], stamp
            run.append(Received("market", read.entry, read.opened.envelope))
        if run:
            yield run

    def _stamp(self, group: _Group | None) -> int:
        """Return the stamp of a bar; where it has no valid one, the stamp of the bar before."""
        if group is None:
            return self.version
        read = group.reads[0]
        event = read.opened.envelope.event
        if event.control_head is None:
            return self.version
        if event.control_version < self.version:
            self.compared.differ(
                "feature", read, f"stamped with version {event.control_version}, after one with {self.version}"
            )
        elif event.control_version > len(self.control):
            ends = f"the control log ends at {len(self.control)}"
            self.compared.differ("configuration", read, f"stamped with version {event.control_version}; {ends}")
        else:
            return int(event.control_version)
        return self.version

    def _compare(self, bar: ReadEvent, group: _Group | None, expected: list[Encoded]) -> None:
        if group is None:
            if expected:
                where = Difference(
                    "feature", "market", self.partition, bar.entry, bar.opened.envelope.id.hex(),
                    "no features were written for this bar",
                    bar.opened.envelope.event.symbol, bar.opened.envelope.event.open_time, missing=True,
                )  # fmt: skip
                if self.span.holds(bar.entry):
                    self.pending.setdefault(b"", where)
            return
        self._flush(b"")
        if any(read.opened.fault for read in group.reads if group.bar != bar.opened.envelope.id):
            return
        if group.bar != bar.opened.envelope.id:
            was, now = group.bar.hex()[:12], bar.opened.envelope.id.hex()[:12]
            if self.span.holds(group.reads[0].entry):
                detail = f"features were computed from bar {was}; the market has {now} in its place"
                self.findings.differ(difference("bar", self.market, bar.entry, bar.opened, detail))
                self.findings.see("features", equal=False, times=len(group.reads))
            return
        follows = {_key(encoded.envelope.event): encoded for encoded in expected}
        for read in group.reads:
            self._compare_event(bar, read, follows.pop(_key(read.opened.envelope.event), None))
        for key, encoded in follows.items():
            self._absent(bar, key, encoded)

    def _compare_event(self, bar: ReadEvent, read: ReadEvent, right: Encoded | None) -> None:
        """Compare one recorded event with the recomputed one."""
        key = _key(read.opened.envelope.event)
        if key and key not in self.known:
            return
        self.active.add(key)
        self._flush(key)
        if not self.span.holds(read.entry) or (right is not None and self.compared.settled(read, right)):
            return
        recorded = read.opened.envelope
        if right is not None and recorded.event.control_head is None and _unstamped(right) == recorded.event:
            envelope_fields = (right.envelope.causation, right.envelope.correlation, right.envelope.flags)
            if envelope_fields == (recorded.causation, recorded.correlation, recorded.flags) and not read.opened.fault:
                self.findings.see("features")
                return
        if not self.whole and (right is None or _cold(right.envelope.event)):
            self.findings.skip("features: the market before the window is trimmed and not archived")
            return
        layer: Layer = "feature"
        if right is None:
            fault = "no event follows from the bars at this position"
        elif recorded.event != right.envelope.event:
            fault = _differences(recorded.event, right.envelope.event)
        elif recorded.flags != right.envelope.flags:
            layer = "bar" if bar.opened.fault else "feature"
            fault = f"flags {recorded.flags} recorded, those of the bar are {right.envelope.flags}"
        else:
            fault = ENVELOPE
        self.compared.count(layer, read, fault)

    def _absent(self, bar: ReadEvent, key: bytes, encoded: Encoded) -> None:
        """Record that a served set has no event for a bar: a fault if the set is ever served again."""
        if key in self.active and self.whole and self.span.holds(bar.entry):
            event = encoded.envelope.event
            where = Difference(
                "feature", "market", self.partition, bar.entry, bar.opened.envelope.id.hex(),
                f"nothing was written for set {key.hex()[:12]}" if key else "missing bars were not reported",
                event.symbol, event.open_time, missing=True,
            )  # fmt: skip
            if key:
                self.pending.setdefault(key, where)
            else:
                self.findings.differ(where)

    def _flush(self, key: bytes) -> None:
        pending = self.pending.pop(key, None)
        if pending is not None:
            self.findings.differ(pending)

    def _group_of(self, bar: ReadEvent) -> _Group | None:
        """Return the group of a bar, found by its id, or by symbol and time where another bar is recorded in its
        place. A copy of a bar of another partition has none, nor has an input."""
        event = bar.opened.envelope.event
        if not isinstance(event, BarClosed):
            return None
        about = (event.symbol, event.interval_ms, event.open_time)
        for number in range(AHEAD):
            if number == len(self.ahead):
                self.ahead.extend(islice(self.groups, 1))
            if number == len(self.ahead):
                return None
            group = self.ahead[number]
            if group.bar == bar.opened.envelope.id or group.about == about:
                for stray in self.ahead[:number]:
                    if stray.bar != self.last and not stray.reads[0].opened.fault:
                        self.compared.differ("bar", stray.reads[0], "computed from a bar that is not on market")
                del self.ahead[: number + 1]
                self.last = group.bar
                return group
        return None

    def _grouped(self, reads: Iterator[ReadEvent]) -> Iterator[_Group]:
        current: _Group | None = None
        for read in reads:
            envelope = read.opened.envelope
            if current is not None and current.bar == envelope.causation:
                current.reads.append(read)
                continue
            if current is not None:
                yield current
            current = _Group(envelope.causation, [read])
        if current is not None:
            yield current


def _key(event: FeaturesComputed | FeaturesWithheld | BarsMissing) -> bytes:
    return b"" if isinstance(event, BarsMissing) else event.feature_set


def _cold(event: Any) -> bool:
    return isinstance(event, FeaturesWithheld) and event.reason in ("warming", "gap")


def _unstamped(right: Encoded) -> Any:
    return structs.replace(right.envelope.event, control_version=0, control_head=None)


def _differences(recorded: Any, follows: Any) -> str:
    """Return the fields that differ, and of a vector the positions."""
    same = type(recorded) is type(follows)
    names = [each for each in recorded.__struct_fields__ if same and getattr(recorded, each) != getattr(follows, each)]
    if names != ["values"] or len(recorded.values) != len(follows.values):
        return differences(recorded, follows)
    width = len(recorded.values)
    places = [at // 4 for at in range(0, width, 4) if recorded.values[at : at + 4] != follows.values[at : at + 4]]
    return f"values at {places[:8]} of {width // 4} differ"
