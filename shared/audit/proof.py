"""Make a proof pack: one file with the promotion that made a version of the configuration, and the evidence for it.

``gather`` reads only streams and the manifest of the artifact. The file is JSON. ``body`` states the facts,
``evidence`` has the entries that prove them, and one Ed25519 signature covers the canonical bytes of both.
``shared.audit.proof_checks`` checks it. The format is described in ``docs/reference/proof-packs.md``.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    Promote,
    Propose,
    Refuse,
    RevertProbation,
    Rollback,
)
from schemas.decisions import DecisionMade
from schemas.gates import VerdictReached
from schemas.readiness import ArtifactReady
from schemas.scores import InterferenceChecked, PredictionScored
from shared.artifacts import ArtifactError, ArtifactStore
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import END, EntryRange, ReadEvent, Recording, readable
from shared.audit.votes import fault_of
from shared.control import effect_of
from shared.control.signing import Signer, sign
from shared.log import Entry, StreamKey

FORMAT: Final = 1


class ProofError(ValueError):
    """A pack cannot be made; the message names what is missing."""


def canonical(value: Any) -> bytes:
    """Return the bytes that are signed: JSON with sorted keys, no spaces, and only ASCII characters."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def pack_name(version: int) -> str:
    """Return the name of the files of a pack, without their suffix."""
    return f"proof-{version}"


def packed(pack: dict[str, Any]) -> bytes:
    """Return the content of the file of a pack."""
    return (json.dumps(pack, indent=1, sort_keys=True) + "\n").encode()


def provable(configurations: Configurations, version: int) -> tuple[int, ...]:
    """Return the versions whose packs prove what votes since a version: the version itself, if it promoted an artifact;
    after a rollback, the promotions of the artifacts that vote again."""
    command = effect_of(configurations.envelopes[version - 1].event.command)
    match command:
        case Promote():
            return (version,)
        case Rollback() | RevertProbation() if version > 1:
            before, now = configurations.states[version - 2 : version]
            votes = {name: one.champion for name, one in now.models.items()}
            changed = {name: votes[name] for name in votes if votes[name] != before.model(name).champion}
            return tuple(sorted(_promotions(configurations, version, changed)))
        case _:
            return ()


def _promotions(configurations: Configurations, version: int, champions: Mapping[str, str | None]) -> Iterator[int]:
    """Yield the last promotion of each champion before a version."""
    wanted = dict(champions)
    for envelope in reversed(configurations.envelopes[: version - 1]):
        command = effect_of(envelope.event.command)
        if isinstance(command, Promote) and wanted.get(command.model) == command.artifact:
            del wanted[command.model]
            yield envelope.event.version
        if not wanted:
            return


def gather(
    source: Recording, configurations: Configurations, version: int, store: ArtifactStore | None = None
) -> dict[str, Any]:
    """Return the unsigned pack of a version that promoted an artifact. Raises ``ProofError``."""
    if not 1 <= version <= len(configurations.states):
        raise ProofError(f"there is no version {version}; the newest is {len(configurations.states)}")
    entry: CommandRecorded = configurations.envelopes[version - 1].event
    command = effect_of(entry.command)
    if not isinstance(command, Promote):
        kind = type(command).__struct_config__.tag
        raise ProofError(f"version {version} is a {kind}, not a promotion; `conclave history` shows the promotions")
    partitions = range(configurations.states[version - 1].partitions or 1)
    evidence: dict[str, dict[str, Any]] = {}
    for number, control in enumerate(source.entries(StreamKey("control"))):
        if number < len(configurations.entries) + len(configurations.reader.refused):
            _add_entry(evidence, control)
    behaviour = [_behaviour(source, partition, command, evidence) for partition in partitions]
    body = {
        "version": version,
        "head": configurations.states[version - 1].head,
        "log_id": configurations.newest.log_id,
        "what": _what(configurations, entry, command, store),
        "loaded": [found for partition in partitions for found in _loaded(source, partition, command, evidence)],
        "non_interference": [_interference(source, configurations, p, command, evidence) for p in partitions],
        "behaviour": behaviour,
        "gates": [found for partition in partitions for found in _verdicts(source, partition, command, evidence)],
        "rollback": _rollback(configurations, version, command),
        "audit_trail": _trail(configurations, command),
    }
    body["next_steps"] = _next(body, command)
    return {"format": FORMAT, "body": body, "evidence": sorted(evidence.values(), key=lambda item: item["place"])}


def sign_pack(pack: dict[str, Any], signer: Signer) -> dict[str, Any]:
    """Return the pack with a signature over everything in it."""
    public = signer.public_key
    unsigned = {**pack, "signed_by": {"key_id": signer.key_id, "public_key": public}}
    return {**unsigned, "signature": sign(canonical(unsigned), signer)}


def _add_entry(evidence: dict[str, dict[str, Any]], entry: Entry) -> None:
    place = f"{entry.place.stream}/{entry.place.partition}@{entry.id}"
    evidence[place] = {
        "place": place,
        "stream": entry.place.stream,
        "partition": entry.place.partition,
        "entry": entry.id,
        "data": base64.b64encode(entry.data).decode(),
    }


def _add_event(evidence: dict[str, dict[str, Any]], place: StreamKey, read: ReadEvent) -> str:
    _add_entry(evidence, Entry(place, read.entry, read.data))
    return read.opened.envelope.id.hex()


def _reads(source: Recording, place: StreamKey) -> Iterator[ReadEvent]:
    return readable(source, place, "file", Findings(), EntryRange(END))


def _what(
    configurations: Configurations, entry: CommandRecorded, command: Promote, store: ArtifactStore | None
) -> dict[str, Any]:
    registered = configurations.newest.artifacts[command.artifact]
    facts = {
        "model": command.model, "artifact": command.artifact, "family": registered.family,
        "feature_set": registered.feature_set_name, "libraries": dict(registered.libraries),
        "by": entry.actor, "why": entry.reason, "at": entry.at, "forced": command.forced, "key": entry.key,
    }  # fmt: skip
    if isinstance(entry.command, Approve):
        proposal = configurations.envelopes[entry.command.proposal - 1].event
        facts["proposed"] = {
            "version": proposal.version, "by": proposal.actor, "why": proposal.reason, "at": proposal.at,
            "key": proposal.key,
        }  # fmt: skip
    try:
        manifest = store.manifest(command.artifact) if store is not None else None
    except ArtifactError:
        manifest = None
    if manifest is not None:
        facts["files"] = [msgspec.to_builtins(file) for file in manifest.files]
        facts["training_data"] = msgspec.to_builtins(manifest.data)
    return facts


def _loaded(source: Recording, partition: int, command: Promote, evidence: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = StreamKey("readiness", partition)
    for read in _reads(source, place):
        event = read.opened.envelope.event
        if isinstance(event, ArtifactReady) and (event.model, event.artifact) == (command.model, command.artifact):
            name = read.opened.envelope.id.hex()
            if name in command.ready or not command.ready:
                yield {
                    "partition": partition, "event": _add_event(evidence, place, read), "worker": event.owner,
                    "at": event.at, "took_ms": event.took_ms, "named_by_promotion": name in command.ready,
                }  # fmt: skip
                if not command.ready:
                    return


def _interference(
    source: Recording, configurations: Configurations, partition: int, command: Promote, evidence: dict[str, Any]
) -> dict[str, Any]:
    """Return the non-interference of one partition: how many decisions the recorder checked with this artifact in
    shadow.

    The decisions that follow from their counted ballots alone are counted again here."""
    newest: ReadEvent | None = None
    place = StreamKey("scores", partition)
    for read in _reads(source, place):
        if isinstance(read.opened.envelope.event, InterferenceChecked):
            newest = read
    in_shadow = same = 0
    first: ReadEvent | None = None
    decisions = StreamKey("decisions", partition)
    for read in _reads(source, decisions):
        decision = read.opened.envelope.event
        if isinstance(decision, DecisionMade):
            if any(shadow.artifact == command.artifact for shadow in decision.shadow):
                in_shadow += 1
                same += fault_of(configurations, read.data) is None
            if first is None and any(ballot.artifact == command.artifact for ballot in decision.counted):
                first = read
    facts: dict[str, Any] = {"partition": partition, "decisions_in_shadow": in_shadow, "equal_without_it": same}
    if newest is not None:
        event = newest.opened.envelope.event
        facts |= {"event": _add_event(evidence, place, newest), "checked": event.checked, "equal": event.equal_so_far}
    if first is not None:
        facts["first_vote"] = _add_event(evidence, decisions, first)
    return facts


def _behaviour(source: Recording, partition: int, command: Promote, evidence: dict[str, Any]) -> dict[str, Any]:
    """Return sums over the artifact's scored predictions, in shadow and as a voter."""
    sides: dict[str, dict[str, Any]] = {}
    artifact = bytes.fromhex(command.artifact)
    for read in _reads(source, StreamKey("scores", partition)):
        event = read.opened.envelope.event
        if not isinstance(event, PredictionScored) or event.artifact != artifact:
            continue
        zero = {"scores": 0, "SELL": 0, "HOLD": 0, "BUY": 0, "hits": 0, "log_loss": 0.0, "signed_return": 0.0}
        side = sides.setdefault(event.role, zero)
        side["scores"] += 1
        side[event.action] += 1
        side["hits"] += event.hit
        side["log_loss"] += event.log_loss
        side["signed_return"] += event.signed_return
    for side in sides.values():
        side["log_loss"] = side["log_loss"] / side["scores"]
    return {"partition": partition, **sides}


def _verdicts(
    source: Recording, partition: int, command: Promote, evidence: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the verdict that the promotion names, and the newest one for the artifact."""
    place = StreamKey("gates", partition)
    named: ReadEvent | None = None
    newest: ReadEvent | None = None
    for read in _reads(source, place):
        event = read.opened.envelope.event
        if isinstance(event, VerdictReached) and event.artifact == command.artifact:
            newest = read
            named = read if read.opened.envelope.id.hex() == command.verdict else named
    for read in {id(read): read for read in (named, newest) if read is not None}.values():
        event = read.opened.envelope.event
        name = _add_event(evidence, place, read)
        yield {
            "partition": partition, "event": name, "named_by_promotion": name == command.verdict,
            "policy": event.policy, "overall": event.overall, "scores": event.scores, "advice": event.advice,
            "gates": [{"name": gate.name, "verdict": gate.verdict, "kind": gate.kind, "value": gate.value,
                       "threshold": gate.threshold, "samples": gate.samples} for gate in event.gates],
        }  # fmt: skip


def _rollback(configurations: Configurations, version: int, command: Promote) -> dict[str, Any]:
    before = configurations.states[version - 2] if version > 1 else None
    former = before.models[command.model].champion if before and command.model in before.models else None
    return {
        "command": f"conclave rollback --model {command.model} --reason '...'",
        "whole_configuration": f"conclave rollback --to {version - 1} --reason '...'",
        "former_champion": former,
    }


def _trail(configurations: Configurations, command: Promote) -> list[dict[str, Any]]:
    """Return every control entry that concerns the artifact or its model, proposals among them."""
    return [
        {
            "version": entry.version, "at": entry.at, "by": entry.actor, "key": entry.key, "why": entry.reason,
            "what": type(entry.command).__struct_config__.tag, "artifact": getattr(concerned, "artifact", None),
        }
        for entry in (envelope.event for envelope in configurations.envelopes)
        for concerned in [_concerned(configurations, entry)]
        if getattr(concerned, "model", None) == command.model
    ]  # fmt: skip


def _concerned(configurations: Configurations, entry: CommandRecorded) -> Command:
    """Return the command that an entry is about: what it proposes, approves or refuses, or its own."""
    command = entry.command
    if isinstance(command, Refuse):
        proposal = configurations.envelopes[command.proposal - 1].event.command
        return proposal.command if isinstance(proposal, Propose) else command
    return command.command if isinstance(command, Propose | Approve) else command


def _next(body: dict[str, Any], command: Promote) -> list[str]:
    steps = [verdict["advice"] for verdict in body["gates"] if verdict["advice"]]
    if command.forced and not any(verdict["overall"] == "passed" for verdict in body["gates"]):
        steps.append("it was promoted by force: watch its gates, or roll back")
    if not body["loaded"]:
        steps.append("no worker reported that it had loaded the artifact: see `conclave status`")
    return steps or ["watch the guard (`conclave gates`), and confirm or roll back"]
