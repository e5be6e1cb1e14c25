"""Make a proof pack: one file with the promotion that made a version of the configuration, and the evidence for it.

What was promoted is an artifact or a voting policy (``shared.audit.proof_subject``).
``gather`` reads only streams and the manifest of the artifact. The file is JSON. ``body`` states the facts,
``evidence`` has the entries that prove them, and one Ed25519 signature covers the canonical bytes of both.
``shared.audit.proof_checks`` checks it. The format is described in ``docs/reference/proof-packs.md``.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from schemas.control import (
    Approve,
    CommandRecorded,
)
from schemas.decisions import DecisionMade
from schemas.gates import VerdictReached
from schemas.readiness import ArtifactReady
from schemas.scores import InterferenceChecked, PredictionScored
from shared.artifacts import ArtifactError, ArtifactStore
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof_scores import scores_of_verdict, verdict_before
from shared.audit.proof_subject import Subject, subject_of, trail
from shared.audit.source import END, EntryRange, ReadEvent, Recording, readable
from shared.audit.votes import fault_of
from shared.control import effect_of
from shared.control.changes import policy_differences
from shared.control.policies import champion_of, policy_text
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


def gather(
    source: Recording, configurations: Configurations, version: int, store: ArtifactStore | None = None
) -> dict[str, Any]:
    """Return the unsigned pack of a version that promoted an artifact or a voting policy. Raises ``ProofError``."""
    if not 1 <= version <= len(configurations.states):
        raise ProofError(f"there is no version {version}; the newest is {len(configurations.states)}")
    entry: CommandRecorded = configurations.envelopes[version - 1].event
    command = effect_of(entry.command)
    promoted = subject_of(command)
    if promoted is None:
        kind = type(command).__struct_config__.tag
        raise ProofError(f"version {version} is a {kind}, not a promotion; `conclave history` shows the promotions")
    partitions = range(configurations.states[version - 1].partitions or 1)
    evidence: dict[str, dict[str, Any]] = {}
    for number, control in enumerate(source.entries(StreamKey("control"))):
        if number < len(configurations.entries) + len(configurations.reader.refused):
            _add_entry(evidence, control)
    body = {
        "version": version,
        "head": configurations.states[version - 1].head,
        "log_id": configurations.newest.log_id,
        "what": _what(configurations, entry, promoted, store),
        "loaded": [found for partition in partitions for found in _loaded(source, partition, promoted, evidence)],
        "non_interference": [_interference(source, configurations, p, promoted, evidence, version) for p in partitions],
        "behaviour": [_behaviour(source, partition, promoted) for partition in partitions],
        "gates": [found for partition in partitions for found in _verdicts(source, partition, promoted, evidence)],
        "rollback": _rollback(configurations, version, promoted),
        "audit_trail": trail(configurations, promoted),
    }
    if promoted.policy:
        body["scores"] = [
            claim
            for partition in partitions
            for claim in _scores(source, configurations, partition, promoted, version, evidence)
        ]
    body["next_steps"] = _next(body, promoted)
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
    configurations: Configurations, entry: CommandRecorded, promoted: Subject, store: ArtifactStore | None
) -> dict[str, Any]:
    facts = {
        "model": promoted.model, "artifact": promoted.artifact, **_content(configurations, entry.version, promoted),
        "by": entry.actor, "why": entry.reason, "at": entry.at, "forced": promoted.forced, "key": entry.key,
    }  # fmt: skip
    if isinstance(entry.command, Approve):
        proposal = configurations.envelopes[entry.command.proposal - 1].event
        facts["proposed"] = {
            "version": proposal.version, "by": proposal.actor, "why": proposal.reason, "at": proposal.at,
            "key": proposal.key,
        }  # fmt: skip
    try:
        manifest = store.manifest(promoted.artifact) if store is not None and not promoted.policy else None
    except ArtifactError:
        manifest = None
    if manifest is not None:
        facts["files"] = [msgspec.to_builtins(file) for file in manifest.files]
        facts["training_data"] = msgspec.to_builtins(manifest.data)
    return facts


def _content(configurations: Configurations, version: int, promoted: Subject) -> dict[str, Any]:
    """Return what an artifact is, or what a voting policy says: its canonical text, whose SHA-256 is its digest, and
    the fields in which it differs from the former one."""
    if promoted.policy:
        former, now = (state.policy for state in configurations.states[version - 2 : version])
        return {"content": policy_text(now), "differences": policy_differences(former, now)}
    registered = configurations.newest.artifacts[promoted.artifact]
    return {
        "family": registered.family,
        "feature_set": registered.feature_set_name,
        "libraries": dict(registered.libraries),
    }


def _loaded(source: Recording, partition: int, promoted: Subject, evidence: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = StreamKey("readiness", partition)
    for read in _reads(source, place):
        event = read.opened.envelope.event
        if isinstance(event, ArtifactReady) and (event.model, event.artifact) == (promoted.model, promoted.artifact):
            name = read.opened.envelope.id.hex()
            if name in promoted.ready or not promoted.ready:
                yield {
                    "partition": partition, "event": _add_event(evidence, place, read), "worker": event.owner,
                    "at": event.at, "took_ms": event.took_ms, "named_by_promotion": name in promoted.ready,
                }  # fmt: skip
                if not promoted.ready:
                    return


def _interference(
    source: Recording,
    configurations: Configurations,
    partition: int,
    promoted: Subject,
    evidence: dict[str, Any],
    version: int,
) -> dict[str, Any]:
    """Return the non-interference of one partition: how many decisions the recorder checked with this artifact in
    shadow; of a voting policy, how many it decided in shadow.

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
            if promoted.in_shadow(decision):
                in_shadow += 1
                same += fault_of(configurations, read.data) is None
            if first is None and promoted.votes(decision, version):
                first = read
    facts: dict[str, Any] = {"partition": partition, "decisions_in_shadow": in_shadow, "equal_without_it": same}
    if newest is not None and not promoted.policy:
        event = newest.opened.envelope.event
        facts |= {"event": _add_event(evidence, place, newest), "checked": event.checked, "equal": event.equal_so_far}
    if first is not None:
        facts["first_vote"] = _add_event(evidence, decisions, first)
    return facts


def _scores(
    source: Recording,
    configurations: Configurations,
    partition: int,
    promoted: Subject,
    version: int,
    evidence: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yield what the scores of the verdict on a voting policy come to, with the scores as evidence."""
    verdict = verdict_before(_reads(source, StreamKey("gates", partition)), promoted, version)
    if verdict is not None:
        _add_event(evidence, StreamKey("gates", partition), verdict)
        every = list(_scores_of(source, partition, promoted))
        claim, scores = scores_of_verdict(verdict, partition, every, configurations)
        for read in scores:
            _add_event(evidence, StreamKey("scores", partition), read)
        yield claim


def _scores_of(source: Recording, partition: int, promoted: Subject) -> Iterator[ReadEvent]:
    artifact = bytes.fromhex(promoted.artifact)
    for read in _reads(source, StreamKey("scores", partition)):
        event = read.opened.envelope.event
        if isinstance(event, PredictionScored) and event.artifact == artifact:
            yield read


def _behaviour(source: Recording, partition: int, promoted: Subject) -> dict[str, Any]:
    """Return sums over the scored predictions, in shadow and as a voter."""
    sides: dict[str, dict[str, Any]] = {}
    for read in _scores_of(source, partition, promoted):
        event = read.opened.envelope.event
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
    source: Recording, partition: int, promoted: Subject, evidence: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the verdict that the promotion names, and the newest one for the artifact."""
    place = StreamKey("gates", partition)
    named: ReadEvent | None = None
    newest: ReadEvent | None = None
    for read in _reads(source, place):
        event = read.opened.envelope.event
        if isinstance(event, VerdictReached) and event.artifact == promoted.artifact:
            newest = read
            named = read if read.opened.envelope.id.hex() == promoted.verdict else named
    for read in {id(read): read for read in (named, newest) if read is not None}.values():
        event = read.opened.envelope.event
        name = _add_event(evidence, place, read)
        yield {
            "partition": partition, "event": name, "named_by_promotion": name == promoted.verdict,
            "policy": event.policy, "overall": event.overall, "scores": event.scores, "advice": event.advice,
            "gates": [{"name": gate.name, "verdict": gate.verdict, "kind": gate.kind, "value": gate.value,
                       "threshold": gate.threshold, "samples": gate.samples} for gate in event.gates],
        }  # fmt: skip


def _rollback(configurations: Configurations, version: int, promoted: Subject) -> dict[str, Any]:
    before = configurations.states[version - 2] if version > 1 else None
    return {
        "command": f"conclave rollback --model {promoted.model} --reason '...'",
        "whole_configuration": f"conclave rollback --to {version - 1} --reason '...'",
        "former_champion": champion_of(before, promoted.model) if before is not None else None,
    }


def _next(body: dict[str, Any], promoted: Subject) -> list[str]:
    steps = [verdict["advice"] for verdict in body["gates"] if verdict["advice"]]
    if promoted.forced and not any(verdict["overall"] == "passed" for verdict in body["gates"]):
        steps.append("it was promoted by force: watch its gates, or roll back")
    if not body["loaded"] and not promoted.policy:
        steps.append("no worker reported that it had loaded the artifact: see `conclave status`")
    return steps or ["watch the guard (`conclave gates`), and confirm or roll back"]
