"""Find out whether an artifact is loaded, verified and warm in every partition: a promotion relies on it.

The evidence is the ``readiness`` stream. A worker announces each artifact that it loads after a start. The latest
announcement of the process that owns the group now counts; one from before its last start, or of an earlier owner, does
not.
"""

import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import structs

from schemas.codec import Envelope
from schemas.control import Command, Promote
from schemas.readiness import ArtifactFailed, ArtifactReady, ReadinessEvent
from shared.control import State
from shared.log import Entry, Log, StreamKey
from shared.log.events import Unreadable, events_of

NEWEST_EVENTS: Final = 10_000
"""Number of announcements read, newest first. One start makes a few."""
_log = logging.getLogger(__name__)


class ReadinessEvidence(NamedTuple):
    """``ids``: the event ids (hexadecimal) of ``ArtifactReady``, one for each partition that is ready. ``missing``: one
    sentence for each other partition, with the reason."""

    ids: tuple[str, ...]
    missing: tuple[str, ...]


async def evidence(log: Log, partitions: int, model: str, artifact: str) -> ReadinessEvidence:
    """Return in which partitions ``artifact`` of ``model`` is ready now."""
    partition_evidence = [await _in_partition(log, partition, model, artifact) for partition in range(partitions)]
    return ReadinessEvidence(
        tuple(event for event, _ in partition_evidence if event),
        tuple(why for event, why in partition_evidence if not event),
    )


async def with_readiness(log: Log, state: State, command: Command) -> tuple[Command, tuple[str, ...]]:
    """Return a ``Promote`` that names no evidence with the evidence there is, and the sentences about what is missing.
    Return any other command unchanged."""
    if not isinstance(command, Promote) or command.ready:
        return command, ()
    ready = await evidence(log, state.partitions, command.model, command.artifact)
    return structs.replace(command, ready=ready.ids), ready.missing


async def _in_partition(log: Log, partition: int, model: str, artifact: str) -> tuple[str, str]:
    """Return the id of the event that proves readiness, and ''; or '', and why there is none."""
    group = f"model-worker.{model}"
    where = f"{group}, partition {partition}"
    owner = next((view.owner for view in await log.groups(partition) if view.group == group and view.alive), None)
    if owner is None:
        return "", f"{where}: no living worker; start one (`conclave up`, or `conclave run model-worker`)"
    unreadable = Unreadable()
    newest = reversed(await log.tail(StreamKey("readiness", partition), NEWEST_EVENTS))
    try:
        return _found(events_of(newest, unreadable), model, artifact, owner, where)
    finally:
        unreadable.log(_log)


def _found(
    newest: Iterable[tuple[Entry, Envelope[ReadinessEvent]]], model: str, artifact: str, owner: str, where: str
) -> tuple[str, str]:
    """Search the announcements, newest first."""
    life = None
    for _, envelope in newest:
        event = envelope.event
        if (event.model, event.owner) != (model, owner):
            continue
        life = life or event.life
        if event.life != life:
            break
        if event.artifact == artifact:
            if isinstance(event, ArtifactReady):
                return envelope.id.hex(), ""
            if isinstance(event, ArtifactFailed):
                return "", f"{where}: it did not load: {event.reason}"
            break
    return "", f"{where}: not loaded; start it in shadow first (`conclave shadow start {model} {artifact[:12]}`)"
