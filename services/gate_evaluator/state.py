"""What the gate-evaluator knows: its memory, the configuration, and the policies of its versions."""

from typing import NamedTuple

from msgspec import Struct, ValidationError, field, msgpack

from services.gate_evaluator import candidates
from services.gate_evaluator.candidates import Candidate
from services.gate_evaluator.contribution import Measure
from services.gate_evaluator.decay import Decay
from services.gate_evaluator.guard_state import Watch
from services.gate_evaluator.input_drift import Intake
from services.gate_evaluator.roles import Roles
from services.gate_evaluator.weight_learning import Learner
from shared.control import EMPTY
from shared.control import State as Control
from shared.control.state import Past
from shared.gates.policies import Policy, chosen
from shared.gates.verdicts import Judgement


class Memory(Struct, array_like=True):
    """All that is remembered, and the memo as it is. ``latest``: the newest bar in any score; ``candidates``
    and ``intakes`` by artifact, ``watches`` and ``decays`` by model. ``version``: the newest stamp on ``scores``;
    ``fed``: the newest on ``features``. ``released``: how many scores were let go of each artifact that is no
    shadow any more and was not retired."""

    latest: int = -1
    candidates: dict[str, Candidate] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)
    learner: Learner | None = None
    measure: Measure | None = None
    intakes: dict[str, Intake] = field(default_factory=dict)
    decays: dict[str, Decay] = field(default_factory=dict)
    version: int = 0
    fed: int = 0
    released: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, memo: bytes) -> "Memory":
        """Return the memory that a memo holds; the empty one at the very first start.

        Of older releases, memos without stamps are read (the newest stamp is that of any evidence, and evidence about
        inputs begins with the first stamped vector), and those with a second rule for weights."""
        if not memo:
            return cls()
        try:
            memory = msgpack.decode(memo, type=cls)
        except ValidationError:
            memory = msgpack.decode(_with_one_rule(memo), type=cls)
        if not memory.version:
            stamps = [candidate.version for candidate in memory.candidates.values()]
            stamps += [watched.version for watched in memory.watches.values()]
            stamps += [decay.version for decay in memory.decays.values()]
            stamps += [one.version for one in (memory.learner, memory.measure) if one is not None]
            memory.version = max(stamps, default=0)
        return memory


def _with_one_rule(memo: bytes) -> bytes:
    """A memo of a release with two rules for weights, without what the second one needed."""
    fields = msgpack.decode(memo)
    if fields[3] is not None:
        fold = fields[3][3]
        _, rate, memory, _, _, *limits = fold[0]
        fold[0] = [rate, memory, *limits]
        del fold[9]
    return msgpack.encode(fields)


class Standing(NamedTuple):
    """Where a candidate stands: its model, whom it is compared with, after how many scores, until which bar."""

    model: str
    champion: str | None
    scores: int
    until: int


class State:
    """The memory, the configuration, and the policies of its versions, read once; all of them ``policy``
    where one is given. ``roles``: under the newest stamp on ``scores``; ``fed``: under the newest on ``features``."""

    def __init__(self, memory: Memory, policy: Policy | None = None) -> None:
        self.memory = memory
        self.control: Control = EMPTY
        self._policy = policy
        self._policies: dict[int, Policy] = {}
        self.roles = Roles()
        self.fed = Roles()
        self.by_set: dict[bytes, list[Intake]] = {}

    @property
    def in_force(self) -> Past:
        """The configuration at the newest stamp on ``scores``."""
        return self.past(self.memory.version)

    def past(self, version: int) -> Past:
        """What a version decided by. Raises ``LookupError`` for one that has not been read yet."""
        if not 1 <= version <= self.control.version:
            raise LookupError(f"control version {version} has not been read yet, only {self.control.version}")
        return self.control.past[version]

    def policy(self, version: int) -> Policy:
        """The gate policy of a version."""
        if self._policy is not None:
            return self._policy
        if version not in self._policies:
            while len(self._policies) >= 64:
                del self._policies[next(iter(self._policies))]
            self._policies[version] = chosen(self.past(version).gate)
        return self._policies[version]

    def standing(self, artifact: str) -> Standing | None:
        """Where an artifact in shadow stands; None: it has no score that counts."""
        held = self.memory.candidates.get(artifact)
        if held is None:
            return None
        return Standing(held.key.model, held.key.champion or None, held.scores, held.until)

    def judged(self, artifact: str) -> Judgement:
        """What the policy says of it now. Raises ``KeyError`` where it stands nowhere."""
        held = self.memory.candidates[artifact]
        rivals = self.rivals(held.key.model)
        return candidates.judge(held, self.policy(held.version), self.memory.latest, rivals)

    def sort_intakes(self) -> None:
        """Sort the intakes of all artifacts that are active under the newest stamp on ``features`` by feature set."""
        self.by_set = {}
        for artifact in self.fed.active:
            held = self.memory.intakes.get(artifact)
            if held is not None:
                feature_set = bytes.fromhex(self.control.artifacts[artifact].feature_set)
                self.by_set.setdefault(feature_set, []).append(held)

    def rivals(self, model: str) -> dict[str, float]:
        """What each candidate for one place claims."""
        claims = {
            artifact: candidates.claim(held)
            for artifact, held in self.memory.candidates.items()
            if held.key.model == model
        }
        return {artifact: claim for artifact, claim in claims.items() if claim is not None}
