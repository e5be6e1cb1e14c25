"""Which voting policies were in force for the rounds that something is counted over. Pure."""

from msgspec import Struct

from schemas.control import SetVotingPolicy
from shared.control.changes import policy_differences
from shared.control.policies import policy_digest


class PolicyUse(Struct):
    """A voting policy that was in force: its digest, the fields that differ from the defaults, and the open times (ms)
    of the first and the last bar under it."""

    digest: str
    differences: list[str]
    since: int
    until: int


class PolicyUses:
    """The policies in force under the versions of the rounds that are noted."""

    def __init__(self) -> None:
        self._by_digest: dict[str, PolicyUse] = {}
        self._by_version: dict[int, PolicyUse] = {}

    def note(self, version: int, policy: SetVotingPolicy, open_time: int) -> None:
        """Note a round: the version of its configuration, with the voting policy of that version."""
        use = self._by_version.get(version)
        if use is None:
            digest = policy_digest(policy)
            use = self._by_digest.get(digest)
            if use is None:
                differences = policy_differences(SetVotingPolicy(), policy)
                use = self._by_digest[digest] = PolicyUse(digest, differences, open_time, open_time)
            self._by_version[version] = use
        use.since, use.until = min(use.since, open_time), max(use.until, open_time)

    def found(self) -> list[PolicyUse]:
        """Return the policies, that of the earliest bar first."""
        return sorted(self._by_digest.values(), key=lambda use: use.since)
