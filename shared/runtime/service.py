"""What a service is to the runtime: a pure core behind four functions.

``shared.runtime.host`` hosts it: claims its group, rebuilds its state, hands it batches, commits what it
returns. The same object serves live, in tests (``MemoryLog``), in replay and in simulation.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded

S = TypeVar("S")


class Received(NamedTuple):
    """An event as it came from the log: its stream, its entry id, the envelope."""

    stream: str
    entry: str
    envelope: Envelope[Any]


class Batch(NamedTuple):
    """What the core is handed at once, to be taken in this order: new control entries, then events
    (in log order within a stream, at most 1,000), then the time. ``now`` is None during recovery,
    and where the service asked for no clock (``ticks``). ``halted``: the fence of the partition is closed,
    so that no intent may be written (``schemas.decisions.FenceClosed``).

    An event with a stamp (``control_version``) is to be handled under that version of the configuration, whatever
    came later; all commands up to it are in this batch or were in an earlier one."""

    control: Sequence[Envelope[CommandRecorded]]
    events: Sequence[Received]
    now: int | None = None
    halted: bool = False


class Service(Protocol[S]):
    """One service's core, bound to one partition's state ``S``, which belongs to the core and may be
    changed in place."""

    @property
    def group(self) -> str:
        """Its name in the log: ``ensemble-voter``, ``model-worker.xgboost``."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The partitioned streams it consumes."""

    @property
    def follows_control(self) -> bool:
        """Whether it folds the control stream, always from its beginning."""

    @property
    def ticks(self) -> int:
        """It is told the time at least this often (milliseconds); 0: it has no clock."""

    def initial(self, memo: bytes) -> S:
        """The state of a group whose last commit left ``memo`` (empty at the very first start)."""

    def apply(self, state: S, batch: Batch) -> None:
        """Takes in events that have been committed before, to rebuild the state; no outputs."""

    def handle(self, state: S, batch: Batch) -> Sequence[Encoded]:
        """Takes in new events and returns what to write, in order. Deterministic: the same state and
        batch give the same bytes, and cutting a sequence of events into batches elsewhere changes
        nothing that is written. Raising refuses the batch: the runtime then rebuilds the state,
        finds the event at fault one by one, and sets it aside as a dead letter."""

    def snapshot(self, state: S) -> bytes:
        """What must survive a restart and cannot be read again from ``replay_from``. Small."""

    def replay_from(self, state: S) -> Mapping[str, str]:
        """For each stream read, the id *before* the oldest entry that the state still depends on;
        a stream that is missing there needs nothing read again."""


@runtime_checkable
class Backpressure(Protocol):
    """A service that joins streams, beside being a ``Service``: it keeps one from running far ahead of
    another, so that what waits for its counterpart stays bounded."""

    def hold(self, state: Any) -> Collection[str]:
        """Streams that are not to be read now. Never all of those that could bring what it waits for."""


@runtime_checkable
class Recallable(Protocol):
    """A service that can go on though the record of its group is gone, memo and all, beside being a ``Service``. A
    memo to begin with is made from what it wrote; what it read it takes in again from the oldest entry that is left,
    and nothing of that is written again."""

    @property
    def recalls(self) -> tuple[str, ...]:
        """The streams it wrote that its memo is made from; none where it needs no memo for that."""

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """The memo that follows from ``memo`` and the next entries of those streams, in their order."""

    def reapply(self, state: Any, batch: Batch) -> None:
        """Takes in events that were handled once; no outputs. As ``apply``, but without the memo of that time."""


@runtime_checkable
class Background(Protocol):
    """A service that nobody waits for, beside being a ``Service``: having read all that was there, it rests
    ``rest_ms`` before it reads again, so that it wakes a few times a second and not at every event. What came
    meanwhile it is handed a few at a time, with pauses, and commits at once. The way from bar to decision has the
    processor in between."""

    @property
    def rest_ms(self) -> int:
        """Milliseconds."""
