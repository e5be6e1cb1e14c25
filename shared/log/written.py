"""Running digests: for each group, how many entries it wrote to a stream, and a digest of them in their order.

    digest 0 = BLAKE2b-256(stream, partition, group)
    digest n = BLAKE2b-256(digest n-1, bytes of the group's entry n)

A digest always has 32 bytes, so the boundary between it and the entry is unambiguous. The owner of the group computes
it. The commit function stores it with the positions of the group, in the same atomic step as the entries. A digest that
was noted at one moment shows later whether the entries up to then are unchanged, and in the same order. What it shows,
and what it does not, is explained in ``docs/explanation/digests.md``.

Only streams whose entries name their writer have digests (``WRITERS``). The digest of a group begins with the first
entry that a release with digests wrote. It restarts after an older release has owned the group. ``since`` is the first
entry that it covers.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from typing import Final, NamedTuple

from schemas.codec import Encoded
from schemas.decisions import FenceClosed, FenceOpened

WRITERS: Final[Mapping[str, str]] = {
    "features": "feature-builder",
    "predictions": "model-worker",
    "decisions": "ensemble-voter",
    "intents": "ensemble-voter",
    "scores": "shadow-recorder",
    "gates": "gate-evaluator",
}
"""The service that writes each stream. Each model has its own worker, and so its own group."""
SHARED: Final = "decisions"
OTHERS: Final = (FenceClosed, FenceOpened)
"""The stream that has other writers besides the group, and the events that they append when they set the fence."""
FIELD: Final = "wrote:"
"""The prefix of the fields of a group's hash that hold the result of ``to_text``, one for each stream."""
SIZE: Final = 32
"""The size of a digest in bytes."""


class Written(NamedTuple):
    """The entries of a group in a stream: the ids of the first and the last one, their number, and their digest."""

    since: str
    last: str
    entries: int
    digest: bytes


class RunningDigest(NamedTuple):
    """The running digest of a group in a stream: the number of entries so far, and their digest."""

    entries: int
    digest: bytes


def start(stream: str, partition: int, group: str) -> bytes:
    """Return the digest of zero entries."""
    return blake2b(f"conclave/written/{stream}/{partition}/{group}".encode(), digest_size=SIZE).digest()


def extend(digest: bytes, entries: Iterable[bytes]) -> bytes:
    """Return ``digest`` extended by these entries."""
    for data in entries:
        digest = blake2b(digest + data, digest_size=SIZE).digest()
    return digest


@cache
def streams_of(group: str) -> frozenset[str]:
    """Return the streams on which a group has a digest; most groups have none."""
    service = group.partition(".")[0]
    return frozenset(stream for stream, writer in WRITERS.items() if writer == service)


def advance(
    group: str, partition: int, before: Mapping[str, RunningDigest], outputs: Sequence[Encoded]
) -> Mapping[str, RunningDigest]:
    """Return the digests after these outputs of a group, only for the streams whose digest they change."""
    streams = streams_of(group)
    if not streams:
        return {}
    entries: dict[str, list[bytes]] = {}
    for sealed in outputs:
        stream = sealed.stream
        if stream in streams and not (stream == SHARED and isinstance(sealed.envelope.event, OTHERS)):
            entries.setdefault(stream, []).append(sealed.data)
    after = {}
    for stream, data in entries.items():
        known = before.get(stream) or RunningDigest(0, start(stream, partition, group))
        after[stream] = RunningDigest(known.entries + len(data), extend(known.digest, data))
    return after


def running(written: Mapping[str, Written]) -> dict[str, RunningDigest]:
    """Return the running digests that a group continues."""
    return {stream: RunningDigest(found.entries, found.digest) for stream, found in written.items()}


def to_text(written: Written) -> str:
    """Return one line: ``<since> <last> <count> <digest in hexadecimal>``."""
    return f"{written.since} {written.last} {written.entries} {written.digest.hex()}"


def of_text(text: str) -> Written:
    """Parse the result of ``to_text``. Raises ``ValueError`` for any other text."""
    since, last, count, digest = text.split(" ")
    found = Written(since, last, int(count), bytes.fromhex(digest))
    if _order(since) > _order(last) or found.entries < 1 or len(found.digest) != SIZE:
        raise ValueError(f"expected <first id> <last id> <count> <{2 * SIZE} hexadecimal digits>, found {text[:200]!r}")
    return found


def of_fields(fields: Mapping[str, bytes]) -> dict[str, Written]:
    """Return the digests in the fields of a group's hash, by stream.

    A field that cannot be parsed is left out. Its digest restarts with the next entry, which ``verify`` reports."""
    found = {}
    for field, value in fields.items():
        if field.startswith(FIELD):
            with suppress(ValueError):
                found[field.removeprefix(FIELD)] = of_text(value.decode())
    return found


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
