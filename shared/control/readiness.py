"""What a promotion may rely on: an artifact that every partition's living worker holds, verified and warm.

The evidence is the ``readiness`` stream. A worker announces what it loaded after each start, so the
newest word of the process that owns the group now is what holds; what it said in a former life, or what
a former owner said, does not.
"""

from typing import Final, NamedTuple

from msgspec import structs

from schemas.codec import decode
from schemas.control import Command, Promote
from schemas.readiness import ArtifactFailed, ArtifactReady
from shared.control import State
from shared.log import Log, StreamKey

LOOK_BACK: Final = 10_000
"""Announcements looked at, newest first; a start makes a handful."""


class ReadinessEvidence(NamedTuple):
    """Event ids (hexadecimal) of ``ArtifactReady``, one a partition where there is one; and for each
    partition without, a sentence that says why."""

    ids: tuple[str, ...]
    missing: tuple[str, ...]


async def evidence(log: Log, partitions: int, model: str, artifact: str) -> ReadinessEvidence:
    """Who holds ``artifact`` of ``model`` ready now."""
    found = [await _in_partition(log, partition, model, artifact) for partition in range(partitions)]
    return ReadinessEvidence(
        tuple(event for event, _ in found if event), tuple(why for event, why in found if not event)
    )


async def with_evidence(log: Log, state: State, command: Command) -> tuple[Command, tuple[str, ...]]:
    """``command`` with the readiness that there is, where it is a ``Promote`` that names none; and what
    is missing. Any other command as it is."""
    if not isinstance(command, Promote) or command.ready:
        return command, ()
    found = await evidence(log, state.partitions, command.model, command.artifact)
    return structs.replace(command, ready=found.ids), found.missing


async def _in_partition(log: Log, partition: int, model: str, artifact: str) -> tuple[str, str]:
    """An event id, or why there is none."""
    group = f"model-worker.{model}"
    where = f"{group}, partition {partition}"
    owner = next((view.owner for view in await log.groups(partition) if view.group == group and view.alive), None)
    if owner is None:
        return "", f"{where}: no living worker; start one (`conclave up`, or `conclave run model-worker`)"
    life = None
    for entry in reversed(await log.tail(StreamKey("readiness", partition), LOOK_BACK)):
        envelope = decode("readiness", entry.data)
        said = envelope.event
        if (said.model, said.owner) != (model, owner):
            continue
        life = life or said.life
        if said.life != life:
            break
        if said.artifact == artifact:
            if isinstance(said, ArtifactReady):
                return envelope.id.hex(), ""
            if isinstance(said, ArtifactFailed):
                return "", f"{where}: it did not load: {said.reason}"
            break
    return "", f"{where}: not loaded; start it in shadow first (`conclave shadow start {model} {artifact[:12]}`)"
