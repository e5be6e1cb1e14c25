"""Fetch the entries that one decision was made from: at known places, or close before it. Nothing is scanned.

``market``, ``gates``, ``readiness`` and ``training`` are read at entries that the projections know. Ballots and vectors
were written shortly before their decision, so they are looked for in windows that reach further and further back.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct, field

from schemas.codec import UnreadableError, opened
from schemas.decisions import DecisionMade
from services.observatory.core import State
from services.observatory.series import DecisionPoint, SeriesState, bars_of, decisions_of
from shared.audit.blame import BlamedEvent
from shared.audit.configurations import Configurations
from shared.audit.proof_subject import subject_of
from shared.audit.source import END
from shared.control import effect_of
from shared.log import START, Entry, Log, StreamKey, preceding
from shared.log.leases import id_order

WINDOWS_MS: Final = (100, 1_000, 10_000, 120_000)
"""How far before a decision its ballots and vectors are looked for, step by step."""
MOST: Final = 20_000
"""The most entries of one stream that are read for one decision."""
AFTER: Final = 200
"""Entries of ``intents`` from the decision on that are looked at: both are written by one commit."""


class Gathered(Struct):
    """The entries around one decision, as a recording (``shared.audit.source.Recording``).

    ``recorded``: the decision. ``limited``: the streams of which not all was found in what was read."""

    recorded: BlamedEvent
    found: dict[StreamKey, list[Entry]] = field(default_factory=dict)
    limited: list[str] = field(default_factory=list)

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """Yield the entries of a stream, oldest first."""
        for entry in self.found.get(place, ()):
            if id_order(entry.id) > id_order(after) and (until == END or id_order(entry.id) <= id_order(until)):
                yield entry

    def whole(self, place: StreamKey) -> bool:
        """Return false: only some entries were fetched."""
        return False


def find(state: State, prefix: str, name: str = "") -> tuple[SeriesState, DecisionPoint] | None:
    """Return the kept decision whose id begins with ``prefix`` (hexadecimal), and its series; None if there is none.
    ``name``: only of this series."""
    needle = prefix.encode()
    series = [state.series[name]] if name in state.series else list(state.series.values())
    for each in series:
        if any(needle in item for item in each.decisions.items):
            for decision in reversed(decisions_of(each)):
                if decision.id.startswith(prefix):
                    return each, decision
    return None


async def gather(
    log: Log, state: State, configurations: Configurations, series: SeriesState, decision: DecisionPoint
) -> Gathered | None:
    """Return the entries around a decision; None if the decision is no longer on the log."""
    entry = await _at(log, StreamKey("decisions", series.partition), decision.entry)
    if entry is None:
        return None
    try:
        recorded = BlamedEvent(entry.place, entry.id, entry.data, opened("decisions", entry.data))
    except UnreadableError:
        return None
    gathered = Gathered(recorded)
    made: DecisionMade = recorded.event
    await _around(log, gathered, series, made)
    await _of_artifacts(log, gathered, state, configurations, made)
    return gathered


async def _around(log: Log, gathered: Gathered, series: SeriesState, made: DecisionMade) -> None:
    """Fetch the bar, the ballots, their vectors and the intent."""
    partition, entry = series.partition, gathered.recorded.entry
    bar = next((bar for bar in bars_of(series) if bar.open_time == made.open_time), None)
    if bar is not None:
        await _keep(log, gathered, StreamKey("market", partition), bar.entry)
    else:
        gathered.limited.append("market")
    ballots = {bytes.fromhex(ballot.event) for ballot in made.counted}
    predictions = await _before(log, gathered, StreamKey("predictions", partition), entry, ballots)
    vectors = {event.vector for event in predictions if hasattr(event, "vector")}
    await _before(log, gathered, StreamKey("features", partition), entry, vectors)
    if made.intent == "issued":
        place = StreamKey("intents", partition)
        after = f"{max(id_order(entry)[0] - 1, 0)}-0"
        gathered.found[place] = await log.scan(place, after=after, count=AFTER)


async def _before(log: Log, gathered: Gathered, place: StreamKey, until: str, wanted: set[bytes]) -> list[object]:
    """Fetch the events of a stream with the ``wanted`` ids, written before ``until``, and return them."""
    at, found, read = id_order(until)[0], dict[bytes, tuple[Entry, object]](), 0
    for window in WINDOWS_MS if wanted else ():
        after, entries = f"{max(at - window, 0)}-0", list[Entry]()
        while read < MOST and (page := await log.scan(place, after=after, until=until, count=1000)):
            entries += page
            read += len(page)
            after = page[-1].id
        for entry in entries:
            name = next((name for name in wanted - found.keys() if name in entry.data), None)
            if name is not None and (event := _event(entry, name)) is not None:
                found[name] = entry, event
        if wanted <= found.keys() or read >= MOST:
            break
    if wanted - found.keys():
        gathered.limited.append(place.stream)
    gathered.found[place] = sorted((entry for entry, _ in found.values()), key=lambda entry: id_order(entry.id))
    return [event for _, event in found.values()]


def _event(entry: Entry, name: bytes) -> object | None:
    """Return the event of an entry, if it has this id."""
    try:
        envelope = opened(entry.place.stream, entry.data).envelope
    except UnreadableError:
        return None
    return envelope.event if envelope.id == name else None


async def _of_artifacts(
    log: Log, gathered: Gathered, state: State, configurations: Configurations, made: DecisionMade
) -> None:
    """Fetch the verdicts and loads that the promotions of the members and of voting policies name, and the results of
    training."""
    artifacts = {ballot.artifact for ballot in made.counted}
    for artifact in artifacts:
        if (trained := state.trained.get(artifact)) is not None:
            await _keep(log, gathered, StreamKey("training"), trained)
    for envelope in configurations.envelopes[: made.control_version]:
        command = effect_of(envelope.event.command)
        promoted = subject_of(command)
        if promoted is not None and (promoted.policy or promoted.artifact in artifacts):
            named = [("gates", promoted.verdict)] if promoted.verdict else []
            for stream, name in [*named, *(("readiness", ready) for ready in promoted.ready)]:
                if (where := state.index.get(name)) is not None:
                    partition, _, entry = where.partition(" ")
                    await _keep(log, gathered, StreamKey(stream, int(partition)), entry)


async def _keep(log: Log, gathered: Gathered, place: StreamKey, entry: str) -> None:
    """Fetch one entry."""
    found = gathered.found.setdefault(place, [])
    if all(each.id != entry for each in found) and (fetched := await _at(log, place, entry)) is not None:
        found.append(fetched)
        found.sort(key=lambda each: id_order(each.id))


async def _at(log: Log, place: StreamKey, entry: str) -> Entry | None:
    entries = await log.scan(place, after=preceding(entry), until=entry, count=1)
    return entries[0] if entries else None
