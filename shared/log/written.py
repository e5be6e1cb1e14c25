"""Running digests: for each group, how many entries it wrote to a stream, and a digest of them in their order.

    digest 0 = BLAKE2b-256(stream, partition, group)
    digest n = BLAKE2b-256(digest n-1, bytes of the group's entry n)

A digest is 32 bytes, so where it ends and the entry begins is never in doubt. The group's owner computes it, and the
commit function keeps it beside the positions of the group, in the same atomic step as the entries. Whoever knows the
digest of one moment can tell later whether the entries up to then are still those, in that order. What this shows and
what it does not: ``docs/explanation/digests.md``.

Only streams whose entries name their writer have digests (``WRITERS``). A group begins with the first entry that a
release with digests wrote, and restarts after an older release owned it: ``since`` is the first entry that counts.
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
"""The service that writes a stream. Each model has a worker, and a group, of its own."""
SHARED: Final = "decisions"
OTHERS: Final = (FenceClosed, FenceOpened)
"""The stream that others write to as well, by the function that sets the fence, and what they write."""
FIELD: Final = "wrote:"
"""How the fields of a group's hash begin that hold ``to_text``, one for each stream."""
SIZE: Final = 32


class Written(NamedTuple):
    """What a group wrote to a stream: the ids of the first and the last entry, how many there are, and their digest."""

    since: str
    last: str
    entries: int
    digest: bytes


class RunningDigest(NamedTuple):
    """A digest while its group writes: entries so far, and their digest."""

    entries: int
    digest: bytes


def start(stream: str, partition: int, group: str) -> bytes:
    """The digest of no entry."""
    return blake2b(f"conclave/written/{stream}/{partition}/{group}".encode(), digest_size=SIZE).digest()


def extend(digest: bytes, entries: Iterable[bytes]) -> bytes:
    """The digest after these entries."""
    for data in entries:
        digest = blake2b(digest + data, digest_size=SIZE).digest()
    return digest


@cache
def streams_of(group: str) -> frozenset[str]:
    """The streams on which a group has a digest; none for most groups."""
    service = group.partition(".")[0]
    return frozenset(stream for stream, writer in WRITERS.items() if writer == service)


def advance(
    group: str, partition: int, before: Mapping[str, RunningDigest], outputs: Sequence[Encoded]
) -> Mapping[str, RunningDigest]:
    """The digests of the streams that these outputs of a group change, after them."""
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
    """Digests as a group goes on from them."""
    return {stream: RunningDigest(found.entries, found.digest) for stream, found in written.items()}


def to_text(written: Written) -> str:
    """One line: ``<since> <last> <count> <digest in hexadecimal>``."""
    return f"{written.since} {written.last} {written.entries} {written.digest.hex()}"


def of_text(text: str) -> Written:
    """What ``to_text`` wrote. Raises ``ValueError`` for anything else."""
    since, last, count, digest = text.split(" ")
    found = Written(since, last, int(count), bytes.fromhex(digest))
    if _order(since) > _order(last) or found.entries < 1 or len(found.digest) != SIZE:
        raise ValueError(f"expected <first id> <last id> <count> <{2 * SIZE} hexadecimal digits>, found {text[:200]!r}")
    return found


def of_fields(fields: Mapping[str, bytes]) -> dict[str, Written]:
    """The digests in the fields of a group's hash, by stream. A field that cannot be read is left out: that digest
    restarts with the next entry, which ``verify`` reports."""
    found = {}
    for field, value in fields.items():
        if field.startswith(FIELD):
            with suppress(ValueError):
                found[field.removeprefix(FIELD)] = of_text(value.decode())
    return found


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
