"""The ``readiness`` stream: which artifacts a worker has loaded, verified and warmed up."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.common import DigestHex, Milliseconds, Name, Text

OwnerText = Annotated[str, Meta(min_length=1, max_length=400)]
"""A process, in the form in which ``conclave status`` shows the owner of a group."""
Life = Annotated[str, Meta(min_length=8, max_length=32)]
"""A random id of one start of a worker. The process id does not serve: a restarted container has the same."""


class ArtifactReady(Struct, frozen=True, tag="artifact.ready"):
    """``owner`` has loaded an artifact, verified every byte, and warmed it up by comparing its predictions with the
    golden ones. This took ``took_ms``, ended at ``at``, and is announced under ``control_version``. It is valid for
    this ``life`` of the worker, until an ``ArtifactFailed`` or ``ArtifactFreed``. ``memory_mb``: the resident memory of
    the process then, with all that it has loaded."""

    model: Name
    artifact: DigestHex
    owner: OwnerText
    life: Life
    control_version: Annotated[int, Meta(ge=0)]
    took_ms: Milliseconds
    at: Milliseconds
    memory_mb: Annotated[float, Meta(ge=0)] | None = None


class ArtifactFailed(Struct, frozen=True, tag="artifact.failed"):
    """``owner`` could not load an artifact; ``reason`` says why. It tries again at the next command."""

    model: Name
    artifact: DigestHex
    owner: OwnerText
    life: Life
    control_version: Annotated[int, Meta(ge=0)]
    reason: Text
    at: Milliseconds


class ArtifactFreed(Struct, frozen=True, tag="artifact.freed"):
    """``owner`` unloaded an artifact that is neither active nor one of the newest former champions. It is loaded again
    when a command makes it active."""

    model: Name
    artifact: DigestHex
    owner: OwnerText
    life: Life
    control_version: Annotated[int, Meta(ge=0)]


ReadinessEvent = ArtifactReady | ArtifactFailed | ArtifactFreed
