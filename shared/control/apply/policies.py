"""Commands about a voting policy in shadow: start and stop its run, put it in force.

The policy in force and those in shadow decide the same rounds from the same ballots. Their scores are recorded under
the name ``ENSEMBLE``, as if each policy were an artifact of one model.
"""

from typing import Final

from msgspec import UNSET, structs

from schemas.common import ENSEMBLE
from schemas.control import PromotePolicy, SetVotingPolicy, StartPolicyShadow, StopPolicyShadow
from shared.control.policies import policy_digest
from shared.control.state import PolicyCandidate, Probation, Rejected, State, short

MOST: Final = 4
"""Voting policies that can be in shadow at once. Each costs every round one more vote."""


def start_shadow(state: State, command: StartPolicyShadow) -> State | Rejected:
    """Run a voting policy in shadow of the one in force."""
    policy, digest = command.policy, policy_digest(command.policy)
    if digest == policy_digest(state.policy):
        return Rejected(f"voting policy {short(digest)} is in force; change a field of it")
    if digest in state.policy_shadows:
        return Rejected(f"voting policy {short(digest)} is in shadow already")
    problems = [*_unscorable(state), *_unusable(state, policy)]
    if len(state.policy_shadows) >= MOST:
        others = ", ".join(map(short, state.policy_shadows))
        problems.append(f"{MOST} voting policies are in shadow ({others}), and no more can be; stop one first")
    if problems:
        return Rejected("; ".join(problems))
    candidate = PolicyCandidate(policy, command.scale, command.money_scale)
    return structs.replace(
        state, policies=state.policies.set(digest, candidate), policy_shadows=(*state.policy_shadows, digest)
    )


def stop_shadow(state: State, command: StopPolicyShadow) -> State | Rejected:
    """End the shadow run of a voting policy; its digest stays known."""
    if command.policy not in state.policy_shadows:
        return _not_in_shadow(state, command.policy)
    left = tuple([each for each in state.policy_shadows if each != command.policy])
    return structs.replace(state, policy_shadows=left)


def promote(state: State, command: PromotePolicy, at: int) -> State | Rejected:
    """Put a voting policy from shadow in force. The former one takes its place in shadow."""
    digest = command.policy
    if digest == policy_digest(state.policy):
        return Rejected(f"voting policy {short(digest)} is in force already")
    if digest not in state.policy_shadows:
        return _not_in_shadow(state, digest)
    candidate = state.policies[digest]
    problems = _unusable(state, candidate.policy)
    if command.verdict is None and not command.forced:
        problems.append(f"no passing gate verdict for {short(digest)}; --force with a reason overrides")
    if problems:
        return Rejected("; ".join(problems))
    former = structs.replace(candidate, policy=state.policy)
    known = state.policies.set(policy_digest(state.policy), former)
    after = with_policy(structs.replace(state, policies=known), candidate.policy)
    probations = after.probations
    if command.probation is not None:
        probations = probations.set(ENSEMBLE, Probation(digest, state.version + 1, command.probation, at))
    return structs.replace(after, probations=probations, before=state.version)


def with_policy(state: State, policy: SetVotingPolicy) -> State:
    """Return the configuration with another voting policy in force. If both were in shadow at some time, the former one
    takes the place of the new one there. A probation of the former one ends."""
    if policy == state.policy:
        return state
    state = structs.replace(state, policy_before=state.version)
    if not state.policies:
        return structs.replace(state, policy=policy)
    if ENSEMBLE in state.probations:
        state = structs.replace(state, probations=state.probations.delete(ENSEMBLE))
    former, digest = policy_digest(state.policy), policy_digest(policy)
    shadows = [each for each in state.policy_shadows if each != digest]
    if former in state.policies and digest in state.policies:
        shadows.append(former)
    return structs.replace(state, policy=policy, policy_shadows=tuple(shadows))


def stacker_fault(state: State, policy: SetVotingPolicy) -> str:
    """Return why the stacker of a policy cannot be used; '' if it can, or if the policy has none."""
    stacker = policy.stacker
    if stacker is UNSET:
        return "" if policy.rule != "stacker" else "the rule stacker needs its numbers; `conclave vote propose` fits it"
    if policy.rule != "stacker":
        return f"the policy has a stacker, and its rule is {policy.rule}; set rule=stacker, or leave the stacker out"
    names = [member.model for member in stacker.members]
    if names != sorted(set(names)):
        return f"the members of a stacker are sorted by model, each once; got {', '.join(names)}"
    for member in stacker.members:
        registered = state.artifacts.get(member.artifact)
        if registered is None or registered.model != member.model:
            return f"the stacker was fitted on {short(member.artifact)} of {member.model!r}, which is not registered"
    return ""


def _not_in_shadow(state: State, digest: str) -> Rejected:
    others = ", ".join(map(short, state.policy_shadows)) or "none"
    return Rejected(f"voting policy {short(digest)} is not in shadow; in shadow are: {others}")


def _unusable(state: State, policy: SetVotingPolicy) -> list[str]:
    """Return why a policy can neither be in force now, nor be compared with the one that is."""
    problems = []
    voting = len(state.voting)
    if voting < policy.quorum_count:
        problems.append(f"a quorum of {policy.quorum_count} cannot be reached: {voting} models vote")
    if policy.deadline_ms != state.policy.deadline_ms:
        problems.append(
            f"deadline_ms is {policy.deadline_ms}, expected {state.policy.deadline_ms}: a round closes once, by the "
            "policy in force"
        )
    fault = stacker_fault(state, policy)
    return [*problems, fault] if fault else problems


def _unscorable(state: State) -> list[str]:
    """Return why the vote as a whole cannot be scored."""
    if any(registered.model == ENSEMBLE for registered in state.artifacts.values()):
        return [f"a model is registered as {ENSEMBLE!r}, the name under which voting policies are scored"]
    champions = [state.artifacts[state.models[name].champion or ""] for name in state.voting]
    if not champions:
        return ["no model votes, so there is no vote to compare with; promote a model first"]
    labels = {(each.horizon, each.kappa) for each in champions}
    if len(labels) > 1 or None in next(iter(labels)):
        named = ", ".join(f"{each.model}: {each.horizon} bars, kappa {each.kappa}" for each in champions)
        return [f"the voting models need one label, by which their vote is scored; they have: {named}"]
    return []
