"""The decisions of the last bars of each symbol, as predictions are joined with them."""

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from schemas.codec import Envelope
from schemas.decisions import BallotLate, DecisionMade
from shared.log.rules import order

LATE: Final = 128
"""A prediction may come so many bars after its round and is still scored."""
RECALLED: Final = 8192
"""A trade's decision is recalled for so many decisions of the partition."""

Series = tuple[str, int]
Voice = tuple[str, str]


class Round:
    """A decision, its place on the log, and the ballots that came late for it. ``closed``: the entry of
    the decision after which nothing counts for it any more."""

    __slots__ = ("closed", "decision", "entry", "event", "late", "listed")

    def __init__(self, decision: DecisionMade, event: bytes, entry: str) -> None:
        self.decision = decision
        self.event = event
        self.entry = entry
        self.closed: str | None = None
        self.late: set[str] = set()
        self.listed = {ballot.event for ballot in decision.counted} | {ballot.event for ballot in decision.shadow}


class Rounds:
    """The rounds of one symbol and interval, in the order of their bars. ``newest``: the last decided."""

    def __init__(self) -> None:
        self.kept: OrderedDict[int, Round] = OrderedDict()
        self.open: deque[Round] = deque()
        self.newest = -1

    def take(self, decision: DecisionMade, event: bytes, entry: str) -> Round | None:
        """A decision; None if its bar was decided already."""
        if decision.open_time <= self.newest:
            return None
        self.newest = decision.open_time
        found = self.kept[decision.open_time] = Round(decision, event, entry)
        self.open.append(found)
        while self.closed(self.open[0].decision.open_time, decision.interval_ms):
            self.open.popleft().closed = entry
        return found

    def late(self, ballot: BallotLate) -> None:
        """A ballot that came too late for its round, and is scored all the same if not far too late."""
        found = self.kept.get(ballot.open_time)
        if found is not None and not self.closed(ballot.open_time, ballot.interval_ms):
            found.late.add(ballot.event)

    def closed(self, open_time: int, interval_ms: int) -> bool:
        """Whether nothing that comes for this bar counts any more."""
        return self.newest >= open_time + LATE * interval_ms

    def forget(self, waiting: int, read: str) -> None:
        """Lets rounds go that are closed and before the oldest bar that waits. ``read``: the last entry
        read from ``predictions``. What counts for a round was appended before the decision that closed
        it, so where ``read`` was appended after that one, all of it has been read."""
        reached = order(read)[0]
        while self.kept:
            open_time, oldest = next(iter(self.kept.items()))
            if open_time >= waiting or oldest.closed is None or reached <= order(oldest.closed)[0]:
                break
            del self.kept[open_time]


class Issued(NamedTuple):
    """A decision that an executor may have acted on."""

    ordinal: int
    entry: str
    decision: DecisionMade


class Recall:
    """The decisions with an intent among the last ``RECALLED``."""

    def __init__(self) -> None:
        self.count = 0
        self._issued: dict[str, Issued] = {}
        self._order: deque[str] = deque()

    def take(self, envelope: Envelope[DecisionMade], entry: str) -> None:
        """Counts a decision, and keeps it if an intent followed from it."""
        self.count += 1
        if envelope.event.intent == "issued":
            name = envelope.id.hex()
            self._issued[name] = Issued(self.count, entry, envelope.event)
            self._order.append(name)
        while self._order and self._issued[self._order[0]].ordinal <= self.count - RECALLED:
            del self._issued[self._order.popleft()]

    def find(self, decision: str) -> DecisionMade | None:
        """A decision by its event id."""
        found = self._issued.get(decision)
        return found.decision if found else None

    @property
    def oldest(self) -> str | None:
        """The entry of the oldest that is kept."""
        return self._issued[self._order[0]].entry if self._order else None
