"""The ``readiness`` stream: which artifacts a worker has in memory, verified and warm."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.common import DigestHex, Milliseconds, Name, Text

OwnerText = Annotated[str, Meta(min_length=1, max_length=400)]
"""A process, as ``status`` shows the owner of a group."""
Life = Annotated[str, Meta(min_length=8, max_length=32)]
"""One start of a worker: random, since a restarted container has the process id it had."""


class ArtifactReady(Struct, frozen=True, tag="artifact.ready"):
    """``owner`` has loaded this artifact of ``model``, verified every byte of it, compared its answers
    with the golden ones and so warmed it up, in ``took_ms``; done at ``at``, announced under
    ``control_version``. It holds for this ``life`` of the worker; a later ``ArtifactFailed`` or
    ``ArtifactFreed`` ends it."""

    model: Name
    artifact: DigestHex
    owner: OwnerText
    life: Life
    control_version: Annotated[int, Meta(ge=0)]
    took_ms: Milliseconds
    at: Milliseconds


class ArtifactFailed(Struct, frozen=True, tag="artifact.failed"):
    """``owner`` could not load this artifact; ``reason`` says why. Tried again at the next command."""

    model: Name
    artifact: DigestHex
    owner: OwnerText
    life: Life
    control_version: Annotated[int, Meta(ge=0)]
    reason: Text
    at: Milliseconds


class ArtifactFreed(Struct, frozen=True, tag="artifact.freed"):
    """``owner`` had this artifact ready and holds it no more: it is not active, and none of the newest
    former champions. It is loaded again when a command makes it active."""

    model: Name
    artifact: DigestHex
    owner: OwnerText
    life: Life
    control_version: Annotated[int, Meta(ge=0)]


ReadinessEvent = ArtifactReady | ArtifactFailed | ArtifactFreed
