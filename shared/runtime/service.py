"""The interface between a service and the runtime: a pure core as an object with five methods.

``shared.runtime.host`` hosts it: claims its group, rebuilds its state, hands it batches, commits what it returns. The
same object serves live, in tests (``MemoryLog``), in replay and in simulation.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded

S = TypeVar("S")


class Received(NamedTuple):
    """An event read from the log: its stream, its entry id, its envelope."""

    stream: str
    entry: str
    envelope: Envelope[Any]


class Batch(NamedTuple):
    """What a core is handed at once: new control entries, events (in log order within a stream, at most 1,000 of each),
    and the time. The core handles them in this order.

    ``now`` (ms since 1970, the server's time) is None during recovery, and for a service without a clock (``ticks``).
    The server's clock may be set, also back. ``steady`` (ms) is a clock that is never set, for durations alone: its
    zero is arbitrary, and another one in each process. Without it ``now`` measures durations too. ``halted``: the fence
    of the partition is closed, so that no intent may be written (``schemas.decisions.FenceClosed``).

    An event with a stamp (``control_version``) is to be handled under that version of the configuration, even if later
    ones were read. All commands up to its stamp are in this batch or were in an earlier one."""

    control: Sequence[Envelope[CommandRecorded]]
    events: Sequence[Received]
    now: int | None = None
    halted: bool = False
    steady: int | None = None


class Service(Protocol[S]):
    """One service's core on one partition. The state ``S`` belongs to the core, which may change it in place."""

    @property
    def group(self) -> str:
        """Its name in the log: ``ensemble-voter``, ``model-worker.xgboost``."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The partitioned streams that it reads."""

    @property
    def follows_control(self) -> bool:
        """Whether it folds the control stream, always from its beginning."""

    @property
    def ticks(self) -> int:
        """The longest time (ms) between two batches, which may be empty but for the time; 0: it needs no clock."""

    def initial(self, snapshot: bytes) -> S:
        """Return the state of a group whose last commit had this snapshot, empty at the very first start."""

    def apply(self, state: S, batch: Batch) -> None:
        """Apply events that were handled before a restart, to rebuild the state. Writes nothing."""

    def handle(self, state: S, batch: Batch) -> Sequence[Encoded]:
        """Apply new events, and return what to write, in order.

        Deterministic: the same state and batch give the same bytes, and how events are cut into batches changes nothing
        that is written. An exception refuses the batch: the runtime rebuilds the state, finds the event on which the
        core raises, and sets it aside as a dead letter."""

    def snapshot(self, state: S) -> bytes:
        """Return what must survive a restart and cannot be read again from ``replay_from``. Small."""

    def replay_from(self, state: S) -> Mapping[str, str]:
        """Return for each stream the id *before* the oldest entry that the state still depends on. A stream that is
        missing is not replayed."""


@runtime_checkable
class Backpressure(Protocol):
    """A ``Service`` that joins streams, and pauses one that is ahead of another. So the events that wait for their
    counterpart stay bounded."""

    def paused_streams(self, state: Any) -> Collection[str]:
        """Return the streams not to be read now. Never all of those that can bring what an event waits for."""


@runtime_checkable
class Recallable(Protocol):
    """A ``Service`` that can go on after the record of its group is lost, with its snapshot and positions.

    A snapshot is made from what the service wrote (``recall``). From it, the service applies all entries that are left
    of what it reads (``reapply``), and writes nothing of it again."""

    @property
    def recalls(self) -> tuple[str, ...]:
        """The streams that it wrote and its snapshot is made from; none if its state needs no snapshot."""

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """Return the snapshot that follows from ``memo``, the one so far, and the next entries of those streams."""

    def reapply(self, state: Any, batch: Batch) -> None:
        """Apply events that were handled once, as ``apply`` does, but without the snapshot of that time."""


@runtime_checkable
class Background(Protocol):
    """A ``Service`` whose outputs nothing on the way from bar to decision waits for.

    Having read all there is, it waits ``poll_ms`` before it reads again, so it wakes a few times a second and not at
    every event. It is handed a batch in pieces, with pauses between them, and the batch is committed as one."""

    @property
    def poll_ms(self) -> int:
        """Milliseconds."""
