"""Commands about the installation as a whole: found it, halt and resume intents, set its policies."""

from typing import Final

from msgspec import UNSET, structs

from schemas.control import Found, SetExecutionPolicy, SetGatePolicy, SetTrainingPolicy, SetVotingPolicy
from shared.control.apply.policies import stacker_fault, with_policy
from shared.control.state import Rejected, State
from shared.money.venue import EXCHANGES, WITHOUT_ORDERS

VENUES: Final = ("paper", "none")
"""The venues that need no key. A refusal names no others, since its text is part of recorded alarms."""


def found(state: State, command: Found) -> State | Rejected:
    """Set the number of partitions, the id of the log, and the first voting policy. Only the first command of a log
    can."""
    if state.version:
        return Rejected("this installation was founded before; a log is founded once")
    policy = state.policy if command.voting is UNSET else command.voting
    return structs.replace(state, partitions=command.partitions, log_id=command.log_id, policy=policy)


def halt(state: State) -> State | Rejected:
    """Stop intents; decisions are still recorded."""
    return Rejected("halted already") if state.halted else structs.replace(state, halted=True)


def resume(state: State) -> State | Rejected:
    """End a halt."""
    return structs.replace(state, halted=False) if state.halted else Rejected("not halted")


def set_voting_policy(state: State, command: SetVotingPolicy) -> State | Rejected:
    """Set how predictions are combined into a decision. The voting models must reach its quorum, if there are any."""
    voting = len(state.voting)
    if 0 < voting < command.quorum_count:
        return Rejected(f"a quorum of {command.quorum_count} cannot be reached: {voting} models vote")
    fault = stacker_fault(state, command)
    if fault:
        return Rejected(fault)
    # A policy as it is changes nothing: it leaves nothing to roll back.
    return state if command == state.policy else structs.replace(with_policy(state, command), before=state.version)


def set_gate_policy(state: State, command: SetGatePolicy) -> State:
    """Set the gates that judge a candidate. Every name is accepted, and all parameters; ``shared.gates.policies`` reads
    them."""
    return state if command == state.gate else structs.replace(state, gate=command, before=state.version)


def set_training_policy(state: State, command: SetTrainingPolicy) -> State:
    """Set when models are trained again. No rollback touches it, so it does not count as a change to go back to."""
    return structs.replace(state, training=command)


def set_execution_policy(state: State, command: SetExecutionPolicy) -> State | Rejected:
    """Set how the executor acts on intents. No rollback touches it, so it does not count as a change to go back to."""
    if command.venue in EXCHANGES and state.open:
        return Rejected(
            f"orders at {command.venue} need a signed command, and no key is trusted yet: see `conclave keys trust`"
        )
    if command.venue in WITHOUT_ORDERS:
        return Rejected(f"no orders can be sent to {command.venue}: {WITHOUT_ORDERS[command.venue]}")
    if command.venue not in VENUES + EXCHANGES:
        return Rejected(f"no venue {command.venue!r}; there are: {', '.join(VENUES)}")
    if command.notional > command.symbol_cap:
        return Rejected(
            f"an intent of {command.notional:g} exceeds the cap of a symbol, {command.symbol_cap:g}: nothing would be "
            "traded; raise symbol_cap, or lower notional"
        )
    share = command.total_cap / max(state.partitions, 1)
    if command.notional > share:
        return Rejected(
            f"an intent of {command.notional:g} exceeds the share of a partition in the cap of all symbols, {share:g}: "
            "nothing would be traded; raise total_cap, or lower notional"
        )
    return structs.replace(state, execution=command)
