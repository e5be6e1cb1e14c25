"""Rules that both logs share: leases, owners that are dead, and commits that are not allowed."""

import os
import re
from collections.abc import Iterable
from typing import Final

from schemas.catalogue import STREAMS
from schemas.codec import Encoded
from shared.log import CLOSED, OPEN, START, Claim, Commit, HaltedError, OwnedError, Owner
from shared.processes import DEAD, state_and_start

LEASE_MS: Final = 10_000
"""How long a lease excludes other owners after the last claim, commit or renewal (milliseconds)."""
MOST_OUTPUTS: Final = 100_000
"""The most outputs of one commit. The server is blocked while it applies a commit (1.5 us per output)."""
STOPPED: Final = frozenset({"T", "t", ""})
"""The states of a process that was suspended, by SIGSTOP or a debugger. '' if the state cannot be read."""
CONTAINER: Final = re.compile("[0-9a-f]{12}")
"""The host name that Docker gives a container: its id. A restarted container keeps it and has a new namespace."""


def id_order(entry_id: str) -> tuple[int, int]:
    """Return the sort key of an entry id: milliseconds and sequence."""
    moment, _, sequence = entry_id.partition("-")
    return int(moment), int(sequence or 0)


def owner_is_dead(former: Owner, claimant: Owner) -> bool:
    """Return whether the process ``former`` certainly does not run any more.

    This is so for a process of the claimant's host and namespace whose pid is free, is that of a zombie or of the
    claimant, or belongs to a process with another start time. It is also so for a process of an earlier run of the
    claimant's container. Return false for other hosts and namespaces: nothing is known about their processes. A stopped
    process is not dead."""
    if former.host != claimant.host:
        return False
    if former.namespace and claimant.namespace and former.namespace != claimant.namespace:
        return CONTAINER.fullmatch(former.host) is not None
    if former.pid == claimant.pid:
        return True
    try:
        os.kill(former.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    state, start = state_and_start(former.pid)
    return state in DEAD or (former.born != 0 and start not in {0, former.born})


def owner_is_running(former: Owner, claimant: Owner) -> bool:
    """Return whether the process ``former`` certainly runs, so that it will extend its lease: it is a process of the
    claimant's host and namespace, with the start time that it noted, and it is not stopped."""
    if (former.host, former.namespace) != (claimant.host, claimant.namespace) or owner_is_dead(former, claimant):
        return False
    return state_and_start(former.pid)[0] not in STOPPED


def lease_runs(ends: int, now: int) -> bool:
    """Return whether a lease that ends at ``ends`` runs at ``now`` (ms, the server's clock).

    One that ends later than ``LEASE_MS`` from now does not: the server's clock was set back since it was extended. An
    owner that lives extends it again within a few seconds."""
    return 0 < ends - now <= LEASE_MS


def group_owned_error(
    group: str,
    partition: int,
    owner: Owner,
    *,
    epoch: int,
    since_ms: int,
    until_ms: int,
    now_ms: int,
    running: bool,
) -> OwnedError:
    """Return the error that refuses a claim, worded for the person who started a second copy. The times are those of
    the claim, of the end of the lease, and now, by one clock. ``running``: see ``owner_is_running``."""
    owned_s, left_s = max(now_ms - since_ms, 0) / 1000, max(until_ms - now_ms, 0) / 1000
    return OwnedError(
        f"group {group!r} of partition {partition} belongs to {owner}, for {owned_s:.0f} s now. "
        f"If that process lives, this copy was started by mistake: leave it stopped. If it is gone, start again in "
        f"{left_s:.0f} s, when its lease ends, or take the group over explicitly.",
        running=running,
        lease=(epoch, until_ms),
        left_s=left_s,
    )


def check_partitioned(streams: Iterable[str], what: str) -> None:
    """Raise ``ValueError`` if a stream has no partitions: groups do not read it, and commits do not write it."""
    for stream in streams:
        if not STREAMS[stream].partitioned:
            raise ValueError(f"{what}: stream {stream!r} is global; read it from {START}, write it with append_at")


def check_commit(claim: Claim, commit: Commit) -> None:
    """Raise ``ValueError`` for a commit that no log can apply."""
    what = f"a commit of group {claim.group!r}"
    check_partitioned({sealed.stream for sealed in commit.outputs}, what)
    if commit.before.keys() != commit.after.keys() or commit.after.keys() - claim.positions.keys():
        raise ValueError(
            f"{what}: positions before ({', '.join(commit.before)}) and after ({', '.join(commit.after)}) must name "
            f"the same streams, all of them claimed ({', '.join(claim.positions)})"
        )
    if len(commit.outputs) > MOST_OUTPUTS:
        raise ValueError(f"{what}: {len(commit.outputs):,} outputs, at most {MOST_OUTPUTS:,} fit; read fewer at once")


def is_open(mark: str) -> bool:
    """Return whether a fence with this mark lets intents be written. A missing mark ('') counts as closed."""
    return mark.startswith(OPEN)


def check_mark(mark: str, note: Encoded) -> None:
    """Raise ``ValueError`` if the mark is malformed, or the note does not belong on ``decisions``."""
    if not mark.startswith((OPEN, CLOSED)) or not mark.partition(" ")[2]:
        raise ValueError(f"a fence is marked {mark!r}, expected `open <command id>` or `closed <command id>`")
    if note.stream != "decisions":
        raise ValueError(f"the note on a fence belongs on 'decisions', not on {note.stream!r}")


def halted(claim: Claim, decided_under: str | None, mark: str) -> HaltedError:
    """Return the error for a commit that the fence refuses. ``mark``: the current mark of the fence."""
    what = f"the fence of partition {claim.partition}"
    there = f"{what} is marked {mark!r}" if mark else f"{what} has no mark, which counts as closed"
    assumed = "names no mark" if decided_under is None else f"was decided under {decided_under!r}"
    return HaltedError(
        f"{there}; a commit of group {claim.group!r} {assumed}, and intents need an open one; nothing was written", mark
    )
