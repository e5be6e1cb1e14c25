"""Find which artifacts vote and which are in shadow under a configuration, and since which version without a break. A
voting policy in shadow is such an artifact, by its digest."""

from collections.abc import Mapping

from schemas.common import ENSEMBLE
from schemas.control import SetVotingPolicy
from shared.control import State as Control
from shared.control.policies import policy_digest
from shared.control.state import Model, Past


class Roles:
    """The roles under ``version``. ``shadows`` and ``active`` (in shadow or voting) have the first version of an
    artifact's present run; ``champions`` has a model's champion and the first version of its run, and under
    ``ENSEMBLE`` the voting policy in force. ``former_policy``: the digest of the one that it replaced; '' if none.

    A role that was lost and regained between two versions counts from the version at which it was regained. Roles
    follow from the control log alone, so no memo holds them."""

    def __init__(self) -> None:
        self.version = 0
        self.shadows: dict[str, int] = {}
        self.active: dict[str, int] = {}
        self.champions: dict[str, tuple[str, int]] = {}
        self._models: Mapping[str, Model] = {}
        self._policies: tuple[str, ...] = ()
        self._policy: SetVotingPolicy | None = None
        self.former_policy = ""

    def advance(self, control: Control, version: int) -> None:
        """Follow the configuration up to ``version``, one version after another.

        Raises ``LookupError`` if control has not been read so far."""
        if version > control.version:
            raise LookupError(f"control version {version} has not been read yet, only {control.version}")
        for at in range(self.version + 1, version + 1):
            past = control.past[at]
            if past.models is not self._models or past.policy_shadows != self._policies or past.policy != self._policy:
                if past.policy != self._policy:
                    former = past.policy_before
                    self.former_policy = policy_digest(control.past[former].policy) if former else ""
                self._follow(past, at)
        self.version = max(self.version, version)

    def in_shadow(self, artifact: str, since: int) -> bool:
        """Return whether an artifact was in shadow at every version from ``since`` to the present one."""
        return self.shadows.get(artifact, since + 1) <= since

    def is_active(self, artifact: str, since: int) -> bool:
        """Return whether an artifact was in shadow or voting at every version from ``since`` to the present one."""
        return self.active.get(artifact, since + 1) <= since

    def is_champion(self, model: str, artifact: str, since: int) -> bool:
        """Return whether an artifact was its model's champion at every version from ``since`` to the present one."""
        champion, first = self.champions.get(model, ("", 0))
        return champion == artifact and first <= since

    def _follow(self, past: Past, version: int) -> None:
        self._models, self._policies, self._policy = past.models, past.policy_shadows, past.policy
        champions = {name: slot.champion for name, slot in past.models.items() if slot.champion is not None}
        shadows = [artifact for slot in past.models.values() for artifact in slot.shadows]
        self.shadows = {artifact: self.shadows.get(artifact, version) for artifact in (*shadows, *past.policy_shadows)}
        active = sorted({*shadows, *champions.values()})
        self.active = {artifact: self.active.get(artifact, version) for artifact in active}
        champions.setdefault(ENSEMBLE, policy_digest(past.policy))
        self.champions = {
            name: (artifact, version if not self.is_champion(name, artifact, version) else self.champions[name][1])
            for name, artifact in sorted(champions.items())
        }
