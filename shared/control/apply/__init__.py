"""Apply one command to the configuration: check it, then return the next state. Pure.

Each command has one function that both checks and applies it:

    artifacts     register, start_shadow, stop_shadow, retire
    promotion     promote, confirm
    policies      start_shadow, stop_shadow, promote: of voting policies
    rollback      rollback, revert_probation
    weights       set_weights, set_ladder, step_weight
    installation  found, halt, resume, and the voting, gate, training and execution policies
    keys          trust, revoke
    approval      the rule of two persons: set_rule, propose, unapproved, refuse

Recorded histories pin which commands are accepted: a change here would change the configuration that every installation
reads from its log. They pin the texts of refusals too, because these are part of `control.refused` events.
"""

from typing import assert_never

from schemas.control import (
    Approve,
    Command,
    ConfirmPromotion,
    Found,
    Halt,
    Promote,
    PromotePolicy,
    Propose,
    Refuse,
    RegisterArtifact,
    Resume,
    Retire,
    RevertProbation,
    RevokeKey,
    Rollback,
    SetApprovalRule,
    SetExecutionPolicy,
    SetGatePolicy,
    SetLadder,
    SetTrainingPolicy,
    SetVotingPolicy,
    SetWeights,
    StartPolicyShadow,
    StartShadow,
    StepWeight,
    StopPolicyShadow,
    StopShadow,
    TrustKey,
)
from shared.control.apply import approval, artifacts, installation, keys, policies, promotion, rollback, weights
from shared.control.state import Issuer, Rejected, State


def decide(state: State, command: Command, at: int = 0, issuer: Issuer | None = None) -> Rejected | None:
    """Return why ``command`` would be refused on top of ``state``; None if it would be accepted. Without ``at`` no
    proposal has expired; without ``issuer`` who approves is not checked."""
    after = apply(state, command, at, issuer)
    return after if isinstance(after, Rejected) else None


def apply(state: State, command: Command, at: int, issuer: Issuer | None = None) -> State | Rejected:
    """Return the configuration after ``command``, recorded at ``at`` (ms since the epoch), or why it is refused.
    ``issuer``: who issues it; None: not known yet, and then who approves is not checked.

    ``version``, ``head`` and ``past`` of the result are still those of ``state``; ``fold`` sets them."""
    if state.version == 0 and not isinstance(command, Found):
        return Rejected("no installation here yet: the first command is `conclave found`")
    match command:
        case Propose():
            proposed = _carry_out(state, command.command, at)
            return proposed if isinstance(proposed, Rejected) else approval.propose(state, command, at, issuer)
        case Approve():
            after = approval.unapproved(state, command, at, issuer) or _carry_out(state, command.command, at)
            return after if isinstance(after, Rejected) else approval.ended(after, command.proposal)
        case Refuse():
            return approval.refuse(state, command, issuer)
        case _:
            return approval.held(state, command) or _carry_out(state, command, at)


def _carry_out(state: State, command: Command, at: int) -> State | Rejected:
    """Return the configuration after a command that needs no second person, or that has one."""
    match command:
        case Propose() | Approve() | Refuse():
            raise TypeError(f"a {type(command).__name__} cannot be proposed")
        case SetApprovalRule():
            return approval.set_rule(state, command)
        case RegisterArtifact():
            return artifacts.register(state, command)
        case StartShadow():
            return artifacts.start_shadow(state, command)
        case StopShadow():
            return artifacts.stop_shadow(state, command)
        case Retire():
            return artifacts.retire(state, command)
        case Promote():
            return promotion.promote(state, command, at)
        case ConfirmPromotion():
            return promotion.confirm(state, command)
        case Rollback():
            return rollback.rollback(state, command)
        case RevertProbation():
            return rollback.revert_probation(state, command)
        case SetWeights():
            return weights.set_weights(state, command)
        case SetLadder():
            return weights.set_ladder(state, command)
        case StepWeight():
            return weights.step_weight(state, command)
        case Found():
            return installation.found(state, command)
        case Halt():
            return installation.halt(state)
        case Resume():
            return installation.resume(state)
        case SetVotingPolicy():
            return installation.set_voting_policy(state, command)
        case StartPolicyShadow():
            return policies.start_shadow(state, command)
        case StopPolicyShadow():
            return policies.stop_shadow(state, command)
        case PromotePolicy():
            return policies.promote(state, command, at)
        case SetGatePolicy():
            return installation.set_gate_policy(state, command)
        case SetTrainingPolicy():
            return installation.set_training_policy(state, command)
        case SetExecutionPolicy():
            return installation.set_execution_policy(state, command)
        case TrustKey():
            return keys.trust(state, command)
        case RevokeKey():
            return keys.revoke(state, command)
        case _:
            assert_never(command)
