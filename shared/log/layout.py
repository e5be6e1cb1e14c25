"""The keys of the log on a server, and how their values and the replies of its functions are read.

The keys of a partition have its hash tag, and so lie in one slot of a cluster:

``conclave:{p<n>}:<stream>``, ``conclave:control``      stream
    The entries. Each has one field, ``e``: the encoded envelope. The consumer groups of the stream mirror the
    positions below for standard tools (``XINFO GROUPS`` shows lag and owner). They are read only by a claim of a group
    whose hash is lost, which takes the positions from there.
``conclave:{p<n>}:groups``                              set
    The names of all groups that were ever claimed.
``conclave:{p<n>}:group:<group>``                       hash
    The durable record of a group:
    ``epoch``         number of claims. A commit under an older epoch is refused.
    ``owner``         JSON: host, pid, label, start time of the process (``born``), namespace of the pid.
    ``consumer``      name of the owner within the consumer groups.
    ``claimed``       time of the claim, in milliseconds of the server's clock.
    ``lease``         time until which other owners are excluded, by the same clock; 0: released.
    ``pos:<stream>``  ``<id> <seen>``: the last entry committed, and how many entries were read up to there.
    ``read:<stream>`` ``<id> <digest>``: the id of that entry again, and the digest of its bytes.
    ``since``         JSON: by stream, the id after which entries are replayed to rebuild the state.
    ``restored``      streams whose position was taken from the consumer group; empty after the next commit.
    ``memo``          the snapshot: the part of the state that is not replayed, encoded by the service.
    ``last``          token of the last commit under this epoch, which recognises a repeat. After a claim it is a
                      random one, so that two claims of one epoch differ (the server may have lost the first).
    ``wrote:<stream>`` ``<since> <last> <count> <digest>``: what the group wrote there (``shared.log.written``).
    ``wrote``         epoch of the last owner that kept these digests. If it is not ``epoch``, an older release has
                      owned the group since.
``conclave:{p<n>}:fence``                               hash
    ``mark``          ``open <command id>`` or ``closed <command id>``: whether intents may be written.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas.catalogue import STREAMS
from shared.log import START, Claim, Extent, Owner, Position, SupersededError, TruncatedLogError
from shared.log.identity import rolled_back
from shared.log.written import FIELD, RunningDigest


@functools.cache
def group_key(group: str, partition: int) -> str:
    """Return the key of a group's record."""
    return f"conclave:{{p{partition}}}:group:{group}"


def groups_key(partition: int) -> str:
    """Return the key of the set of a partition's groups."""
    return f"conclave:{{p{partition}}}:groups"


@functools.cache
def fence_key(partition: int) -> str:
    """Return the key of a partition's fence."""
    return f"conclave:{{p{partition}}}:fence"


def claim_key(claim: Claim) -> str:
    """Return the key of the record of the claim's group."""
    return group_key(claim.group, claim.partition)


@functools.cache
def stream_key(stream: str, partition: int) -> str:
    """Return the key of a stream."""
    return STREAMS[stream].key(partition)


def stream_keys(streams: Sequence[str] | Mapping[str, Any], partition: int) -> list[str]:
    """Return the keys of some streams of a partition."""
    return [stream_key(stream, partition) for stream in streams]


def position_of(held: bytes) -> Position:
    """Parse the value of a field ``pos:<stream>``, or a position in the reply to a claim."""
    entry_id, seen, *digest = held.decode().split(" ")
    return Position(entry_id, int(seen), *digest)


def owner_of(held: bytes) -> Owner:
    """Parse the value of the field ``owner``."""
    found = msgspec.json.decode(held)
    return Owner(found["host"], found["pid"], found["label"], found.get("born", 0), found.get("namespace", ""))


def pairs_of(reply: Any) -> dict[bytes, Any]:
    """Return a reply of names and values as a mapping, which it is already under RESP 3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def extent_of(reply: Any) -> Extent:
    """Parse the reply to ``XINFO STREAM``."""
    facts = pairs_of(reply)
    length, added = int(facts[b"length"]), int(facts[b"entries-added"])
    if length == 0:
        return Extent(START, START, 0, added, facts[b"last-generated-id"].decode() if added else START)
    first, last = facts[b"first-entry"][0].decode(), facts[b"last-entry"][0].decode()
    return Extent(first, last, length, added, facts[b"max-deleted-entry-id"].decode())


def digest_words(
    stream: str, before: Mapping[str, RunningDigest], after: Mapping[str, RunningDigest]
) -> tuple[str, str, str]:
    """Return the field of a running digest, ``on`` if it continues (else ``new``), and its value; all '' for none."""
    grown = after.get(stream)
    if grown is None:
        return "", "", ""
    return f"{FIELD}{stream}", "on" if stream in before else "new", f"{grown.entries} {grown.digest.hex()}"


def refusal(claim: Claim, reply: Sequence[bytes]) -> SupersededError | TruncatedLogError:
    """Return the error for a reply that refuses a commit or a renewal."""
    what = f"group {claim.group!r} of partition {claim.partition}"
    if reply[0] == b"FENCED":
        epoch, held = int(reply[1]), reply[2]
        holder = (
            f"{owner_of(held)} under epoch {epoch}" if held else "nobody: the server was emptied, or the hash deleted"
        )
        said = f"{what} belongs to {holder}; {claim.owner} held epoch {claim.epoch}; nothing was written"
        return SupersededError(said) if epoch > claim.epoch else rolled_back(claim, said)
    if reply[0] == b"MOVED":
        stream, stands, starts = (part.decode() for part in reply[1:4])
        return SupersededError(
            f"{what} stands at {stands} on {stream!r}, the commit starts at {starts}; nothing was written"
        )
    said = f"{what}: the commit does not follow the last one that was applied; nothing was written"
    other = owner_of(reply[1]) if reply[1] else None
    return SupersededError(f"{said}. It belongs to {other}") if other != claim.owner else rolled_back(claim, said)
