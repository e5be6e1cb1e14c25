"""Compare the closed trades of a partition with those that follow from its fills."""

from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

from schemas.codec import Encoded
from shared.audit.comparison import Comparison, differences
from shared.audit.source import ReadEvent, Recording, readable

OTHERS = "trades: of another program, for decisions that the executor did not trade"


class DueEvent(NamedTuple):
    """An event that follows, and the event that it must follow: its entry and id (hex)."""

    encoded: Encoded
    entry: str
    event: str


def check_trades(
    source: Recording,
    compared: Comparison,
    due: deque[DueEvent],
    decisions: Collection[str],
    missing: Callable[[DueEvent, str], None],
) -> None:
    """Compare the trades, both in the order of the fills. ``decisions``: those for which there are orders. ``missing``
    is called with a trade that is not recorded though a later one is."""
    closing = {each.event for each in due}
    for read in readable(source, compared.place, "order", compared.findings, compared.span):
        envelope = read.opened.envelope
        if envelope.causation.hex() not in closing:
            _other(compared, read, decisions)
            continue
        while due and due[0].event != envelope.causation.hex():
            missing(due.popleft(), "the trade that it closed is missing")
        if not due:
            compared.count("order", read, "its fill closed no further trade")
        elif not compared.settled(read, follows := due.popleft().encoded):
            compared.count("order", read, differences(envelope.event, follows.envelope.event))


def _other(compared: Comparison, read: ReadEvent, decisions: Collection[str]) -> None:
    """Judge a trade that follows from no fill. Another program may have written it, for an intent that the executor did
    not trade."""
    if read.opened.envelope.event.decision in decisions:
        compared.count("order", read, "no fill closed this trade")
    elif compared.span.holds(read.entry):
        compared.findings.note(OTHERS)
