"""Count the decisions of a probation, and revert it when it is over; find an account that differs. Pure."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from schemas.codec import Envelope
from schemas.common import ENSEMBLE
from schemas.control import Halt, RevertProbation
from schemas.decisions import DecisionMade
from schemas.orders import AccountDiffers, AccountReconciled
from shared.control import Probation, State
from shared.money.venue import venue_of

GROUP: Final = "guard"
CLOCKS_WITHIN_MS: Final = 600_000
"""How much the clocks of an operator and of the server may differ."""


class Difference(NamedTuple):
    """An ``AccountDiffers``: its venue, what differs in words, and the id of the command that halts for it."""

    venue: str
    detail: str
    command_id: str


class Counted(NamedTuple):
    """The number of decisions that counted a ballot of the artifact on probation, or were made by the voting policy on
    probation; and the id of the last."""

    decisions: int = 0
    last: str | None = None


def replay_from(probation: Probation) -> str:
    """Return the entry id after which the decisions of a probation begin, in every partition."""
    return f"{max(probation.at - CLOCKS_WITHIN_MS, 0)}-0"


def apply(counted: Counted, model: str, probation: Probation, events: Iterable[Envelope[Any]]) -> Counted:
    """Return the count after more events of ``decisions``. It stops at the number that the probation requires.

    A decision counts when it is made, not when its outcome is known."""
    for envelope in events:
        if counted.decisions == probation.decisions:
            break
        if _counts(envelope.event, model, probation):
            counted = Counted(counted.decisions + 1, envelope.id.hex())
    return counted


def handle(counted: Counted, model: str, probation: Probation) -> RevertProbation | None:
    """Return the command that ends a probation; None while decisions are missing."""
    if counted.decisions < probation.decisions:
        return None
    return RevertProbation(model, probation.artifact, counted.decisions, counted.last)


def _counts(event: object, model: str, probation: Probation) -> bool:
    if not isinstance(event, DecisionMade) or event.control_version < probation.version:
        return False
    if model == ENSEMBLE:  # in force since that version: another policy would end the probation
        return event.status == "decided"
    return any((ballot.model, ballot.artifact) == (model, probation.artifact) for ballot in event.counted)


def compared(last: Difference | None, events: Iterable[Envelope[Any]]) -> Difference | None:
    """Return the difference that the last comparison of a partition's account found; None if it found none.

    ``last``: what was found before these events of ``orders``."""
    for envelope in events:
        match envelope.event:
            case AccountDiffers() as event:
                last = Difference(event.venue, event.detail, f"account-differs-{envelope.id.hex()}")
            case AccountReconciled():
                last = None
            case _:
                pass
    return last


def halt_for(difference: Difference | None, state: State) -> Halt | None:
    """Return a halt for a difference, if orders go to that account, no halt is in force, and none was issued for this
    difference before."""
    if difference is None or difference.venue != venue_of(state.execution):
        return None
    issued = state.halted or state.past.version_of(difference.command_id) is not None
    return None if issued else Halt()
