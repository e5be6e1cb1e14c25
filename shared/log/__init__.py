"""The log: streams of entries, and consumer groups that move over them by gated atomic commits.

One interface, two implementations that pass one contract suite (``tests/shared/log``):
``shared.log.redis.RedisLog`` and ``shared.log.memory.MemoryLog``.

Guaranteed
    A commit writes all outputs, the new positions, the memo, the group's running digests
    (``shared.log.written``) and its acknowledgement, or nothing. It is refused (``FencedError``)
    unless the claim it is made under is still the newest of its group and the group stands where the
    claim believes it stands. A commit whose reply was lost may be sent again: it is applied once.
    Entries of one stream are read in one order by everybody. A commit with intents is refused
    (``HaltedError``) unless it was decided under the mark of the partition's fence, and that mark says open.

Not guaranteed
    An order between streams. Durability beyond what the server's append-only file gives. A commit
    that failed with a connection error may or may not have been applied, until it is sent again.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from schemas.catalogue import STREAMS
from schemas.codec import Encoded
from shared.log.written import Written

START: Final = "0-0"
"""The id before every entry."""
OPEN: Final = "open "
CLOSED: Final = "closed "
"""How the mark of a fence begins; the id of the command under which it was set follows."""


def preceding(entry_id: str) -> str:
    """The greatest id before ``entry_id``: what to read after, so that it comes first."""
    milliseconds, _, sequence = entry_id.partition("-")
    if sequence != "0":
        return f"{milliseconds}-{int(sequence) - 1}"
    return f"{int(milliseconds) - 1}-{2**64 - 1}" if milliseconds != "0" else START


class StreamKey(NamedTuple):
    """One stream of one partition (0 for a stream that has none)."""

    stream: str
    partition: int = 0

    @property
    def key(self) -> str:
        """The Redis key."""
        return STREAMS[self.stream].key(self.partition)


class Entry(NamedTuple):
    """What stands on a stream: ``id`` is ``<milliseconds>-<sequence>``, ``data`` a sealed envelope."""

    place: StreamKey
    id: str
    data: bytes


class Position(NamedTuple):
    """How far a group has read a stream: the last entry's id, how many entries that were, and the digest of the last
    one (``identity.digest_of``; empty where it is not known)."""

    id: str = START
    seen: int = 0
    digest: str = ""


class Owner(NamedTuple):
    """A process that wants a group: where it runs, and what to show a person. ``born``: when it began, as
    ``rules.born`` says; 0 where nobody knows."""

    host: str
    pid: int
    label: str
    born: int = 0

    def __str__(self) -> str:
        return f"{self.label} (pid {self.pid} on {self.host})"


class Mark(NamedTuple):
    """An entry that was read: the place, the position after it. ``kept``: this very entry must be there; otherwise it
    may have been trimmed or deleted since."""

    place: StreamKey
    position: Position
    kept: bool = False


class Claim(NamedTuple):
    """The right to commit for one group of one partition, and where the group stood when it was
    given: its positions, the memo of its last commit, and from where the service must read again
    to rebuild what the memo does not hold (``since``; a stream that is missing there needs nothing).
    ``former`` is the owner it was taken from, if that owner had not released it. ``written``: the group's running
    digests by stream, from which its commits go on. ``restored``: streams whose position
    was taken from the consumer group, since the group's own record was gone, its memo and ``since`` too, and nothing
    was committed from then on."""

    group: str
    partition: int
    epoch: int
    owner: Owner
    positions: Mapping[str, Position]
    since: Mapping[str, str]
    memo: bytes
    former: str | None
    written: Mapping[str, Written] = {}
    restored: tuple[str, ...] = ()


class Commit(NamedTuple):
    """One batch's worth of work. ``before`` and ``after`` are positions by stream; ``memo`` and
    ``since`` replace the former ones. ``fence``: the mark of the fence under which the outputs were decided (''
    where the fence had none); None: they do not depend on it, and there are no intents among them. ``known``: what the
    batch depends on of streams that have no position (control); it is compared again before a commit goes out over a
    new connection."""

    outputs: Sequence[Encoded]
    before: Mapping[str, Position]
    after: Mapping[str, Position]
    memo: bytes = b""
    since: Mapping[str, str] = {}
    fence: str | None = None
    known: Sequence[Mark] = ()


class Committed(NamedTuple):
    """``recreated``: streams whose consumer group was missing and was created at the new position."""

    recreated: tuple[str, ...] = ()


class Extent(NamedTuple):
    """A stream as it stands: oldest and newest id (``START`` where empty), how many entries it
    holds, how many were ever added, and the highest id that was ever trimmed or deleted."""

    first: str
    last: str
    length: int
    added: int
    deleted: str


class GroupView(NamedTuple):
    """A group as ``status`` shows it. ``lag`` counts entries not yet committed, by stream;
    ``alive`` says whether its lease runs. ``written``: its running digests by stream."""

    group: str
    partition: int
    epoch: int
    owner: str
    alive: bool
    positions: Mapping[str, Position]
    lag: Mapping[str, int]
    written: Mapping[str, Written] = {}


class Lost(NamedTuple):
    """What of a stream is not there any more: the entry that was read last, the newest entry that is there, and what
    was found."""

    place: StreamKey
    expected: str
    last: str
    detail: str


class TruncatedLogError(RuntimeError):
    """The log is not the one that was read: its tail was lost, or it was rewritten. Nothing was written on top of it.
    Whoever raises it for a commit may claim anew, and goes on from what is there."""

    def __init__(self, message: str, lost: Lost) -> None:
        super().__init__(message)
        self.lost = lost


class FencedError(RuntimeError):
    """Another process owns the group now. The loser must stop; nothing of its batch was written."""


class HaltedError(RuntimeError):
    """The fence of the partition is not as the commit assumed it, or is not open for its intents; nothing of the
    batch was written. ``mark`` is the mark that is there now ('' where there is none): decide again under it."""

    def __init__(self, message: str, mark: str) -> None:
        super().__init__(message)
        self.mark = mark


class OwnedError(RuntimeError):
    """The group has a living owner: a second copy was started by mistake. Says which process."""


class UnavailableError(ConnectionError):
    """The server cannot be reached or does not answer. Try again; a commit may be sent again."""


class LoadingError(UnavailableError):
    """The server reads its file, and answers when it has."""


class Log(Protocol):
    """See the module's docstring for what is and is not guaranteed."""

    @property
    def opened(self) -> int:
        """How many connections were opened so far. A server that lost entries was restarted or replaced, so as long
        as this does not change, what was read is there."""

    async def check(self, marks: Sequence[Mark]) -> None:
        """Compares what was read with what is there, in one round trip.
        Raises ``TruncatedLogError`` for the first mark that is contradicted."""

    async def claim(
        self, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
    ) -> Claim:
        """Makes ``owner`` the group's owner under a new epoch, and creates the group's consumer
        groups at the durable position (``START`` at first), never at the end of the stream.

        Raises ``OwnedError`` while another owner's lease runs, unless ``take_over``, or unless the
        former owner is a process of this host that no longer exists. A lease runs ten seconds and
        is renewed by ``commit`` and ``renew``; ``release`` ends it."""

    async def renew(self, claim: Claim) -> None:
        """Extends the lease. Raises ``FencedError``."""

    async def release(self, claim: Claim) -> None:
        """Ends the lease, so that the next claim need not wait. Does nothing if the claim is old."""

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        """Writes the batch atomically; sending the same commit again does nothing more.
        Raises ``FencedError``, ``HaltedError``, ``TruncatedLogError``, ``UnavailableError``."""

    async def fence(self, partition: int) -> str:
        """The mark of a partition's fence: ``open <command id>`` or ``closed <command id>``; '' where it was never
        set, which counts as closed. Raises ``UnavailableError``."""

    async def set_fence(self, partition: int, mark: str, note: Encoded, *, expected: str | None = None) -> str:
        """Sets the mark of a partition's fence and appends ``note`` to its ``decisions``, both or neither: the place
        of the note is the order between this and the decisions. Does nothing where the mark is that already, or
        where ``expected`` is given and another mark is there. Returns the mark that is there now.
        Raises ``UnavailableError``."""

    async def written(self, claim: Claim) -> Mapping[str, Written]:
        """The running digests of the claim's group after its last commit, by stream."""

    async def read(
        self, after: Mapping[StreamKey, str], *, count: int, block_ms: int, ahead: bool = False
    ) -> list[Entry]:
        """Entries behind the given ids, at most ``count`` a stream, oldest first within a stream,
        streams in the order of ``after``. Waits up to ``block_ms`` for the first (0: not at all).

        ``ahead`` says that the caller commits what comes of these entries and reads on behind them at once, so
        that the log may ask for both together; it changes nothing of what is read."""

    async def scan(self, place: StreamKey, *, after: str = START, until: str = "+", count: int = 1000) -> list[Entry]:
        """Entries with after < id <= until, oldest first, at most ``count``."""

    async def tail(self, place: StreamKey, count: int) -> list[Entry]:
        """The newest ``count`` entries, oldest first."""

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[Mark] = ()) -> bool:
        """Appends under this very id, which must be greater than the newest; false (and nothing
        written) where it is not. The compare-and-append of the control stream. ``marks``: what was read of it; it is
        compared over the same connection first. Raises ``TruncatedLogError``."""

    async def extent(self, place: StreamKey) -> Extent:
        """Where the stream begins and ends."""

    async def groups(self, partition: int) -> list[GroupView]:
        """Every group that was ever claimed in a partition."""

    async def close(self) -> None:
        """Closes connections. Claims are not released by it."""
