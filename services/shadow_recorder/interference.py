"""Proof that shadows change nothing: a decision's vote, taken again from its counted ballots alone."""

from schemas.decisions import DecisionMade
from shared.voting.pool import Panel, vote


def differences(panel: Panel, head: str, decision: DecisionMade) -> str:
    """What in a decision does not follow from its counted ballots under ``panel``, the configuration of
    its version without shadows, whose head is ``head``. Empty where all of it does, to the bit."""
    found = []
    if decision.control_head != head:
        found.append(f"control head: {decision.control_head[:12]} was recorded, {head[:12]} is that version's")
    voting = {(member.model, member.artifact): member.weight for member in panel.members}
    for ballot in decision.counted:
        weight = voting.get((ballot.model, ballot.artifact))
        if weight is None:
            found.append(f"{ballot.model} {ballot.artifact[:12]} was counted and had no vote")
        elif weight != ballot.weight:
            found.append(f"{ballot.model}: weight {ballot.weight!r} was recorded, {weight!r} was in force")
    ballots = {ballot.model: ballot.probabilities for ballot in decision.counted}
    if len(ballots) != len(decision.counted):
        found.append("a model was counted twice")
    without = panel._replace(shadows=frozenset())
    again = vote(without, {member.model: ballots[member.model] for member in panel.members if member.model in ballots})
    pairs = (
        ("status", decision.status, "decided" if again.quorum else "no_quorum"),
        ("action", decision.action, again.action),
        ("confidence", decision.confidence, again.confidence),
        ("probabilities", decision.probabilities, again.probabilities),
        ("consensus_count", decision.consensus_count, again.consensus_count),
        ("total_models", decision.total_models, len(panel.members)),
    )
    found += [f"{name}: {said!r} was recorded, {right!r} follows" for name, said, right in pairs if said != right]
    return "; ".join(found)[:2000]
