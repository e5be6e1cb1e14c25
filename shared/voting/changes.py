"""Change some fields of a voting policy."""

from collections.abc import Mapping

import msgspec

from schemas.control import SetVotingPolicy


def changed_policy(policy: SetVotingPolicy, given: Mapping[str, str]) -> SetVotingPolicy:
    """Return a voting policy with some fields changed, from their texts. A new ``edge`` without a new ``cost`` removes
    the cost, which would take its place. Raises ``msgspec.ValidationError``."""
    known = msgspec.to_builtins(policy)
    if "edge" in given and "cost" not in given:
        known.pop("cost", None)
    return msgspec.convert({**known, **given}, SetVotingPolicy, strict=False)
