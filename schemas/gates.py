"""The ``gates`` stream: what the gate-evaluator concluded about each candidate, and what is due."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import DigestHex, EventHex, Milliseconds, Name, Real, Text

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Judgement = Literal["passed", "failed", "inconclusive"]


class GateVerdict(Struct, frozen=True):
    """What one gate says. ``value`` is held against ``threshold``, None where it is not finite or not
    known; ``samples`` is what it rests on, ``effect`` the size of what was measured, in its own unit, and
    ``low`` and ``high`` the interval of that. ``kind``: a critical
    gate vetoes, a needed one must pass, a soft one may fail once."""

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
        """Whether it vetoes by itself."""
        return self.kind == "critical"


class VerdictReached(Struct, frozen=True, tag="verdict.reached"):
    """What a policy says of a candidate, after ``scores`` scored predictions between the bars ``since``
    and ``until``. Written when it changes, and every so many scores. A promotion names the id of this
    event.

    ``policy_digest`` is of the policy's name and parameters. ``champion``: whom it was compared with,
    None where its model has none. ``recommended_weight``: what the policy would let it weigh now,
    ``advice`` what to do next.
    ``first_score`` and ``last_score`` are event ids on ``scores``: all evidence lies between them."""

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
    """The evidence about an artifact begins anew: what it was about has changed. ``scores`` were let go."""

    model: Name
    artifact: DigestHex
    changed: tuple[Literal["candidate", "champion", "feature_set", "label", "policy"], ...]
    policy: Name
    policy_digest: DigestHex
    scores: Count
    control_version: Count


class GuardTripped(Struct, frozen=True, tag="guard.tripped"):
    """A champion does harm, or may. ``ghost`` is the champion it replaced, still in shadow, with which
    it is compared bar by bar. ``stage``: ``step_down`` (the first line was crossed), ``rollback``."""

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
    """A command that the evidence asks for. ``acts``: whether the gate policy lets the gate-evaluator
    issue it; where it does not, a person must. ``evidence`` is the event on this stream that asks, and
    the name that the command has or would have is ``gate-<evidence>``."""

    model: Name
    artifact: DigestHex
    action: Literal["rollback", "step_down", "step_up", "confirm_promotion", "halt"]
    acts: bool
    evidence: EventHex
    reason: Annotated[Text, Meta(min_length=1)]
    control_version: Count


class WeightsProposed(Struct, frozen=True, tag="weights.proposed"):
    """Weights by results, after ``blocks`` blocks of scored rounds; they sum to one. ``acts``: whether the
    gate policy lets the gate-evaluator set them."""

    weights: dict[Name, Share]
    blocks: Count
    until: Milliseconds
    acts: bool
    last_score: EventHex
    control_version: Count


class InputsDrifted(Struct, frozen=True, tag="inputs.drifted"):
    """The inputs of an artifact that votes or is in shadow no longer look like those of its training part, or
    do again (``drifted`` false). ``share`` of its features alarm, held against ``threshold``; ``detail`` names
    the worst. Decided by the vectors on ``features`` alone, in their order; ``vector`` is the last of them. A
    cause to retrain."""

    model: Name
    artifact: DigestHex
    drifted: bool
    share: Share
    threshold: Share
    samples: Count
    detail: Text
    vector: EventHex


class SkillDecayed(Struct, frozen=True, tag="skill.decayed"):
    """A voting artifact earns less over the class prior than half of what it earned at first: ``value`` (an
    e-CUSUM) crossed ``threshold`` after ``samples`` blocks under watch. Written again when as much evidence
    came together once more. A cause to retrain, as ``InputsDrifted`` is; it asks for no rollback."""

    model: Name
    artifact: DigestHex
    value: Real | None
    threshold: Real
    samples: Count
    detail: Text
    last_score: EventHex
    control_version: Count


class Worth(Struct, frozen=True):
    """What a member is worth to the ensemble a round, in nats: its Shapley value, and what the pool would
    lose without it."""

    shapley: Real
    leave_one_out: Real


class ContributionsMeasured(Struct, frozen=True, tag="contributions.measured"):
    """What each voting member is worth to the vote as it is weighted, over ``rounds`` in which all of them
    spoke, since the configuration last changed."""

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
