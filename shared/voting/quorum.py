"""Say why no quorum can be reached under a configuration."""

from shared.control.state import State
from shared.voting.arithmetic import FLOOR


def why_undecidable(state: State) -> str:
    """Return why no round can reach the quorum, however many models answer, and what to do; '' if one can, or if no
    model votes at all."""
    voting, policy = state.voting, state.policy
    if not voting:
        return ""
    weight = sum(state.models[name].weight or 0.0 for name in voting)
    if len(voting) < policy.quorum_count:
        return (
            f"every decision will be no_quorum: {len(voting)} of the {policy.quorum_count} models vote that a quorum "
            f"needs. Promote another model, or lower it: conclave policy voting quorum_count={len(voting)}"
        )
    if weight < policy.quorum_weight - FLOOR:
        return (
            f"every decision will be no_quorum: the voting models have a weight of {weight:.2f} together, and a quorum "
            f"needs {policy.quorum_weight:.2f}. Set their weights, or lower it: conclave policy voting quorum_weight=N"
        )
    return ""
