"""Check that shadows change no vote: compute a decision's vote again from its counted ballots alone."""

from schemas.decisions import DecisionMade
from shared.voting.pool import Panel, vote


def differences(panel: Panel, head: str, decision: DecisionMade) -> str:
    """Return what in a decision does not follow from its counted ballots; an empty text if all of it does, to the bit.
    ``panel`` and ``head`` are those of the decision's control version. Shadows in ``panel`` are ignored."""
    faults = []
    if decision.control_head != head:
        faults.append(f"control head: {decision.control_head[:12]} was recorded, {head[:12]} is that version's")
    voting = {(member.model, member.artifact): member.weight for member in panel.members}
    for ballot in decision.counted:
        weight = voting.get((ballot.model, ballot.artifact))
        if weight is None:
            faults.append(f"{ballot.model} {ballot.artifact[:12]} was counted and had no vote")
        elif weight != ballot.weight:
            faults.append(f"{ballot.model}: weight {ballot.weight!r} was recorded, {weight!r} was in force")
    ballots = {ballot.model: ballot.probabilities for ballot in decision.counted}
    if len(ballots) != len(decision.counted):
        faults.append("a model was counted twice")
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
    faults += [
        f"{name}: {recorded!r} was recorded, {computed!r} follows"
        for name, recorded, computed in pairs
        if recorded != computed
    ]
    return "; ".join(faults)[:2000]
