"""Compare the entries of recorded streams with the recorded digests of them (``shared.log.written``).

Every recorded digest ("note") of a group is a fixed point: the number of entries up to an id, and their digest. The
entries between two notes are recomputed independently. So damage between two notes does not hide later damage, and a
difference names the two notes around it. Entries after the last note are not checked.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from schemas.codec import UnreadableError, decode
from shared.audit.findings import Difference, Findings
from shared.audit.source import END, EntryRange, Recording
from shared.log import START, Entry, StreamKey, preceding
from shared.log.leases import id_order
from shared.log.written import OTHERS, SHARED, WRITERS, RunningDigest, Written, extend, start

CHECK = "written"


class KnownDigest(NamedTuple):
    """A noted digest of a group's output on ``place``.

    ``source`` names where it was recorded, for messages. ``at`` is when (ms); None means now. ``withdrawn`` is True if
    the group later recorded that it continued from fewer entries, because the server had lost its tail."""

    place: StreamKey
    group: str
    written: Written
    source: str
    at: int | None = None
    withdrawn: bool = False


def writer(stream: str, data: bytes) -> str:
    """Return the group that wrote an entry of a stream with digests; empty where no group did."""
    if stream == "predictions":
        try:
            return f"{WRITERS[stream]}.{decode(stream, data).event.model}"
        except UnreadableError:
            return ""
    if stream == SHARED and b"fence." in data:
        try:
            if isinstance(decode(stream, data).event, OTHERS):
                return ""
        except UnreadableError:
            pass
    return WRITERS[stream]


def check_written(
    source: Recording,
    known: Sequence[KnownDigest],
    partition: int,
    span: EntryRange = EntryRange(),  # noqa: B008  # a plain value
) -> Findings:
    """Recompute the digests of a partition's streams from the recorded entries, and compare them with ``known``.

    Entries count as checked where a digest covers them. Streams and groups without a digest are left out."""
    findings = Findings()
    for stream in WRITERS:
        place = StreamKey(stream, partition)
        noted = [each for each in known if each.place == place and _within(each, span)]
        if noted:
            _check(source, place, noted, span, findings)
    return findings


def _within(known: KnownDigest, span: EntryRange) -> bool:
    return span.until == END or id_order(known.written.last) <= id_order(span.until)


def _check(
    source: Recording, place: StreamKey, known: Sequence[KnownDigest], span: EntryRange, findings: Findings
) -> None:
    chains = _chains(place, known, span)
    if not chains:
        return
    after = min((chain.begins for chain in chains), key=id_order)
    cut = not source.whole(place)
    by_group: dict[str, list[_Chain]] = defaultdict(list)
    for chain in chains:
        by_group[chain.group].append(chain)
    for entry in source.entries(place, after, span.until):
        if cut:  # entries before the first remaining one cannot be read again
            for chain in chains:
                chain.start_from(entry.id)
            cut = False
        for chain in by_group.get(writer(place.stream, entry.data), ()):
            chain.add(entry, findings)
    for chain in chains:
        chain.end(findings)
    for group, run in by_group.items():
        for former, chain in pairwise(run):
            if former.after:
                findings.skip(
                    f"{place.key}: entries of {group} between {former.last} and {chain.since}, where its digest "
                    "restarted (an older release ran, or its group was lost)",
                    former.after,
                )


def _chains(place: StreamKey, known: Sequence[KnownDigest], span: EntryRange) -> list["_Chain"]:
    """Return the digests to follow, oldest first within a group. A group has several where its digest restarted."""
    by_chain: dict[tuple[str, str], list[KnownDigest]] = defaultdict(list)
    for each in known:
        by_chain[each.group, each.written.since].append(each)
    chains = [
        _Chain(place, group, since, notes, span)
        for (group, since), notes in sorted(by_chain.items(), key=lambda item: id_order(item[0][1]))
    ]
    ends: dict[str, str] = {}
    for chain in reversed(chains):
        chain.until = ends.get(chain.group, "")
        ends[chain.group] = chain.since
    return [chain for chain in chains if chain.notes]


class _State(NamedTuple):
    """A recomputed digest, and the note from which it was recomputed."""

    running: RunningDigest
    base: KnownDigest | None


class _Chain:
    """The digest of one group on one stream, from its first entry on. ``until`` is the entry at which it restarted."""

    def __init__(
        self, place: StreamKey, group: str, since: str, known: Sequence[KnownDigest], span: EntryRange
    ) -> None:
        self.place, self.group, self.since = place, group, since
        self.until, self.first = "", START
        self.after = 0
        notes = sorted(known, key=lambda each: (id_order(each.written.last), each.written.entries, each.withdrawn))
        base: KnownDigest | None = None
        while (
            notes
            and span.after != START
            and (span.after == END or id_order(notes[0].written.last) <= id_order(span.after))
        ):
            each = notes.pop(0)
            base = base if each.withdrawn else each
        self.notes = notes
        self.begins = base.written.last if base else preceding(since)
        self.last = self.begins
        first = base.written if base else Written("", "", 0, start(place.stream, place.partition, group))
        self.states = [_State(RunningDigest(first.entries, first.digest), base)]

    def start_from(self, first: str) -> None:
        """Drop notes that need entries before ``first``, which cannot be read: only later notes are fixed points."""
        needed = self.begins if self.states[0].base else self.since
        if id_order(needed) < id_order(first):
            self.states, self.first = [], first

    def add(self, entry: Entry, findings: Findings) -> None:
        """Add one entry of the group."""
        at = id_order(entry.id)
        if at <= id_order(self.begins) or (self.until and at >= id_order(self.until)):
            return
        while self.notes and id_order(self.notes[0].written.last) < at:
            self._compare(self.notes.pop(0), findings)
        if not self.notes:
            self.after += 1
            return
        self.states = [
            _State(RunningDigest(state.running.entries + 1, extend(state.running.digest, (entry.data,))), state.base)
            for state in self.states
        ]

    def end(self, findings: Findings) -> None:
        """Compare the remaining notes: no entry follows."""
        while self.notes:
            self._compare(self.notes.pop(0), findings)

    def _compare(self, note: KnownDigest, findings: Findings) -> None:
        written = note.written
        expected = RunningDigest(written.entries, written.digest)
        agreed = next((state for state in self.states if state.running == expected), None)
        self.last = written.last
        if agreed is not None:
            findings.see(CHECK, times=written.entries - (agreed.base.written.entries if agreed.base else 0))
            self.states = [_State(expected, note)]
        elif note.withdrawn:
            findings.skip(
                f"{self.place.key}: {self.group} had written {written.entries:,} entries by {written.last} "
                f"({note.source}), and later continued from fewer: its newest entries were lost or removed"
            )
        elif not self.states:
            findings.skip(f"{self.place.key}: entries of {self.group} up to {written.last} cannot be read any more")
            self.states = [_State(expected, note)] if id_order(written.last) >= id_order(self.first) else []
        else:
            findings.see(CHECK, equal=False, times=max(_missed(self.states[0], written), 1))
            findings.differ(self._difference(note))
            # Later notes may continue this one, or (where a group recomputed its digest) the entries as they are now.
            self.states = [self.states[0], _State(expected, note)]

    def _difference(self, note: KnownDigest) -> Difference:
        state, written = self.states[-1], note.written
        before = state.base.written if state.base else None
        present = state.running.entries - (before.entries if before else 0)
        expected = written.entries - (before.entries if before else 0)
        if present == expected:
            what = f"{present:,} entries were read, as many as were written, but others, or in another order"
        else:
            what = f"{present:,} entries were read, {expected:,} were written"
        begins = f"after {before.last} ({state.base.source})" if before and state.base else f"from {self.since} on"
        return Difference(
            "written",
            self.place.stream,
            self.place.partition,
            before.last if before else self.since,
            "",
            f"{self.group}, {begins}, up to {written.last} ({note.source}): {what}; "
            f"expected entry {written.entries:,} with digest {written.digest.hex()[:12]}, "
            f"found {state.running.entries:,} with {state.running.digest.hex()[:12]}",
        )


def _missed(state: _State, written: Written) -> int:
    return written.entries - (state.base.written.entries if state.base else 0)
