"""Trace a decision back to its causes: find each link of the chain on its stream and check it.

The links are the decision, its configuration and its intent; each ballot with its vector and bar; each artifact with
its training, its promotion, the verdict for it and the evidence that it was loaded.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from schemas.codec import Opened, UnreadableError, opened
from schemas.control import (
    Approve,
    CommandRecorded,
    Promote,
    PromotePolicy,
    RegisterArtifact,
    RevertProbation,
    Rollback,
)
from schemas.decisions import CountedBallot, DecisionMade
from schemas.gates import VerdictReached
from schemas.readiness import ArtifactReady
from schemas.training import TrainingCompleted
from shared.artifacts import ArtifactStore
from shared.audit.artifacts import examine
from shared.audit.configurations import Configurations
from shared.audit.source import Recording
from shared.audit.votes import fault_of
from shared.control import effect_of
from shared.control.policies import policy_digest
from shared.log import START, StreamKey
from shared.voting.decision import intent_of

Outcome = Literal["checked", "failed", "absent"]


class Link(NamedTuple):
    """One step: what it concerns, the result of its check, a description, and where it is recorded."""

    what: str
    outcome: Outcome
    description: str
    where: str = ""


class BlamedEvent(NamedTuple):
    """A recorded event and its position."""

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
        """Its position: ``<stream>/<partition>@<entry>``."""
        return f"{self.place.stream}/{self.place.partition}@{self.entry}"


def find_decision(source: Recording, partitions: int, prefix: str) -> BlamedEvent | None:
    """Return the decision whose id begins with ``prefix`` (hexadecimal); None where there is none. Raises
    ``LookupError`` if several do: an answer about one of them would be taken for an answer about another."""
    needle = f'"id":"{prefix}'.encode()
    matching = dict[str, BlamedEvent]()
    for partition in range(partitions):
        for candidate in _containing(source, StreamKey("decisions", partition), needle):
            name = candidate.opened.envelope.id.hex()
            if name.startswith(prefix) and isinstance(candidate.event, DecisionMade):
                matching.setdefault(name, candidate)
    if len(matching) > 1:
        shown = ", ".join(name[: len(prefix) + 6] for name in list(matching)[:5])
        raise LookupError(f"{len(matching)} decisions begin with {prefix}: {shown}")
    return next(iter(matching.values()), None)


def links(
    source: Recording, configurations: Configurations, recorded: BlamedEvent, store: ArtifactStore
) -> Iterator[Link]:
    """Yield every link of a decision, from the decision back to its causes."""
    decision: DecisionMade = recorded.event
    fault = fault_of(configurations, recorded.data)
    about = f"{decision.symbol} {decision.action} {decision.confidence:.3f}, {decision.closed_by}, {decision.intent}"
    yield Link(
        "decision", "failed" if fault else "checked", f"{about}{f'; {fault[1]}' if fault else ''}", recorded.where
    )
    yield from _configuration(configurations, decision)
    yield from _voting_policy(source, configurations, decision)
    yield from _intent(source, configurations, recorded)
    for ballot in decision.counted:
        yield from _ballot(source, recorded, ballot)
    for absent in decision.absent:
        yield Link(f"{absent.model} did not vote", "checked", absent.reason)
    for ballot in decision.counted:
        yield from _artifact(source, configurations, decision, ballot, store)


def _configuration(configurations: Configurations, decision: DecisionMade) -> Iterator[Link]:
    configuration = configurations.at(decision.control_version)
    where = f"control/0@{configurations.entry_of(decision.control_version)}"
    if configuration is None or configuration.state.head != decision.control_head:
        yield Link(
            "configuration", "failed", f"version {decision.control_version} has another head, or is missing", where
        )
        return
    entry: CommandRecorded = configurations.envelopes[decision.control_version - 1].event
    yield Link("configuration", "checked", f"version {entry.version}, last changed by {_by(entry)}", where)


def _voting_policy(source: Recording, configurations: Configurations, decision: DecisionMade) -> Iterator[Link]:
    """Yield the entry that put the voting policy in force, and the verdict if it was promoted from shadow. Nothing for
    a policy that was never in shadow."""
    configuration = configurations.at(decision.control_version)
    if configuration is None:
        return
    policy = configuration.state.policy
    digest = policy_digest(policy)
    if digest not in configuration.state.policies:
        return
    version = decision.control_version
    while version > 1 and configurations.states[version - 2].policy == policy:
        version -= 1
    entry: CommandRecorded = configurations.envelopes[version - 1].event
    kind = type(entry.command).__struct_config__.tag
    yield Link("voting policy", "checked", f"{digest[:12]}, {kind} by {_by(entry)}", f"control, version {version}")
    if isinstance(entry.command, PromotePolicy):
        what, partitions = "voting policy's verdict", configurations.newest.partitions
        yield _verdict(source, partitions, entry.command.verdict, digest, what)


def _intent(source: Recording, configurations: Configurations, recorded: BlamedEvent) -> Iterator[Link]:
    decision: DecisionMade = recorded.event
    if decision.intent != "issued":
        return
    name = recorded.opened.envelope.id.hex()
    place, needle = StreamKey("intents", recorded.place.partition), f'"decision":"{name}"'.encode()
    intent = next(
        (each for each in _containing(source, place, needle) if getattr(each.event, "decision", "") == name), None
    )
    configuration = configurations.at(decision.control_version)
    if intent is None or configuration is None:
        yield Link("intent", "absent", "recorded as issued, but not on the stream")
        return
    same = not intent.opened.fault and intent.event == intent_of(configuration.panel, decision, name)
    yield Link("intent", "checked" if same else "failed", f"valid until {intent.event.valid_until}", intent.where)


def _ballot(source: Recording, recorded: BlamedEvent, ballot: CountedBallot) -> Iterator[Link]:
    """Yield the recorded ballot, the vector that it is computed from, and the bar of that vector."""
    what, partition = f"{ballot.model}'s ballot", recorded.place.partition
    cast = _first(source, "predictions", partition, bytes.fromhex(ballot.event), recorded.entry)
    if cast is None:
        yield Link(what, "absent", f"{ballot.event[:12]} is not on predictions")
        return
    same = not cast.opened.fault and _claimed(ballot, recorded.event) == _claimed(ballot, cast.event)
    description = f"{ballot.action} {ballot.confidence:.3f}, weight {ballot.weight:.2f}, effect {ballot.effect:+.3f}"
    yield Link(what, "checked" if same else "failed", description, cast.where)
    vector = _first(source, "features", partition, cast.event.vector, recorded.entry)
    yield _step(f"{ballot.model}'s vector", vector, cast.event.vector.hex(), recorded.event)
    bar = _first(source, "market", partition, recorded.opened.envelope.correlation, recorded.entry)
    yield _step(f"{ballot.model}'s bar", bar, recorded.opened.envelope.correlation.hex(), recorded.event)


def _claimed(ballot: CountedBallot, event: Any) -> tuple[Any, ...]:
    """Return what a counted ballot claims of its prediction: the bar, the artifact and the probabilities; or, for a
    prediction, what it has of that."""
    if isinstance(event, DecisionMade):
        return (*_bar(event), ballot.model, ballot.artifact, ballot.probabilities)
    return (*_bar(event), event.model, event.artifact.hex(), getattr(event, "probabilities", None))


def _bar(event: Any) -> tuple[str, int, int]:
    return event.symbol, event.interval_ms, event.open_time


def _step(what: str, recorded: BlamedEvent | None, name: str, decision: DecisionMade) -> Link:
    if recorded is None:
        return Link(what, "absent", f"{name[:12]} is not on the stream, or cannot be read")
    event = recorded.event
    description, fault = f"{event.symbol}, bar {event.open_time}, {event.origin}", recorded.opened.fault
    if not fault and _bar(event) != _bar(decision):
        fault = f"it is of another bar: {description}"
    return Link(what, "failed" if fault else "checked", fault or description, recorded.where)


def _artifact(
    source: Recording,
    configurations: Configurations,
    decision: DecisionMade,
    ballot: CountedBallot,
    store: ArtifactStore,
) -> Iterator[Link]:
    """Yield the artifact, its training, and how it came into service."""
    model, artifact = ballot.model, ballot.artifact
    examined = examine(store, artifact)
    what = f"{model}'s artifact"
    if examined.artifact is None:
        yield Link(what, "failed" if examined.layer else "absent", examined.fault)
    else:
        manifest = examined.artifact.manifest
        yield Link(what, "checked", f"{artifact[:12]}, {manifest.family}, {len(manifest.files)} files as digested")
        data = manifest.data
        rows = f"{data.bars:,} bars of {', '.join(data.symbols)} from {data.source}"
        yield Link(f"{model}'s training data", "checked", f"{rows}, digest {data.digest[:12]}, from the manifest")
    yield from _training(source, model, artifact)
    entries = [envelope.event for envelope in configurations.envelopes[: decision.control_version]]
    registered = [
        entry
        for entry in entries
        if isinstance(entry.command, RegisterArtifact)
        and (entry.command.model, entry.command.artifact) == (model, artifact)
    ]
    for entry in registered[-1:]:
        yield Link(f"{model} registered", "checked", _by(entry), f"control, version {entry.version}")
    yield from _promotion(source, configurations, entries, model, artifact)


def _training(source: Recording, model: str, artifact: str) -> Iterator[Link]:
    """Yield the newest job that made the artifact. Other events name it too: as the champion that a job was compared
    with, for one."""
    mentions = _containing(source, StreamKey("training"), artifact.encode())
    runs = deque((run for run in mentions if _made(run.event, model, artifact)), maxlen=1)
    if not runs:
        yield Link(f"{model}'s training run", "absent", "no run was recorded: it was trained by hand, or imported")
    else:
        fault, job = runs[0].opened.fault, f"job {runs[0].event.request[:12]}"
        yield Link(f"{model}'s training run", "failed" if fault else "checked", fault or job, runs[0].where)


def _made(event: object, model: str, artifact: str) -> bool:
    return isinstance(event, TrainingCompleted) and (event.model, event.artifact) == (model, artifact)


def _promotion(
    source: Recording, configurations: Configurations, entries: list[CommandRecorded], model: str, artifact: str
) -> Iterator[Link]:
    """Yield the entry since which the artifact has been champion without a break, and the promotion that caused it."""
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
        promotions = [e for e in entries if _promotes(e, artifact)]
        since = promotions[-1] if promotions else since
    if isinstance(since.command, Approve):
        proposal = entries[since.command.proposal - 1]
        yield Link(f"{model} proposed", "checked", _by(proposal), f"control, version {proposal.version}")
    command = effect_of(since.command)
    if not isinstance(command, Promote):
        return
    yield _verdict(source, configurations.newest.partitions, command.verdict, command.artifact, f"{model}'s verdict")
    for name in command.ready:
        ready = _anywhere(source, "readiness", configurations.newest.partitions, name)
        good = ready is not None and not ready.opened.fault and _loaded(ready.event, model, artifact)
        description = (
            f"loaded by {ready.event.owner} in {ready.event.took_ms} ms" if ready is not None and good else name[:12]
        )
        outcome: Outcome = "absent" if ready is None else "checked" if good else "failed"
        yield Link(f"{model} was ready", outcome, description, ready.where if ready else "")
    if not command.ready:
        yield Link(f"{model} was ready", "absent", "the promotion names no worker that had loaded it")


def _promotes(entry: CommandRecorded, artifact: str) -> bool:
    command = effect_of(entry.command)
    return isinstance(command, Promote) and command.artifact == artifact


def _loaded(event: object, model: str, artifact: str) -> bool:
    return isinstance(event, ArtifactReady) and (event.model, event.artifact) == (model, artifact)


def _verdict(source: Recording, partitions: int, verdict: str | None, artifact: str, what: str) -> Link:
    if verdict is None:
        return Link(what, "absent", "promoted by force: no verdict")
    recorded = _anywhere(source, "gates", partitions, verdict)
    if recorded is None:
        return Link(what, "absent", f"{verdict[:12]} is not on gates")
    event = recorded.event
    good = isinstance(event, VerdictReached) and not recorded.opened.fault and event.artifact == artifact
    if not good or event.overall != "passed":
        return Link(what, "failed", f"{verdict[:12]} is no passing verdict on it", recorded.where)
    return Link(what, "checked", f"passed by {event.policy} after {event.scores:,} scores", recorded.where)


def _by(entry: CommandRecorded) -> str:
    key = f", signed by {entry.key}" if entry.key else ""
    return f"{entry.actor} ({entry.reason}){key}"


def _anywhere(source: Recording, stream: str, partitions: int, name: str) -> BlamedEvent | None:
    """Return the event of a JSON stream whose id is ``name`` (hexadecimal)."""
    places, needle = [StreamKey(stream, partition) for partition in range(partitions)], f'"id":"{name}"'.encode()
    mentions = (event for place in places for event in _containing(source, place, needle))
    return next((event for event in mentions if event.opened.envelope.id.hex() == name), None)


def _first(source: Recording, stream: str, partition: int, name: bytes, until: str) -> BlamedEvent | None:
    """Return the first event whose id is ``name``, of a stream whose events have their ids as bytes."""
    mentions = _containing(source, StreamKey(stream, partition), name, until)
    return next((event for event in mentions if event.opened.envelope.id == name), None)


def _containing(source: Recording, place: StreamKey, needle: bytes, until: str = "+") -> Iterator[BlamedEvent]:
    """Yield events whose bytes contain ``needle``.

    Searching the bytes first is a hundred times faster than decoding every event."""
    for entry in source.entries(place, START, until):
        if needle in entry.data:
            try:
                yield BlamedEvent(place, entry.id, entry.data, opened(place.stream, entry.data))
            except UnreadableError:
                continue
