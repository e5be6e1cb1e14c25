"""Whether the log there is, is the log that was read: a place is an entry, its id and its bytes.

A server may lose its newest entries (a power failure, a failover to a replica that lagged) and go on with other ones
under ids as high as before. Whoever knows only an id notices nothing. So a reader keeps a digest of the last entry
that it read, and compares.
"""

from hashlib import sha1

from shared.log import START, Claim, Extent, Lost, Mark, Position, StreamKey, TruncatedLogError
from shared.log.leases import order


def digest_of(data: bytes) -> str:
    """The digest of an entry's bytes (SHA-1, hexadecimal: what a server can compute too). It tells a lost entry from
    the one that took its place; against forgery there is the chain of the control log."""
    return sha1(data, usedforsecurity=False).hexdigest()


def fault(mark: Mark, there: bytes | None, extent: Extent | None) -> str | None:
    """What contradicts a mark: ``there`` is the entry with its id, if there is one, and ``extent`` the stream where
    there is none. None where nothing does."""
    position = mark.position
    if position.id == START:
        return None
    if there is not None:
        same = position.digest in {"", digest_of(there)}
        return None if same else f"another entry has the id {position.id}"
    if extent is None:
        raise TypeError("where the entry is not there, the extent of the stream is needed")
    trimmed = position.seen <= extent.added - extent.length
    deleted = order(position.id) <= order(extent.deleted)
    if (trimmed or deleted) and not mark.kept:
        return None
    return f"entry {position.id} is gone, {position.seen} were read and {extent.added} were ever written"


def truncated(mark: Mark, last: str, why: str) -> TruncatedLogError:
    """The error for a mark that is contradicted. ``last``: the newest id of the stream."""
    return TruncatedLogError(
        f"{mark.place.key} is not the stream that was read up to {mark.position.id}: {why}. The server lost its last "
        f"writes, or was restored to an older state. `conclave recover` shows what is missing",
        Lost(mark.place, mark.position.id, last, why),
    )


def rolled_back(claim: Claim, said: str) -> TruncatedLogError:
    """The error for a group that stands where it stood before: nobody but its owner moves it under an epoch, and
    epochs only rise."""
    stream, position = next(iter(claim.positions.items()), ("alarms", Position()))
    return TruncatedLogError(
        f"{said}. The server lost its last writes, or was restored to an older state",
        Lost(StreamKey(stream, claim.partition), position.id, START, f"the position of group {claim.group} is gone"),
    )
