"""Make manipulations that an attacker with the permissions of a service could make, for ``bench.locate``.

Events are removed, left out, duplicated or backdated. They are encoded again, so that each id matches its event, and
dependent events are recomputed. ``verify`` must report each manipulation at its layer and for its bar."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from bench.recorded_rounds import Recorded
from schemas.codec import Encoded, Envelope, decode, encode
from schemas.control import Halt, Resume
from schemas.decisions import BallotLate, CountedBallot, DecisionMade, FenceClosed, FenceOpened
from schemas.features import FeaturesComputed, FeaturesWithheld
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.scores import PredictionScored
from shared.audit.configurations import Configurations
from shared.audit.findings import LAYERS, Findings, Layer
from shared.audit.votes import round_of
from shared.log import Entry, StreamKey
from shared.log.leases import id_order
from shared.voting.decision import causation_of, decision_of, intent_of

DECISIONS, INTENTS, PREDICTIONS, SCORES = (
    StreamKey("decisions"),
    StreamKey("intents"),
    StreamKey("predictions"),
    StreamKey("scores"),
)


class Taken(NamedTuple):
    """A manipulation: its name, the layers at which it may be reported, and its bar (None: any)."""

    name: str
    layers: tuple[Layer, ...]
    bar: tuple[str, int] | None

    def located(self, found: Findings) -> bool:
        """Return whether it was reported for its bar, and the first finding is not at a later layer."""
        first = found.first
        if first is None or LAYERS.index(first.layer) > max(LAYERS.index(layer) for layer in self.layers):
            return False
        return any(
            each.layer in self.layers and self.bar in (None, (each.symbol, each.open_time))
            for each in found.differences
        )


Case = tuple[Taken, Recorded]


class Record:
    """A source with the decoded events that are needed to forge it."""

    def __init__(self, source: Recorded) -> None:
        self.source = source
        self.configurations = Configurations(source, Findings())
        self.decisions = [(at, each) for at, each in self._read(DECISIONS) if isinstance(each.event, DecisionMade)]
        self.predictions = {each.id.hex(): at for at, each in self._read(PREDICTIONS)}

    def _read(self, place: StreamKey) -> list[tuple[int, Envelope[Any]]]:
        return [(at, decode(place.stream, each.data)) for at, each in enumerate(self.source.places.get(place, []))]

    def rewritten(self, at: int, event: DecisionMade) -> Recorded:
        """Return the source with the decision at index ``at`` replaced, and its intent recomputed."""
        was = decode("decisions", self.source.places[DECISIONS][at].data)
        sealed = _decision(event, was)
        made = copy(self.source)
        put(made, DECISIONS, at, sealed.data)
        intents = [
            each for each in made.places.get(INTENTS, []) if decode("intents", each.data).event.decision != was.id.hex()
        ]
        configuration = self.configurations.at(event.control_version)
        if event.intent == "issued" and configuration is not None:
            name = sealed.envelope.id.hex()
            intent = intent_of(configuration.panel, event, name)
            told = encode("intents", intent, causation=sealed.envelope.id, correlation=was.correlation, flags=was.flags)
            following = {each.event.open_time: at for at, each in self.decisions}
            before = sum(self._place(each, following) < at for each in intents)
            entry = intents[before - 1].id if before else "0-0"
            moment, _, number = entry.partition("-")
            intents.insert(before, Entry(INTENTS, f"{moment}-{int(number) + 1}", told.data))
            intents[before + 1 :] = [
                each._replace(id=_shifted(each.id, moment, int(number))) for each in intents[before + 1 :]
            ]
        made.places[INTENTS] = intents
        return made

    def _place(self, intent: Entry, following: dict[int, int]) -> int:
        named = decode("intents", intent.data).event.decision
        return next((at for at, each in self.decisions if each.id.hex() == named), 0)

    def again(
        self,
        decision: DecisionMade,
        *,
        version: int | None = None,
        without: str = "",
        closed_by: Any = None,
        now: int | None = None,
        halted: bool = False,
    ) -> DecisionMade:
        """Return the decision that would follow under another version, or without one ballot."""
        configuration = self.configurations.at(version or decision.control_version)
        assert configuration is not None
        round_ = round_of(decision)
        round_.ballots = {key: ballot for key, ballot in round_.ballots.items() if ballot.event != without}
        at = now if now is not None else decision.decided_at
        return decision_of(
            configuration.state, configuration.panel, round_, closed_by or decision.closed_by, at, halted=halted
        )


def _shifted(entry: str, moment: str, number: int) -> str:
    mine, _, place = entry.partition("-")
    return f"{mine}-{int(place) + 1}" if mine == moment and int(place) > number else entry


def _decision(event: DecisionMade, was: Envelope[Any]) -> Encoded:
    causation = causation_of(event, was.correlation)
    return encode("decisions", event, causation=causation, correlation=was.correlation, flags=was.flags)


def copy(source: Recorded) -> Recorded:
    """Return a copy of a source whose streams can be changed."""
    made = Recorded()
    made.places, made.added = dict(source.places), dict(source.added)
    return made


def put(source: Recorded, place: StreamKey, at: int, data: bytes) -> None:
    """Replace the bytes of one entry, in place."""
    entries = list(source.places[place])
    entries[at] = entries[at]._replace(data=data)
    source.places[place] = entries


def uncounted(source: Recorded, place: StreamKey, gone: set[str]) -> Recorded:
    """Return a copy without some entries, in which the server's count does not include them either."""
    made = copy(source)
    made.places[place] = [each for each in source.places.get(place, ()) if each.id not in gone]
    made.added[place] = 0
    return made


def about(event: Any) -> tuple[str, int]:
    """Return the symbol and open time of an event's bar."""
    return event.symbol, event.open_time


def removals(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Remove entries from a stream. The count of the server reveals them; without a count, the missing events do."""
    source = record.source
    for _ in range(times):
        at, decision = draw.choice(record.decisions[len(record.decisions) // 4 : -len(record.decisions) // 4])
        entry = source.places[DECISIONS][at].id
        name = decision.id.hex()
        intents = {each.id for each in source.places.get(INTENTS, []) if name.encode() in each.data}
        yield Taken("decision removed", ("stream",), None), source.without(DECISIONS, {entry}).without(INTENTS, intents)
        quiet = uncounted(uncounted(source, DECISIONS, {entry}), INTENTS, intents)
        yield Taken("decision removed, count too", ("vote",), about(decision.event)), quiet
    for stream, kinds in (("features", FeaturesComputed | FeaturesWithheld), ("predictions", PredictionMade)):
        place = StreamKey(stream)
        entries = source.places[place]
        for _ in range(times):
            chosen = draw.choice([each for each in entries[len(entries) // 4 : -len(entries) // 4] if _is(each, kinds)])
            bar = about(decode(stream, chosen.data).event)
            yield Taken(f"{stream} removed", ("stream",), None), source.without(place, {chosen.id})
            layers: tuple[Layer, ...] = ("feature", "bar") if stream == "features" else ("ballot",)
            yield Taken(f"{stream} removed, count too", layers, bar), uncounted(source, place, {chosen.id})

    failed = [each for each in source.places[PREDICTIONS] if _is(each, PredictionFailed)]
    for entry_ in _shuffled(failed[len(failed) // 4 : -len(failed) // 4], draw)[:times]:
        event = decode("predictions", entry_.data)
        named = event.id.hex().encode()
        if not any(named in each.data for each in source.places[DECISIONS]):
            quiet = uncounted(source, PREDICTIONS, {entry_.id})
            yield Taken("failure of a shadow removed, count too", ("ballot",), about(event.event)), quiet


def _is(entry: Entry, kinds: Any) -> bool:
    return isinstance(decode(entry.place.stream, entry.data).event, kinds)


def omissions(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Leave out the last ballot of a complete round where it changes the decision, with each possible reason."""
    found = 0
    for at, envelope in _shuffled(record.decisions, draw):
        decision: DecisionMade = envelope.event
        if decision.closed_by != "complete" or len(decision.counted) < 2:
            continue
        last = max(decision.counted, key=lambda ballot: record.predictions[ballot.event])
        now = decision.decided_at
        due = decision.open_time + decision.interval_ms + 86_400_000
        pretexts: list[tuple[str, Any, int | None]] = [("superseded", "superseded", now), ("deadline", "deadline", now)]
        if decision.origin == "live":
            pretexts.append(("deadline, its clock set on", "deadline", due))
        for name, closed_by, moment in pretexts:
            forged = record.again(decision, without=last.event, closed_by=closed_by, now=moment)
            if forged.action != decision.action or forged.intent != decision.intent:
                yield Taken(f"ballot left out as {name}", ("vote",), about(decision)), record.rewritten(at, forged)
                found += 1
        forged = record.again(decision, without=last.event, closed_by="superseded", now=now)
        if forged.intent != "issued":
            told = _late(decision, last, envelope)
            source = _inserted(record.rewritten(at, forged), at + 1, told)
            yield Taken("ballot left out as superseded, said to be late", ("vote",), about(decision)), source
        if found >= times:
            return


def _late(decision: DecisionMade, ballot: CountedBallot, envelope: Envelope[Any]) -> bytes:
    late = BallotLate(
        symbol=decision.symbol,
        interval_ms=decision.interval_ms,
        open_time=decision.open_time,
        origin=decision.origin,
        model=ballot.model,
        artifact=ballot.artifact,
        event=ballot.event,
    )
    causation = bytes.fromhex(ballot.event)
    return encode("decisions", late, causation=causation, correlation=envelope.correlation, flags=envelope.flags).data


def backdated(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Replace decisions by those under the previous configuration."""
    found = 0
    for at, envelope in _shuffled(record.decisions, draw):
        decision: DecisionMade = envelope.event
        if decision.control_version < 2 or found >= times:
            continue
        forged = record.again(decision, version=decision.control_version - 1)
        yield Taken("old version", ("vote",), about(decision)), record.rewritten(at, forged)
        found += 1


def doubled(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Add a second decision for a bar, after the first or at the end; write an old intent again."""
    source = record.source
    for at, envelope in _shuffled(record.decisions, draw)[:times]:
        made = copy(source)
        entries = list(source.places[DECISIONS])
        data = _decision(structs.replace(envelope.event, closed_by="complete"), envelope).data
        entries.append(Entry(DECISIONS, _after(entries[-1].id), data))
        made.places[DECISIONS] = entries
        yield Taken("decision doubled", ("vote",), about(envelope.event)), made
        del at
    intents = source.places.get(INTENTS, [])
    for entry in _shuffled(intents, draw)[:times]:
        made = copy(source)
        made.places[INTENTS] = [*intents, Entry(INTENTS, _after(intents[-1].id), entry.data)]
        yield Taken("intent doubled", ("intent",), None), made


def _after(entry: str) -> str:
    moment, _, number = entry.partition("-")
    return f"{moment}-{int(number) + 1}"


def halted(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Add an intent to a decision whose intent the fence refused; forge the marks of the fence."""
    found = [
        (at, each)
        for at, each in record.decisions
        if each.event.intent == "halted" and not _state_halted(record, each.event)
    ]
    for at, envelope in _shuffled(found, draw)[:times]:
        forged = record.again(envelope.event, halted=False)
        if forged.intent == "issued":
            yield Taken("intent after a closed fence", ("intent",), about(envelope.event)), record.rewritten(at, forged)
    marks = [(at, _mark(each)) for at, each in enumerate(record.source.places[DECISIONS]) if b'"fence.' in each.data]
    for at, mark in _shuffled([each for each in marks if _lasts(record, *each)], draw)[:times]:
        opened = encode("decisions", FenceOpened("c1x", mark.by, "", mark.at)).data
        yield Taken("fence opened without a command", ("intent",), None), _inserted(record.source, at + 1, opened)
    for at, mark in _shuffled([each for each in marks if isinstance(each[1], FenceClosed)], draw)[:times]:
        made = copy(record.source)
        put(made, DECISIONS, at, encode("decisions", structs.replace(mark, command_id="c2")).data)
        yield Taken("fence closed by no halt", ("intent",), None), made


def _state_halted(record: Record, decision: DecisionMade) -> bool:
    configuration = record.configurations.at(decision.control_version)
    return configuration is not None and configuration.state.halted


def _lasts(record: Record, at: int, mark: FenceClosed | FenceOpened) -> bool:
    """Return whether a mark belongs to a recorded halt that no resume ended within three minutes."""
    moment = id_order(record.source.places[DECISIONS][at].id)[0] + 180_000
    commands = [each.event for each in record.configurations.envelopes]
    halts = [each.version for each in commands if each.command_id == mark.command_id and isinstance(each.command, Halt)]
    ended = [each for each in commands if isinstance(each.command, Resume) and each.at < moment]
    return isinstance(mark, FenceClosed) and bool(halts) and all(each.version < halts[0] for each in ended)


def _inserted(source: Recorded, at: int, data: bytes) -> Recorded:
    """Return a copy with one more entry of ``decisions``; later ids of the same millisecond are shifted."""
    made = copy(source)
    entries = list(source.places[DECISIONS])
    moment, _, number = entries[at - 1].id.partition("-")
    later = [each._replace(id=_shifted(each.id, moment, int(number))) for each in entries[at:]]
    made.places[DECISIONS] = [*entries[:at], Entry(DECISIONS, f"{moment}-{int(number) + 1}", data), *later]
    return made


def _mark(entry: Entry) -> Any:
    return decode("decisions", entry.data).event


def unrecorded(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Remove the record of a late ballot."""
    source = record.source
    entries = source.places[DECISIONS]
    late = [each for each in entries[: 3 * len(entries) // 4] if b'"ballot.late"' in each.data and _voted(record, each)]
    for entry in _shuffled(late, draw)[:times]:
        bar = about(decode("decisions", entry.data).event)
        yield Taken("late ballot not recorded", ("vote",), bar), uncounted(source, DECISIONS, {entry.id})


def _voted(record: Record, entry: Entry) -> bool:
    """Return whether a late ballot is a prediction, not a failure, for a bar that was decided."""
    late: BallotLate = decode("decisions", entry.data).event
    said = decode("predictions", record.source.places[PREDICTIONS][record.predictions[late.event]].data).event
    return isinstance(said, PredictionMade) and any(about(each.event) == about(late) for _, each in record.decisions)


def scores(record: Record, draw: random.Random, times: int) -> Iterator[Case]:
    """Change a score, remove one, and remove all scores of one artifact."""
    source = record.source
    scored = [(at, each) for at, each in record._read(SCORES) if isinstance(each.event, PredictionScored)]
    for at, envelope in _shuffled(scored[: 3 * len(scored) // 4], draw)[:times]:
        event = envelope.event
        made = copy(source)
        forged = structs.replace(event, log_loss=0.01, hit=True, outcome=event.action, signed_return=0.5)
        put(
            made,
            SCORES,
            at,
            encode("scores", forged, causation=envelope.causation, correlation=envelope.correlation).data,
        )
        yield Taken("score forged", ("score",), about(event)), made
        gone = {source.places[SCORES][at].id}
        yield Taken("score removed, count too", ("score",), about(event)), uncounted(source, SCORES, gone)


FORGERIES: tuple[Callable[[Record, random.Random, int], Iterator[Case]], ...] = (
    removals,
    omissions,
    backdated,
    doubled,
    halted,
    unrecorded,
)


def _shuffled(found: Sequence[Any], draw: random.Random) -> list[Any]:
    return draw.sample(list(found), len(found))
