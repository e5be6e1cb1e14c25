"""The ``gates`` stream: the gate-evaluator's verdicts, measurements and alarms, and the commands that are due."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import DigestHex, EventHex, Milliseconds, Name, Real, Text

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Judgement = Literal["passed", "failed", "inconclusive"]


class GateVerdict(Struct, frozen=True):
    """The verdict of one gate. ``value`` is compared with ``threshold``; each is None if it is not finite or not
    known. ``samples`` is the number of samples. ``effect`` is the measured effect size in its own unit, ``low`` and
    ``high`` its interval. ``kind``: a critical gate has a veto, a needed gate must pass, and some soft gates may fail:
    as many as the policy allows."""

    name: str
    verdict: Judgement
    kind: Literal["critical", "needed", "soft"]
    value: Real | None
    threshold: Real | None
    samples: Count
    low: Real | None
    high: Real | None
    effect: Real | None = None
    detail: Text = ""

    @property
    def critical(self) -> bool:
        """Whether the failure of this gate alone is a veto."""
        return self.kind == "critical"


class VerdictReached(Struct, frozen=True, tag="verdict.reached"):
    """The verdict of a gate policy on a candidate, after ``scores`` scored predictions from bar ``since`` to bar
    ``until``. It is written when it changes, and at regular numbers of scores. A promotion refers to it by event id.

    ``policy_digest`` is over the policy's name and parameters. ``champion`` is the artifact that the candidate was
    compared with, None if its model has none. ``recommended_weight`` is the weight that the policy would allow now;
    ``advice`` is the recommended next step. ``first_score`` and ``last_score`` are event ids on ``scores``; all
    evidence is between them."""

    model: Name
    artifact: DigestHex
    champion: DigestHex | None
    policy: Name
    policy_digest: DigestHex
    overall: Judgement
    gates: tuple[GateVerdict, ...]
    scores: Count
    since: Milliseconds
    until: Milliseconds
    first_score: EventHex
    last_score: EventHex
    control_version: Count
    recommended_weight: Share | None = None
    advice: Text = ""


class EvidenceRestarted(Struct, frozen=True, tag="evidence.restarted"):
    """The evidence about an artifact was discarded, since its subject ``changed``. ``scores`` is the number of scored
    predictions that no longer count."""

    model: Name
    artifact: DigestHex
    changed: tuple[Literal["candidate", "champion", "feature_set", "label", "policy"], ...]
    policy: Name
    policy_digest: DigestHex
    scores: Count
    control_version: Count


class GuardTripped(Struct, frozen=True, tag="guard.tripped"):
    """A guard found that a champion does harm, or may. ``ghost`` is the former champion, still in shadow, with which
    it is compared bar by bar. ``stage``: ``step_down`` if the first threshold was crossed, ``rollback`` if the second
    was."""

    model: Name
    artifact: DigestHex
    ghost: DigestHex | None
    guard: Name
    stage: Literal["step_down", "rollback"]
    value: Real | None
    threshold: Real
    samples: Count
    detail: Text
    last_score: EventHex
    control_version: Count


class ActionDue(Struct, frozen=True, tag="action.due"):
    """A command is due on the evidence. ``acts``: whether the gate policy lets the gate-evaluator issue it; otherwise
    a person must. ``evidence`` is the id of the event on this stream that is the reason. The command id is
    ``gate-<evidence>``, whether or not it is issued."""

    model: Name
    artifact: DigestHex
    action: Literal["rollback", "step_down", "step_up", "confirm_promotion", "halt"]
    acts: bool
    evidence: EventHex
    reason: Annotated[Text, Meta(min_length=1)]
    control_version: Count


class WeightsProposed(Struct, frozen=True, tag="weights.proposed"):
    """Weights learned from results, after ``blocks`` blocks of scored rounds; they sum to one. ``acts``: whether the
    gate policy lets the gate-evaluator set them."""

    weights: dict[Name, Share]
    blocks: Count
    until: Milliseconds
    acts: bool
    last_score: EventHex
    control_version: Count


class InputsDrifted(Struct, frozen=True, tag="inputs.drifted"):
    """The inputs of an active artifact have drifted from its training part, or no longer do (``drifted`` false).
    ``share`` is the share of its features that alarm, compared with ``threshold``; ``detail`` names the worst. It
    depends on nothing but the vectors on ``features``, in their order; ``vector`` is the id of the last. It may cause a
    training request."""

    model: Name
    artifact: DigestHex
    drifted: bool
    share: Share
    threshold: Share
    samples: Count
    detail: Text
    vector: EventHex


class SkillDecayed(Struct, frozen=True, tag="skill.decayed"):
    """The gain of a voting artifact over the class prior is less than half of its first gain: ``value`` (an e-CUSUM)
    crossed ``threshold`` after ``samples`` monitored blocks. It is written again each time as much evidence has
    accumulated. It may cause a training request, as ``InputsDrifted`` may, and never a rollback."""

    model: Name
    artifact: DigestHex
    value: Real | None
    threshold: Real
    samples: Count
    detail: Text
    last_score: EventHex
    control_version: Count


class Worth(Struct, frozen=True):
    """The contribution of a member to the ensemble, in nats a round: its Shapley value, and the loss of the pool
    without it."""

    shapley: Real
    leave_one_out: Real


class ContributionsMeasured(Struct, frozen=True, tag="contributions.measured"):
    """The contribution of each voting member at the current weights, over the ``rounds`` since the configuration last
    changed in which all of them voted."""

    members: dict[Name, Worth]
    rounds: Count
    last_score: EventHex
    control_version: Count


GateEvent = (
    VerdictReached
    | EvidenceRestarted
    | GuardTripped
    | ActionDue
    | WeightsProposed
    | InputsDrifted
    | SkillDecayed
    | ContributionsMeasured
)
