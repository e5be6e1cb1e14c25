"""Change some fields of a voting policy."""

from collections.abc import Mapping

import msgspec

from schemas.control import SetVotingPolicy


def changed_policy(policy: SetVotingPolicy, given: Mapping[str, str]) -> SetVotingPolicy:
    """Return a voting policy with some fields changed, from their texts. A new ``edge`` without a new ``cost`` removes
    the cost, which would take its place; a new ``rule`` removes the stacker. Raises ``msgspec.ValidationError``."""
    known = msgspec.to_builtins(policy)
    if "edge" in given and "cost" not in given:
        known.pop("cost", None)
    if given.get("rule", policy.rule) != policy.rule:
        known.pop("stacker", None)
    return msgspec.convert({**known, **given}, SetVotingPolicy, strict=False)
