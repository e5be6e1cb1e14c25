"""The log: streams of entries, and consumer groups that advance over them by conditional, atomic commits.

There is one interface, ``Log``, and two implementations that pass the same contract tests (``tests/shared/log``):
``shared.log.redis.RedisLog`` and ``shared.log.memory.MemoryLog``.

Guaranteed
    A commit is atomic. It writes all of its outputs, the new positions, the snapshot (``memo``), the group's running
    digests (``shared.log.written``) and the offsets of the consumer groups, or it writes nothing.

    A commit is refused (``SupersededError``) unless it is made under the newest claim of its group, and starts from the
    positions that the group has.

    A commit whose reply was lost may be sent again. It is applied once.

    All readers see the entries of one stream in the same order.

    A commit with intents is refused (``HaltedError``) unless it was decided under the current mark of the partition's
    fence, and that mark is open.

Not guaranteed
    An order between streams.

    Durability beyond that of the server's append-only file.

    The outcome of a commit that failed with a connection error: until it is sent again, it may or may not have been
    applied.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from schemas.catalogue import STREAMS
from schemas.codec import Encoded
from shared.log.written import RunningDigest, Written

START: Final = "0-0"
"""The id before the first possible entry."""
OPEN: Final = "open "
CLOSED: Final = "closed "
"""The prefixes of a fence's mark. The id of the command that set the mark follows."""


def preceding(entry_id: str) -> str:
    """Return the greatest id before ``entry_id``. A read after it begins with ``entry_id``."""
    milliseconds, _, sequence = entry_id.partition("-")
    if sequence != "0":
        return f"{milliseconds}-{int(sequence) - 1}"
    return f"{int(milliseconds) - 1}-{2**64 - 1}" if milliseconds != "0" else START


class StreamKey(NamedTuple):
    """A stream in one partition. The partition is 0 for a stream without partitions."""

    stream: str
    partition: int = 0

    @property
    def key(self) -> str:
        """Return the Redis key of the stream."""
        return STREAMS[self.stream].key(self.partition)


class Entry(NamedTuple):
    """An entry of a stream. ``id`` is ``<milliseconds>-<sequence>``, ``data`` is an encoded envelope."""

    place: StreamKey
    id: str
    data: bytes


class Position(NamedTuple):
    """How far a group has read a stream.

    ``id``: the last entry that was read. ``seen``: how many entries were read up to there. ``digest``: the digest of
    the last entry (``identity.digest_of``), empty if it is not known."""

    id: str = START
    seen: int = 0
    digest: str = ""


class Owner(NamedTuple):
    """A process that claims a group: its host, its process id, and a label for people.

    ``born``: the start time of the process, 0 if it is not known. ``namespace``: the namespace of the pid, '' if it is
    not known (``shared.processes``)."""

    host: str
    pid: int
    label: str
    born: int = 0
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.label} (pid {self.pid} on {self.host})"


class ReadMark(NamedTuple):
    """An entry that was read: its stream, and the position after it.

    ``kept``: the entry must still exist. If this is false, it may have been trimmed or deleted since."""

    place: StreamKey
    position: Position
    kept: bool = False


class Claim(NamedTuple):
    """The right to commit for one group of one partition, and the state of the group when it was claimed.

    ``positions``: the position in each claimed stream.
    ``since``: by stream, the id after which entries must be replayed, to rebuild the state that the snapshot does not
    contain. A stream that is missing here needs no replay.
    ``memo``: the snapshot of the last commit.
    ``former``: the previous owner, if it had not released the group; otherwise None.
    ``written``: the group's running digests by stream, which its commits continue.
    ``restored``: the streams whose position was taken from the consumer group, because the group's own record was lost,
    and with it ``memo`` and ``since``. It is empty again after the next commit."""

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
    """The results of one batch.

    ``before``, ``after``: the positions by stream.
    ``memo``, ``since``: replace those of the previous commit (see ``Claim``).
    ``fence``: the mark of the fence under which the outputs were decided, '' if the fence had none. None if the outputs
    do not depend on the fence; then there must be no intents among them.
    ``known``: the entries on which the batch depends in streams that have no position (control). They are compared
    again before the commit is sent over a new connection."""

    outputs: Sequence[Encoded]
    before: Mapping[str, Position]
    after: Mapping[str, Position]
    memo: bytes = b""
    since: Mapping[str, str] = {}
    fence: str | None = None
    known: Sequence[ReadMark] = ()


class Committed(NamedTuple):
    """The result of a commit.

    ``recreated``: the streams whose consumer group was missing, and was created at the new position. ``running``: the
    group's running digests after it, by stream; empty if there are none, or if the commit was sent again."""

    recreated: tuple[str, ...] = ()
    running: Mapping[str, RunningDigest] = {}


class Extent(NamedTuple):
    """The extent of a stream at one moment.

    ``first``, ``last``: the oldest and the newest id. ``length``: the number of entries in the stream. ``added``: the
    number of entries ever added. ``deleted``: the highest id that was ever trimmed or deleted. An id is ``START`` if
    there is none."""

    first: str
    last: str
    length: int
    added: int
    deleted: str


class GroupView(NamedTuple):
    """A group, as ``status`` shows it.

    ``alive``: whether its lease still runs. ``lag``: the number of entries not yet committed, by stream.
    ``written``: its running digests by stream. ``memo``: the snapshot of its last commit."""

    group: str
    partition: int
    epoch: int
    owner: str
    alive: bool
    positions: Mapping[str, Position]
    lag: Mapping[str, int]
    written: Mapping[str, Written] = {}
    memo: bytes = b""


class Lost(NamedTuple):
    """Entries that a stream has lost.

    ``expected``: the last entry that was read. ``last``: the newest entry of the stream now. ``detail``: the
    contradiction that was found, in words. ``rolled_back``: nothing is known of the entries, but the group is back at
    an earlier commit, or its claim is gone."""

    place: StreamKey
    expected: str
    last: str
    detail: str
    rolled_back: bool = False


class TruncatedLogError(RuntimeError):
    """The log is not the one that was read: its newest entries were lost, or it was rewritten. Nothing was written.

    A service whose commit raises this may claim the group again, and then continues from the entries that exist."""

    def __init__(self, message: str, lost: Lost) -> None:
        super().__init__(message)
        self.lost = lost


class SupersededError(RuntimeError):
    """Another process owns the group now, or the group is not at the positions that the commit starts from.

    The process that gets this error must stop. Nothing of its batch was written."""


class HaltedError(RuntimeError):
    """The fence of the partition has another mark than the commit assumed, or is not open for its intents.

    Nothing of the batch was written. ``mark`` is the current mark, '' if there is none: decide again under it."""

    def __init__(self, message: str, mark: str) -> None:
        super().__init__(message)
        self.mark = mark


class OwnedError(RuntimeError):
    """The group has an owner whose lease runs: a second copy was started by mistake. The message names the owner.

    ``running``: the owner certainly runs (``leases.owner_is_running``). ``lease``: the epoch and the end of the lease,
    by the clock of the log. An owner that lives extends it. ``left_s``: how long it runs if it is not extended (s)."""

    def __init__(
        self, message: str, *, running: bool = True, lease: tuple[int, int] = (0, 0), left_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.running = running
        self.lease = lease
        self.left_s = left_s


class UnavailableError(ConnectionError):
    """The server cannot be reached or does not answer. Every call may be repeated, including a commit."""


class PassingError(UnavailableError):
    """The server answers, and does it after a while, without any change: it is busy, changes its role, or has no
    connection left."""


class LoadingError(PassingError):
    """The server is still loading its data file, and answers after that."""


class Log(Protocol):
    """The interface of the log. The docstring of the module lists what is and what is not guaranteed."""

    @property
    def opened(self) -> int:
        """Return how many connections were opened so far.

        A server loses entries only when it is restarted or replaced, which breaks the connections. As long as this
        number does not change, the entries that were read exist."""

    async def time(self, partition: int = 0) -> int:
        """Return the time (ms since 1970) of the clock that gives the ids of a partition's entries.

        Entry ids never fall, but this clock may be set back; then ids do not advance until it has caught up. Raises
        ``UnavailableError``."""

    async def check(self, marks: Sequence[ReadMark]) -> None:
        """Compare entries that were read with the log, in one round trip to each server unless an entry is missing.

        Raises ``TruncatedLogError`` for the first mark that the log contradicts."""

    async def claim(
        self, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
    ) -> Claim:
        """Make ``owner`` the owner of the group under a new epoch, and return the claim.

        Consumer groups that are missing are created at the group's durable position (``START`` at first), never at the
        end of the stream. A lease runs for ten seconds. ``commit`` and ``renew`` extend it, ``release`` ends it.

        Raises ``OwnedError`` while the lease of another owner runs, unless ``take_over`` is set, or that owner is a
        process of this host that no longer exists."""

    async def renew(self, claim: Claim) -> None:
        """Extend the lease. Raises ``SupersededError``, ``TruncatedLogError``."""

    async def release(self, claim: Claim) -> None:
        """End the lease, so that the next claim need not wait. Do nothing if there is a newer claim."""

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        """Write the batch atomically, and extend the lease. The same commit may be sent again: it is applied once.

        Raises ``SupersededError``, ``HaltedError``, ``TruncatedLogError``, ``UnavailableError``."""

    async def fence(self, partition: int) -> str:
        """Return the mark of a partition's fence: ``open <command id>`` or ``closed <command id>``.

        It is '' if it was never set, which counts as closed. Raises ``UnavailableError``."""

    async def set_fence(self, partition: int, mark: str, note: Encoded, *, expected: str | None = None) -> str:
        """Set the mark of a partition's fence and append ``note`` to its ``decisions``, both atomically.

        The position of the note in the stream shows which decisions precede the change and which follow it. Nothing is
        written if the fence has this mark already, or if ``expected`` is given and the fence has another mark. Return
        the mark that the fence has in the end. Raises ``UnavailableError``."""

    async def written(self, claim: Claim) -> Mapping[str, Written]:
        """Return the running digests of the claim's group after its last commit, by stream."""

    async def read(
        self, after: Mapping[StreamKey, str], *, count: int, block_ms: int, ahead: bool = False
    ) -> list[Entry]:
        """Return entries after the given ids, at most ``count`` of each stream.

        The streams are in the order of ``after``, the entries of each stream oldest first. If there are none, wait up
        to ``block_ms`` milliseconds for the first one (0: do not wait).

        ``ahead`` announces that the caller will commit the results of these entries, and will then at once read the
        entries that follow them. The log may send both requests together. It does not change the entries returned."""

    async def scan(self, place: StreamKey, *, after: str = START, until: str = "+", count: int = 1000) -> list[Entry]:
        """Return at most ``count`` entries with ``after`` < id <= ``until``, oldest first."""

    async def tail(self, place: StreamKey, count: int) -> list[Entry]:
        """Return the newest ``count`` entries, oldest first."""

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        """Append an entry under exactly ``entry_id``, and return true. If the id is not greater than the newest, return
        false; nothing is written then.

        This is the compare-and-append of the control stream. ``marks``: entries that were read from it. They are
        compared first, over the same connection. Raises ``TruncatedLogError``."""

    async def extent(self, place: StreamKey) -> Extent:
        """Return the current extent of the stream."""

    async def groups(self, partition: int) -> list[GroupView]:
        """Return every group that was ever claimed in a partition."""

    async def close(self) -> None:
        """Close the connections. Claims are not released."""
