"""The state of the gate-evaluator: its memory, the configuration, and the policies of the versions."""

from typing import Final, NamedTuple

from msgspec import Struct, ValidationError, field, msgpack

from schemas.gates import GateVerdict
from services.gate_evaluator import candidates
from services.gate_evaluator.candidates import Candidate
from services.gate_evaluator.contribution import ContributionState
from services.gate_evaluator.decay import Decay
from services.gate_evaluator.guard_state import ChampionGuard
from services.gate_evaluator.input_drift import InputDrift
from services.gate_evaluator.roles import Roles
from services.gate_evaluator.weight_learning import WeightLearning
from shared.control import EMPTY
from shared.control import State as Control
from shared.control.state import Past
from shared.gates.policies import Policy, chosen
from shared.gates.verdicts import Judgement

POLICIES_KEPT: Final = 64
"""Versions whose policy is kept in memory."""


class Memory(Struct, array_like=True):
    """The content of the memo. ``latest``: the newest bar in any score; ``live_latest``: the newest live one.
    ``candidates`` and ``input_drifts`` by artifact, ``guards`` and ``decays`` by model. ``version``: the newest stamp
    on ``scores``; ``features_version``: the newest on ``features``. ``dropped``: for each artifact that left its shadow
    run and is not retired, how many scores of evidence were dropped."""

    latest: int = -1
    candidates: dict[str, Candidate] = field(default_factory=dict)
    guards: dict[str, ChampionGuard] = field(default_factory=dict)
    weight_learning: WeightLearning | None = None
    contribution: ContributionState | None = None
    input_drifts: dict[str, InputDrift] = field(default_factory=dict)
    decays: dict[str, Decay] = field(default_factory=dict)
    version: int = 0
    features_version: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    live_latest: int = -1

    @classmethod
    def read(cls, memo: bytes) -> "Memory":
        """Return the content of a memo; an empty memory at the first start.

        Two kinds of memo of older releases are read as well. In one no stamps are recorded: the newest stamp is then
        that of any evidence, and the evidence about inputs begins with the first stamped vector. The other has the
        state of a second rule for weights, which is left out."""
        if not memo:
            return cls()
        try:
            memory = msgpack.decode(memo, type=cls)
        except ValidationError:
            memory = msgpack.decode(_with_one_rule(memo), type=cls)
        if not memory.version:
            stamps = [candidate.version for candidate in memory.candidates.values()]
            stamps += [guard.version for guard in memory.guards.values()]
            stamps += [decay.version for decay in memory.decays.values()]
            stamps += [each.version for each in (memory.weight_learning, memory.contribution) if each is not None]
            memory.version = max(stamps, default=0)
        return memory


def _with_one_rule(memo: bytes) -> bytes:
    """Return the memo of a release with two rules for weights, without the state of the second rule."""
    fields = msgpack.decode(memo)
    if fields[3] is not None:
        fold = fields[3][3]
        _, rate, memory, _, _, *limits = fold[0]
        fold[0] = [rate, memory, *limits]
        del fold[9]
    return msgpack.encode(fields)


class CandidateProgress(NamedTuple):
    """The model of a candidate, the champion it is compared with, its number of scores and the last bar scored."""

    model: str
    champion: str | None
    scores: int
    until: int


class State:
    """The memory, the configuration, and the policies of its versions; one policy for all versions if ``policy`` is
    given. ``roles``: those under the newest stamp on ``scores``; ``features_roles``: those under the newest on
    ``features``. ``drifts_by_set``: the input drifts of active artifacts by feature set."""

    def __init__(self, memory: Memory, policy: Policy | None = None) -> None:
        self.memory = memory
        self.control: Control = EMPTY
        self._policy = policy
        self._policies: dict[int, Policy] = {}
        self.roles = Roles()
        self.features_roles = Roles()
        self.drifts_by_set: dict[bytes, list[InputDrift]] = {}

    @property
    def in_force(self) -> Past:
        """The configuration of the newest stamp on ``scores``."""
        return self.past(self.memory.version)

    def past(self, version: int) -> Past:
        """Return the configuration of a version. Raises ``LookupError`` for one that has not been read yet."""
        if not 1 <= version <= self.control.version:
            raise LookupError(f"control version {version} has not been read yet, only {self.control.version}")
        return self.control.past[version]

    def policy(self, version: int) -> Policy:
        """Return the gate policy of a version."""
        if self._policy is not None:
            return self._policy
        if version not in self._policies:
            while len(self._policies) >= POLICIES_KEPT:
                del self._policies[next(iter(self._policies))]
            self._policies[version] = chosen(self.past(version).gate)
        return self._policies[version]

    def progress(self, artifact: str) -> CandidateProgress | None:
        """Return the progress of an artifact in shadow; None if it has no score that counts."""
        candidate = self.memory.candidates.get(artifact)
        if candidate is None:
            return None
        return CandidateProgress(candidate.key.model, candidate.key.champion or None, candidate.scores, candidate.until)

    def judge(self, artifact: str) -> Judgement:
        """Return the present judgement of a candidate. Raises ``KeyError`` if it has no score that counts."""
        candidate = self.memory.candidates[artifact]
        rivals = self.rivals(candidate.key.model)
        return candidates.judge(candidate, self.policy(candidate.version), self.memory.live_latest, rivals)

    def gates(self, artifact: str) -> tuple[GateVerdict, ...]:
        """Return the present gates of a candidate, as a verdict would record them; none without a score that counts."""
        return candidates.recorded(self.judge(artifact)) if artifact in self.memory.candidates else ()

    def index_input_drifts(self) -> None:
        """Group the input drifts of the artifacts that are active under the newest stamp on ``features`` by feature
        set."""
        self.drifts_by_set = {}
        for artifact in self.features_roles.active:
            drift = self.memory.input_drifts.get(artifact)
            if drift is not None:
                feature_set = bytes.fromhex(self.control.artifacts[artifact].feature_set)
                self.drifts_by_set.setdefault(feature_set, []).append(drift)

    def rivals(self, model: str) -> dict[str, float]:
        """Return the claim of each candidate for one model."""
        claims = {
            artifact: candidates.claim(candidate)
            for artifact, candidate in self.memory.candidates.items()
            if candidate.key.model == model
        }
        return {artifact: claim for artifact, claim in claims.items() if claim is not None}
