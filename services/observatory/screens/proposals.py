"""The part of the pages about the rule of two persons: which commands need a second person, and what waits. Pure."""

from msgspec import Struct

from shared.control import State as Control
from shared.control.changes import words


class ProposalShown(Struct, frozen=True):
    """A proposal that was neither approved nor refused. ``number``: the version of its entry. ``at``, ``until``: when
    it was made, and from when on it cannot be approved (ms). ``expired``: it cannot any more."""

    number: int
    what: str
    by: str
    why: str
    at: int
    until: int
    expired: bool


class Proposals(Struct, frozen=True):
    """``commands``: those that need a second person; ``approvers``: who approves them."""

    commands: tuple[str, ...]
    approvers: tuple[str, ...]
    proposals: tuple[ProposalShown, ...]


def screen(control: Control, now: int) -> Proposals:
    """Return the rule, and the proposals under it, oldest first."""
    proposals = [
        ProposalShown(
            number=number,
            what=words(proposal.command),
            by=proposal.by.person,
            why=proposal.by.reason,
            at=proposal.at,
            until=proposal.until,
            expired=now >= proposal.until,
        )
        for number, proposal in sorted(control.proposals.items())
    ]
    return Proposals(control.approval.commands, control.approval.approvers, tuple(proposals))


def waiting(control: Control, now: int) -> int:
    """Return how many proposals can be approved."""
    return sum(now < proposal.until for proposal in control.proposals.values())
