"""From a decision to whoever answers for it: each link of the chain found on its stream, and checked.

Decision, configuration, intent; each ballot, the vector and the bar behind it; each artifact, what it learned from,
who put it in service, on what verdict and what evidence that it was loaded.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from schemas.catalogue import STREAMS
from schemas.codec import Opened, UnreadableError, opened
from schemas.control import CommandRecorded, Promote, RegisterArtifact, RevertProbation, Rollback
from schemas.decisions import CountedBallot, DecisionMade
from schemas.gates import VerdictReached
from schemas.readiness import ArtifactReady
from shared.artifacts import ArtifactStore
from shared.audit.artifacts import examine
from shared.audit.configurations import Configurations
from shared.audit.source import Recording
from shared.audit.votes import fault_of
from shared.log import START, StreamKey
from shared.voting.decision import intent_of

Outcome = Literal["checked", "failed", "absent"]


class Link(NamedTuple):
    """One step: what it is about, whether it was checked, failed or is not there, and what it says."""

    what: str
    outcome: Outcome
    says: str
    where: str = ""


class BlamedEvent(NamedTuple):
    """A recorded event."""

    place: StreamKey
    entry: str
    data: bytes
    opened: Opened

    @property
    def event(self) -> Any:
        """The event itself."""
        return self.opened.envelope.event

    @property
    def where(self) -> str:
        """Where it stands."""
        return f"{self.place.stream}/{self.place.partition}@{self.entry}"


def decision_of(source: Recording, partitions: int, prefix: str) -> BlamedEvent | None:
    """The first decision whose id begins with ``prefix`` (hexadecimal)."""
    needle = f'"id":"{prefix}'.encode()
    for partition in range(partitions):
        for found in _with(source, StreamKey("decisions", partition), needle):
            if found.opened.envelope.id.hex().startswith(prefix) and isinstance(found.event, DecisionMade):
                return found
    return None


def links(
    source: Recording, configurations: Configurations, found: BlamedEvent, store: ArtifactStore
) -> Iterator[Link]:
    """Every link behind a decision, in the order of cause, backwards."""
    decision: DecisionMade = found.event
    fault = fault_of(configurations, found.data)
    about = f"{decision.symbol} {decision.action} {decision.confidence:.3f}, {decision.closed_by}, {decision.intent}"
    yield Link("decision", "failed" if fault else "checked", f"{about}{f'; {fault[1]}' if fault else ''}", found.where)
    yield from _configuration(configurations, decision)
    yield from _intent(source, configurations, found)
    for ballot in decision.counted:
        yield from _ballot(source, found, ballot)
    for absent in decision.absent:
        yield Link(f"{absent.model} did not vote", "checked", absent.reason)
    for ballot in decision.counted:
        yield from _artifact(source, configurations, decision, ballot, store)


def _configuration(configurations: Configurations, decision: DecisionMade) -> Iterator[Link]:
    configuration = configurations.at(decision.control_version)
    where = f"control/0@{configurations.entry_of(decision.control_version)}"
    if configuration is None or configuration.state.head != decision.control_head:
        yield Link("configuration", "failed", f"version {decision.control_version} has another head, or is gone", where)
        return
    entry: CommandRecorded = configurations.envelopes[decision.control_version - 1].event
    yield Link("configuration", "checked", f"version {entry.version}, last changed by {_by(entry)}", where)


def _intent(source: Recording, configurations: Configurations, found: BlamedEvent) -> Iterator[Link]:
    decision: DecisionMade = found.event
    if decision.intent != "issued":
        return
    name = found.opened.envelope.id.hex()
    intent = _first(source, "intents", found.place.partition, f'"decision":"{name}"'.encode(), START)
    configuration = configurations.at(decision.control_version)
    if intent is None or configuration is None:
        yield Link("intent", "absent", "issued, and not on the stream")
        return
    same = not intent.opened.fault and intent.event == intent_of(configuration.panel, decision, name)
    yield Link("intent", "checked" if same else "failed", f"valid until {intent.event.valid_until}", intent.where)


def _ballot(source: Recording, found: BlamedEvent, ballot: CountedBallot) -> Iterator[Link]:
    """The ballot as it was cast, the vector it answers, the bar that the vector is of."""
    what, partition = f"{ballot.model}'s ballot", found.place.partition
    cast = _first(source, "predictions", partition, bytes.fromhex(ballot.event), found.entry)
    if cast is None:
        yield Link(what, "absent", f"{ballot.event[:12]} is not on predictions")
        return
    same = not cast.opened.fault and getattr(cast.event, "probabilities", None) == ballot.probabilities
    says = f"{ballot.action} {ballot.confidence:.3f}, weight {ballot.weight:.2f}, effect {ballot.effect:+.3f}"
    yield Link(what, "checked" if same else "failed", says, cast.where)
    vector = _first(source, "features", partition, cast.event.vector, found.entry)
    yield _step(f"{ballot.model}'s vector", vector, cast.event.vector.hex())
    bar = _first(source, "market", partition, found.opened.envelope.correlation, found.entry)
    yield _step(f"{ballot.model}'s bar", bar, found.opened.envelope.correlation.hex())


def _step(what: str, found: BlamedEvent | None, name: str) -> Link:
    if found is None:
        return Link(what, "absent", f"{name[:12]} is not there, or cannot be read")
    event = found.event
    says = f"{event.symbol}, bar {event.open_time}, {event.origin}"
    return Link(what, "failed" if found.opened.fault else "checked", found.opened.fault or says, found.where)


def _artifact(
    source: Recording,
    configurations: Configurations,
    decision: DecisionMade,
    ballot: CountedBallot,
    store: ArtifactStore,
) -> Iterator[Link]:
    """The artifact, its training, and how it came into service."""
    model, artifact = ballot.model, ballot.artifact
    found = examine(store, artifact)
    what = f"{model}'s artifact"
    if found.artifact is None:
        yield Link(what, "failed" if found.layer else "absent", found.fault)
    else:
        manifest = found.artifact.manifest
        yield Link(what, "checked", f"{artifact[:12]}, {manifest.family}, {len(manifest.files)} files as digested")
        data = manifest.data
        rows = f"{data.bars:,} bars of {', '.join(data.symbols)} from {data.source}"
        yield Link(f"{model}'s training data", "checked", f"{rows}, digest {data.digest[:12]}, as the manifest says")
    yield from _training(source, model, artifact)
    entries = [envelope.event for envelope in configurations.envelopes[: decision.control_version]]
    registered = [e for e in entries if isinstance(e.command, RegisterArtifact) and e.command.artifact == artifact]
    for entry in registered[-1:]:
        yield Link(f"{model} registered", "checked", _by(entry), f"control, version {entry.version}")
    yield from _promotion(source, configurations, entries, model, artifact)


def _training(source: Recording, model: str, artifact: str) -> Iterator[Link]:
    if "training" not in STREAMS:
        yield Link(f"{model}'s training run", "absent", "no run was recorded: it was trained by hand")
        return
    found = deque(_with(source, StreamKey("training"), artifact.encode()), maxlen=1)
    if not found:
        yield Link(f"{model}'s training run", "absent", "no run was recorded: it was trained by hand, or imported")
    else:
        fault, kind = found[0].opened.fault, type(found[0].event).__name__
        yield Link(f"{model}'s training run", "failed" if fault else "checked", fault or kind, found[0].where)


def _promotion(
    source: Recording, configurations: Configurations, entries: list[CommandRecorded], model: str, artifact: str
) -> Iterator[Link]:
    """The entry since which the artifact has been champion without a break, and the promotion it rests on."""
    since = None
    for entry in reversed(entries):
        state = configurations.states[entry.version - 1]
        if model not in state.models or state.models[model].champion != artifact:
            break
        since = entry
    if since is None:
        yield Link(f"{model} in service", "failed", "it was no champion under that version")
        return
    kind = type(since.command).__struct_config__.tag
    yield Link(f"{model} in service", "checked", f"{kind} by {_by(since)}", f"control, version {since.version}")
    if isinstance(since.command, Rollback | RevertProbation):
        promotions = [e for e in entries if isinstance(e.command, Promote) and e.command.artifact == artifact]
        since = promotions[-1] if promotions else since
    command = since.command
    if not isinstance(command, Promote):
        return
    yield _verdict(source, configurations.newest.partitions, command, model)
    for name in command.ready:
        ready = _anywhere(source, "readiness", configurations.newest.partitions, f'"id":"{name}"'.encode())
        good = ready is not None and not ready.opened.fault and isinstance(ready.event, ArtifactReady)
        says = f"loaded by {ready.event.owner} in {ready.event.took_ms} ms" if ready is not None and good else name[:12]
        outcome: Outcome = "absent" if ready is None else "checked" if good else "failed"
        yield Link(f"{model} was ready", outcome, says, ready.where if ready else "")
    if not command.ready:
        yield Link(f"{model} was ready", "absent", "the promotion names no worker that had loaded it")


def _verdict(source: Recording, partitions: int, command: Promote, model: str) -> Link:
    what = f"{model}'s verdict"
    if command.verdict is None:
        return Link(what, "absent", "promoted by force: no verdict")
    found = _anywhere(source, "gates", partitions, f'"id":"{command.verdict}"'.encode())
    if found is None:
        return Link(what, "absent", f"{command.verdict[:12]} is not on gates")
    event = found.event
    good = isinstance(event, VerdictReached) and not found.opened.fault and event.artifact == command.artifact
    if not good or event.overall != "passed":
        return Link(what, "failed", f"{command.verdict[:12]} is no passing verdict on it", found.where)
    return Link(what, "checked", f"passed by {event.policy} after {event.scores:,} scores", found.where)


def _by(entry: CommandRecorded) -> str:
    key = f", signed by {entry.key}" if entry.key else ""
    return f"{entry.actor} ({entry.reason}){key}"


def _anywhere(source: Recording, stream: str, partitions: int, needle: bytes) -> BlamedEvent | None:
    return next((f for p in range(partitions) for f in _with(source, StreamKey(stream, p), needle)), None)


def _first(source: Recording, stream: str, partition: int, needle: bytes, until: str) -> BlamedEvent | None:
    """The event that holds ``needle`` as its id, or in JSON anywhere."""
    place = StreamKey(stream, partition)
    for found in _with(source, place, needle, "+" if until == START else until):
        if STREAMS[stream].codec == "json" or found.opened.envelope.id == needle:
            return found
    return None


def _with(source: Recording, place: StreamKey, needle: bytes, until: str = "+") -> Iterator[BlamedEvent]:
    """Events whose bytes hold ``needle``: a look through the bytes is a hundred times faster than reading them."""
    for entry in source.entries(place, START, until):
        if needle in entry.data:
            try:
                yield BlamedEvent(place, entry.id, entry.data, opened(place.stream, entry.data))
            except UnreadableError:
                continue
