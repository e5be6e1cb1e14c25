"""Commands of the rule of two persons: set it, propose a command, approve or refuse what was proposed.

A person is the holder of the key that signs. Two keys of one holder are one person, and so are two entries with the
same actor. While no key is trusted, the actor alone tells persons apart. So who may trust keys decides who a person is.

The rule can cover what lets a model vote, gives it more weight, or changes how votes become a decision. It never
covers a halt, a resume, a rollback, the end of a probation or a step down: nothing that leads back to what was in force
needs a second person.

A rule holds what it held when it was set, or a log would read otherwise in a later release. So what is held since then
has a name of its own: ``set_ladder``, without which a low step lets a step down give the others nearly all weight, and
``promote_policy``, which covers ``set_voting_policy`` too.
"""

from typing import Final

from immutables import Map
from msgspec import structs

from schemas.control import (
    Approve,
    Command,
    Promote,
    PromotePolicy,
    Proposable,
    Propose,
    Refuse,
    SetApprovalRule,
    SetLadder,
    SetVotingPolicy,
    SetWeights,
    StepWeight,
)
from shared.control.apply.keys import may
from shared.control.state import Issuer, Proposal, Rejected, State

HELD: Final = ("promote", "promote_policy", "set_ladder", "set_weights")
"""The tags of the commands that a rule may name."""
NAMED: Final = "promote, set_weights"
"""Those that a refusal names. It names no others, since its text is part of recorded alarms."""


def held(state: State, command: Command) -> Rejected | None:
    """Return why a command needs a second person; None if it does not."""
    rule = state.approval
    match command:
        case Promote() if "promote" in rule.commands:
            what, way = "a promotion", "promote"
        case Promote(weight=weight) if weight is not None and "set_weights" in rule.commands:
            what, way = "a promotion with a weight", "promote"
        case SetWeights() if "set_weights" in rule.commands:
            what, way = "a change of the weights", "weights"
        case StepWeight(up=True) if "set_weights" in rule.commands:
            what, way = "a step up", "weights"
        case SetLadder() if "set_ladder" in rule.commands:
            what, way = "another ladder", "ladder"
        case PromotePolicy() if "promote_policy" in rule.commands:
            what, way = "a promotion of a voting policy", "promote-policy"
        case SetVotingPolicy() if "promote_policy" in rule.commands:
            what, way = "another voting policy", "voting"
        case SetApprovalRule() if rule.commands:
            what, way = "a change of the rule of two persons", "approval"
        case _:
            return None
    return Rejected(
        f"{what} needs a second person here: propose it (`conclave propose {way}`), then {_named(rule.approvers)} can "
        "approve it; a halt and a rollback need no second person"
    )


def set_rule(state: State, command: SetApprovalRule) -> State | Rejected:
    """Set the rule. What was proposed under another rule ends."""
    unknown = sorted(set(command.commands) - set(HELD))
    if unknown:
        return Rejected(f"no rule of two persons for {', '.join(unknown)}; there is one for: {NAMED}")
    if not command.commands:
        return structs.replace(state, approval=SetApprovalRule(), proposals=Map())
    if not command.approvers:
        return Rejected("a rule of two persons names who approves (--approver); got no one")
    if len(set(command.approvers)) < len(command.approvers):
        return Rejected(f"an approver is named twice: {', '.join(command.approvers)}")
    if not state.open and (fault := _unusable(state, command)):
        return Rejected(fault)
    return structs.replace(state, approval=command, proposals=Map())


def propose(state: State, command: Propose, at: int, issuer: Issuer | None) -> State | Rejected:
    """Keep a proposal under the next version; those that have expired are dropped. Whether the proposed command is
    accepted now is checked by ``apply``."""
    if held(state, command.command) is None:
        tag = command.command.__struct_config__.tag
        return Rejected(f"{tag} needs no second person here (`conclave status` shows the rule); issue it yourself")
    proposals = {number: each for number, each in state.proposals.items() if each.until > at}
    made = Proposal(command.command, issuer or Issuer(""), at, at + command.valid_ms)
    return structs.replace(state, proposals=Map({**proposals, state.version + 1: made}))


def unapproved(state: State, command: Approve, at: int, issuer: Issuer | None) -> Rejected | None:
    """Return why a proposal cannot be approved; None if it can. ``issuer`` None: it is not known yet, and who approves
    is not checked."""
    number = command.proposal
    proposal = state.proposals.get(number)
    if proposal is None:
        return _not_open(state, number)
    if at >= proposal.until:
        return Rejected(f"proposal {number} has expired; propose it again")
    if not state.open and not proposal.by.holder:
        return Rejected(
            f"proposal {number} was made before a key was trusted, so its author is not certain; propose it again"
        )
    refused = _no_approver(state, number, proposal, issuer) if issuer is not None else None
    if refused is not None:
        return refused
    if _outdated(state, number, proposal.command):
        what = _what_changed(proposal.command)
        return Rejected(
            f"proposal {number} is out of date: {what} has changed since; look at the present "
            "configuration, then propose it again"
        )
    if _without_evidence(command.command) != _without_evidence(proposal.command):
        return Rejected(f"this is not what proposal {number} proposes; approve it as it is, or refuse it")
    return None


def refuse(state: State, command: Refuse, issuer: Issuer | None) -> State | Rejected:
    """End a proposal without its effect."""
    number = command.proposal
    proposal = state.proposals.get(number)
    if proposal is None:
        return _not_open(state, number)
    if issuer is not None and not issuer.is_one_with(proposal.by) and _is_another(state, issuer):
        return Rejected(
            f"{issuer.person} can neither refuse nor withdraw proposal {number}: it is of {proposal.by.person}, and "
            f"approvers are {_named(state.approval.approvers)}"
        )
    return ended(state, number)


def ended(state: State, number: int) -> State:
    """Return the configuration without a proposal."""
    if number not in state.proposals:
        return state
    return structs.replace(state, proposals=state.proposals.delete(number))


def approval_of(state: State, number: int) -> Approve | Rejected:
    """Return the approval of an open proposal. The evidence for a promotion is still to be collected."""
    proposal = state.proposals.get(number)
    return _not_open(state, number) if proposal is None else Approve(number, _without_evidence(proposal.command))


def effect_of(command: Command) -> Command:
    """Return what takes effect with a command: what an approval approves, any other command itself."""
    return command.command if isinstance(command, Approve) else command


def _without_evidence(command: Proposable) -> Proposable:
    match command:
        case Promote():
            return structs.replace(command, ready=(), verdict=None)
        case PromotePolicy():
            return structs.replace(command, verdict=None)
        case SetWeights() | SetApprovalRule() | SetVotingPolicy() | SetLadder():
            return command


def _no_approver(state: State, number: int, proposal: Proposal, issuer: Issuer) -> Rejected | None:
    if issuer.is_one_with(proposal.by):
        return Rejected(
            f"proposal {number} is of {proposal.by.person}, so another person approves it: "
            f"{_named(state.approval.approvers)}; its author can withdraw it (`conclave refuse {number}`)"
        )
    if _is_another(state, issuer):
        return Rejected(f"{issuer.person} is no approver; approvers are {_named(state.approval.approvers)}")
    return None


def _is_another(state: State, issuer: Issuer) -> bool:
    """Return whether someone is no approver. A key that is not known yet may be of one."""
    known = state.open or bool(issuer.holder)
    return known and issuer.person not in state.approval.approvers


def _outdated(state: State, number: int, command: Proposable) -> bool:
    """Return whether what a command would replace is no longer what it was when the command was proposed."""
    match command:
        case Promote(model=name):
            return state.model_at(number, name).champion != state.model(name).champion
        case SetWeights():
            then, now = (
                {name: each.weight for name, each in models.items()}
                for models in (state.past[number].models, state.models)
            )
            return then != now
        case PromotePolicy() | SetVotingPolicy():
            return state.past[number].policy != state.policy
        case SetLadder():
            return state.past[number].ladder != state.ladder
        case SetApprovalRule():
            return False  # a new rule ends all proposals


def _what_changed(command: Proposable) -> str:
    """Return what makes a proposal out of date. The words about promotions and weights are part of recorded events."""
    match command:
        case PromotePolicy() | SetVotingPolicy():
            return "the voting policy in force"
        case SetLadder():
            return "the ladder"
        case Promote() | SetWeights() | SetApprovalRule():
            return "who votes, or with what weight,"


def _not_open(state: State, number: int) -> Rejected:
    there = ", ".join(str(each) for each in sorted(state.proposals)) or "none"
    return Rejected(f"no proposal {number} is open; open are: {there} (`conclave history` shows what became of it)")


def _unusable(state: State, rule: SetApprovalRule) -> str:
    """Return why nothing could be approved under a rule; '' if it could."""
    keys = state.keys.values()
    for approver in rule.approvers:
        if not any(key.holder == approver and may(key, Approve) for key in keys):
            holders = ", ".join(sorted({key.holder for key in keys if may(key, Approve)})) or "none"
            return f"{approver!r} holds no key that may approve; those who do: {holders}"
    if not any(may(key, Propose) and key.holder != approver for key in keys for approver in rule.approvers):
        return "no person but the approver holds a key that may propose; trust a second person's key first"
    return ""


def _named(persons: tuple[str, ...]) -> str:
    return " or ".join(persons) or "no one"
