"""Detect that the log lost or replaced entries that were read.

A server may lose its newest entries (a power failure, a failover to a replica that lagged), and continue with other
entries under ids that are as high. The id alone does not show this. A reader therefore keeps a digest of the last entry
that it read, and compares it with the log.
"""

from hashlib import sha1

from shared.log import START, Claim, Extent, Lost, Position, ReadMark, StreamKey, TruncatedLogError
from shared.log.leases import id_order


def digest_of(data: bytes) -> str:
    """Return the SHA-1 of an entry's bytes, in hexadecimal; a server can compute it too.

    It distinguishes a lost entry from the one that replaced it. It does not protect against forgery; for that, the
    control log has its hash chain."""
    return sha1(data, usedforsecurity=False).hexdigest()


def fault(mark: ReadMark, there: bytes | None, extent: Extent | None) -> str | None:
    """Return in words how the log contradicts a mark, or None if it does not.

    ``there``: the bytes of the entry with the mark's id, None if there is no such entry. ``extent``: the extent of the
    stream, needed if ``there`` is None."""
    position = mark.position
    if position.id == START:
        return None
    if there is not None:
        same = position.digest in {"", digest_of(there)}
        return None if same else f"another entry has the id {position.id}"
    if extent is None:
        raise TypeError("where the entry is not there, the extent of the stream is needed")
    trimmed = position.seen <= extent.added - extent.length
    deleted = id_order(position.id) <= id_order(extent.deleted)
    if (trimmed or deleted) and not mark.kept:
        return None
    return f"entry {position.id} is gone, {position.seen} were read and {extent.added} were ever written"


def truncated(mark: ReadMark, last: str, why: str) -> TruncatedLogError:
    """Return the error for a mark that the log contradicts. ``last``: the newest id of the stream."""
    return TruncatedLogError(
        f"{mark.place.key} is not the stream that was read up to {mark.position.id}: {why}. The server lost its last "
        f"writes, or was restored to an older state. `conclave recover` shows what is missing",
        Lost(mark.place, mark.position.id, last, why),
    )


def rolled_back(claim: Claim, said: str) -> TruncatedLogError:
    """Return the error for a group that is back at an earlier state.

    Only the owner of an epoch changes the group under it, and epochs only increase. So the server has lost writes."""
    stream, position = next(iter(claim.positions.items()), ("alarms", Position()))
    return TruncatedLogError(
        f"{said}. The server lost its last writes, or was restored to an older state",
        Lost(
            StreamKey(stream, claim.partition),
            position.id,
            START,
            f"the last commit or claim of group {claim.group} is gone",
            rolled_back=True,
        ),
    )
