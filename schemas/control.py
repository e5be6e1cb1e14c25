"""The ``control`` stream: every command that changed the configuration, in order, hash-chained.

The configuration is the fold of this stream (``shared.control``). It is stored nowhere else.

An entry's canonical bytes are its JSON as it was written. The hash chain and the signatures are computed over
them, so an entry must encode to the same bytes for ever. A field that a later release adds is therefore omitted
when it has its default (``omit_defaults``, which compares by identity: None, a bool, an empty tuple or dict).
Fields that were optional in the first release are always written; their default is a factory.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from schemas.common import DigestHex, EventHex, IntervalMs, Milliseconds, Name, Probabilities, Real, Text

Weight = Annotated[float, Meta(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]
RealTriple = tuple[Real, Real, Real]
Tag = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z_*]+$")]
KeyHex = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]+$")]
SignatureHex = Annotated[str, Meta(min_length=128, max_length=128, pattern=r"^[0-9a-f]+$")]


def _nothing() -> Any:
    """None, as a factory."""
    return None


_SHOWN_AS_NONE: Final = Meta(extra_json_schema={"default": None})
_SHOWN_AS_FALSE: Final = Meta(extra_json_schema={"default": False})


class Found(Struct, frozen=True, tag="found"):
    """Create an installation, as its first command. The number of partitions is fixed for ever; ``log_id`` is random
    and distinguishes this log from any other. ``voting``: the voting policy with which the installation begins. Earlier
    releases left it out: then it is ``SetVotingPolicy`` with its defaults."""

    partitions: Annotated[int, Meta(ge=1, le=1024)]
    log_id: Annotated[str, Meta(min_length=8, max_length=64)]
    voting: "SetVotingPolicy | UnsetType" = UNSET


Row = tuple[Real, ...]


class Backtest(Struct, frozen=True, omit_defaults=True):
    """The reference values with which gates compare an artifact's live evidence. Training fixes them before the first
    live score.

    ``scale``: three standard deviations of the artifact's gain over the class prior in purged blocks of the test part
    (nats). ``response``: the largest change of a probability when one input of the last vector moves by one standard
    deviation. ``edges`` [F][<= 9]: for each input, the inner edges of bins of equal mass in the training part.
    An input without edges is not compared: it follows from the time alone. ``counts`` [F][edges + 1]: the number of
    training rows in each bin. ``effect``: the number of rows that count as one independent row. ``span_ms``: the time
    from the first training row to the last; earlier releases left it out."""

    scale: Annotated[float, Meta(gt=0.0, le=100.0)]
    response: Annotated[float, Meta(ge=0.0, le=1.0)]
    edges: tuple[Row, ...]
    counts: tuple[Row, ...]
    effect: Annotated[float, Meta(ge=1.0, le=1e12)]
    span_ms: Annotated[int, Meta(ge=1)] | None = None


class RegisterArtifact(Struct, frozen=True, omit_defaults=True, tag="register_artifact"):
    """Register an artifact under a model's name, with everything that a vote needs.

    ``centre`` is the mean log probability of each class over the calibration part, ``prior`` the class frequencies of
    the training part. ``features`` are the names in the feature set, in order; ``libraries`` are the versions with
    which it was trained. A promotion lists by name what differs from the champion in both. ``horizon`` (bars) and
    ``kappa`` define the classes (label ``vfh1``, ``shared.labels.batch``); without them predictions cannot be scored.
    ``backtest`` is None for an artifact that was not trained by Conclave. ``spread`` (nats) is the mean
    Kullback-Leibler divergence of its predictions from their mean, over the calibration part: 0 for a constant.
    ``reach``: the mean absolute return of the moving rows there, over the horizon (a fraction). Earlier releases left
    both out."""

    model: Name
    artifact: DigestHex
    family: Name
    feature_set: DigestHex
    feature_set_name: Name
    interval_ms: IntervalMs
    classes: tuple[str, str, str]
    centre: Triple
    prior: Probabilities
    features: tuple[str, ...] = ()
    libraries: dict[str, str] = {}
    horizon: Annotated[int, Meta(ge=1)] | None = None
    kappa: Annotated[float, Meta(ge=0.0, le=1e6)] | None = None
    backtest: Backtest | None = None
    spread: Annotated[float, Meta(ge=0.0, le=100.0)] | UnsetType = UNSET
    reach: Annotated[float, Meta(gt=0.0, le=1e6)] | UnsetType = UNSET


class StartShadow(Struct, frozen=True, tag="start_shadow"):
    """Run a registered artifact in shadow: its predictions are recorded and it never votes."""

    model: Name
    artifact: DigestHex


class StopShadow(Struct, frozen=True, tag="stop_shadow"):
    """End an artifact's shadow run. The artifact stays registered."""

    model: Name
    artifact: DigestHex


class Promote(Struct, frozen=True, omit_defaults=True, tag="promote"):
    """Make an artifact the champion of its model. The former champion continues in shadow.

    ``verdict`` is the event id of a gate verdict that passed. ``ready`` are the ids of the ``ArtifactReady`` events
    that were read, one for each partition. If either is missing, ``forced`` is needed. ``weight`` is for a model that
    has no weight yet. ``accept_changes`` acknowledges that the artifact differs from the champion in feature set,
    interval, family or libraries. ``probation``: the promotion is reverted unless it is confirmed within this many
    decisions that count a ballot of the artifact."""

    model: Name
    artifact: DigestHex
    forced: Annotated[bool, _SHOWN_AS_FALSE] = field(default_factory=bool)
    weight: Annotated[Weight | None, _SHOWN_AS_NONE] = field(default_factory=_nothing)
    ready: tuple[EventHex, ...] = ()
    verdict: EventHex | None = None
    probation: Annotated[int, Meta(ge=1)] | None = None
    accept_changes: bool = False


class Rollback(Struct, frozen=True, tag="rollback"):
    """Restore the champions, weights and policies of an earlier version, as a new version. The halt, keys and shadows
    do not change, and retired artifacts stay retired.

    ``to``: the version to restore. None: the configuration before its last change, so that a second rollback goes
    further back. ``model``: restore only the champion of this model; of ``ensemble``, the voting policy, once one was
    in shadow."""

    to: Annotated[int, Meta(ge=1)] | None = None
    model: Name | None = None


class ConfirmPromotion(Struct, frozen=True, tag="confirm_promotion"):
    """End a probation; the champion stays. The model ``ensemble`` has voting policies as its artifacts."""

    model: Name
    artifact: DigestHex


class RevertProbation(Struct, frozen=True, tag="revert_probation"):
    """End a probation that was not confirmed in time; the former champion votes again, or the former voting policy is
    in force again.
    ``decisions`` is the number of decisions during the probation that counted a ballot of the artifact, ``last`` the id
    of the last of them."""

    model: Name
    artifact: DigestHex
    decisions: Annotated[int, Meta(ge=0)]
    last: EventHex | None = None


class SetWeights(Struct, frozen=True, tag="set_weights"):
    """Set the weight of every voting model. The keys are exactly the models with a champion; the weights sum to one."""

    weights: dict[Name, Weight]


class StackedMember(Struct, frozen=True):
    """The part of one artifact in a stacker. ``rows[k][j]`` is what one nat of its centred evidence for class j adds
    to the logit of class k."""

    model: Name
    artifact: DigestHex
    rows: tuple[RealTriple, RealTriple, RealTriple]


class Stacker(Struct, frozen=True):
    """A multinomial logistic regression on top of a pool, fitted on recorded ballots and outcomes. Formula:
    ``shared.voting.stacker``. ``base``: the rule of the pool below it, which alone decides a round in which one of
    ``members`` has no ballot, or another artifact. ``members``: sorted by model."""

    base: Literal["logpool", "mean", "logmean"]
    members: Annotated[tuple[StackedMember, ...], Meta(min_length=1, max_length=64)]


class SetVotingPolicy(Struct, frozen=True, tag="set_voting_policy"):
    """Set how ballots become a decision. Formulas: ``shared.voting.pool``.

    ``rule``: ``logpool`` (default), ``mean``, ``logmean``, ``consensus`` (votes by weight, agreement multipliers), or
    ``stacker``, which alone has ``stacker``.
    ``quorum_weight`` and ``quorum_count``: the smallest share of weight and the smallest number of members for a
    quorum. ``deadline_ms``: how long a round waits after the close of a live bar. ``valid_ms``: how long after the
    close of the bar an intent is valid. ``edge``: the smallest |P(BUY) - P(SELL)| for an action other than HOLD.
    ``temperature``: the divisor of the pooled logits. ``cost``: what it costs to enter and leave a position, as a
    fraction of the price. If it is set, it takes the place of ``edge``: an action is one whose expected return is at
    least the cost."""

    rule: Literal["logpool", "consensus", "mean", "logmean", "stacker"] = "logpool"
    quorum_weight: Weight = 0.5
    quorum_count: Annotated[int, Meta(ge=1)] = 2
    deadline_ms: Milliseconds = 5_000
    valid_ms: Milliseconds = 60_000
    edge: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.10
    temperature: Annotated[float, Meta(gt=0.0, le=10.0)] = 1.0
    cost: Annotated[float, Meta(ge=0.0, le=1.0)] | UnsetType = UNSET
    stacker: Stacker | UnsetType = UNSET


class StartPolicyShadow(Struct, frozen=True, omit_defaults=True, tag="start_policy_shadow"):
    """Run a voting policy in shadow: each round is decided by it too, and no intent follows. It is named by its digest
    (``shared.control.policies``).

    ``scale`` and ``money_scale``: three standard deviations, over purged blocks of evidence from before this command,
    of its gain in log score (nats) and in return after costs (a fraction) over the policy in force. None: the defaults
    of the gates."""

    policy: SetVotingPolicy
    scale: Annotated[float, Meta(gt=0.0, le=100.0)] | None = None
    money_scale: Annotated[float, Meta(gt=0.0, le=100.0)] | None = None


class StopPolicyShadow(Struct, frozen=True, tag="stop_policy_shadow"):
    """End the shadow run of a voting policy. It stays known by its digest."""

    policy: DigestHex


class PromotePolicy(Struct, frozen=True, omit_defaults=True, tag="promote_policy"):
    """Put a voting policy that runs in shadow in force. The former one continues in shadow; a rollback restores it.

    ``verdict`` is the event id of a gate verdict that passed. Without one ``forced`` is needed. ``probation``: the
    promotion is reverted unless it is confirmed within this many decisions."""

    policy: DigestHex
    verdict: EventHex | None = None
    forced: bool = False
    probation: Annotated[int, Meta(ge=1)] | None = None


class SetGatePolicy(Struct, frozen=True, tag="set_gate_policy"):
    """Set the gate policy by which candidates are judged: its name and its parameters."""

    name: Name
    parameters: dict[str, bool | int | float | str] = {}


class SetLadder(Struct, frozen=True, tag="set_ladder"):
    """Set the ladder of weights for ``StepWeight``, ascending. ``automatic``: whether the gate-evaluator may issue
    ``StepWeight`` too, or only people."""

    steps: tuple[Weight, ...] = (0.05, 0.10, 0.15, 0.20, 0.25)
    automatic: bool = False


class StepWeight(Struct, frozen=True, tag="step_weight"):
    """Move a voting model to the next weight of the ladder, up or down. The other weights keep their proportions.
    ``automatic``: issued by the gate-evaluator, not by a person."""

    model: Name
    up: bool = True
    automatic: bool = False


class SetTrainingPolicy(Struct, frozen=True, tag="set_training_policy"):
    """Set when models are trained again, on which data, and what happens to the result. The policy has no effect on
    votes, so a rollback does not change it.

    ``schedule_hours``: the time from one training request for a voting model to the next (0: no schedule).
    ``on_drift``, ``on_decay``: whether ``InputsDrifted`` and ``SkillDecayed`` cause requests. ``cooldown_hours``: the
    shortest time from a request for a model to the next automatic one. ``budget``: the most jobs in seven days, for
    all models together. ``window_days``: the span of the training data. ``rows``: the fewest labelled rows.
    ``shadow``: whether an accepted candidate is put in shadow. ``sanity``: whether an artifact that fails the fixed
    sanity checks is refused, or the checks are only reported. ``revised_bars``: whether labels are computed from the
    later content of bars that their exchange changed after their close; if not, from the first, on which decisions
    were made. ``stacker_hours``: the time from one request for a stacker to the next (0: no schedule)."""

    schedule_hours: Annotated[int, Meta(ge=0, le=87_600)] = 168
    window_days: Annotated[int, Meta(ge=1, le=3_650)] = 30
    cooldown_hours: Annotated[int, Meta(ge=0, le=8_760)] = 24
    budget: Annotated[int, Meta(ge=0, le=10_000)] = 14
    rows: Annotated[int, Meta(ge=100)] = 1000
    on_drift: bool = True
    on_decay: bool = True
    shadow: bool = True
    sanity: Literal["report", "refuse"] = "report"
    revised_bars: bool | UnsetType = UNSET
    stacker_hours: Annotated[int, Meta(ge=0, le=87_600)] | UnsetType = UNSET


class SetExecutionPolicy(Struct, frozen=True, omit_defaults=True, tag="set_execution_policy"):
    """Set how the executor acts on intents, and what trading costs. The policy has no effect on votes, so a rollback
    does not change it. An intent is executed under the policy of the version with which it is stamped.

    ``venue``: where orders go; ``paper`` computes fills from the next bar, ``none`` refuses all intents. Any other is
    an exchange (``shared.money.venue.EXCHANGES``), which only a signed command may name. ``sandbox``: whether orders go
    to the exchange's sandbox, without money. ``price_limit``: the largest distance of an order's price at an exchange
    from the close of its bar, as a fraction of it; None: 0.002. ``equity``:
    the money of the account at its beginning (quote currency). ``notional``: how much an intent buys or sells.
    ``symbol_cap``: the largest exposure of one symbol and interval; ``total_cap``: of all together, shared equally
    among the partitions. ``fee``, ``half_spread`` and ``slippage``: costs of each fill, as fractions of the price.
    ``latency_ms``: how long after the open of a bar its orders are filled; the price then lies on the straight line
    from open to close. ``volume_share``: the largest share of a bar's volume that an order may take, the rest of it
    ends (0: no limit). ``cooldown_bars``: the fewest bars from one order of a symbol to the next. ``flat_on_halt``:
    whether a halt closes all positions."""

    venue: Name = "paper"
    equity: Annotated[float, Meta(gt=0.0, le=1e12)] = 100_000.0
    notional: Annotated[float, Meta(gt=0.0, le=1e12)] = 10_000.0
    symbol_cap: Annotated[float, Meta(gt=0.0, le=1e12)] = 10_000.0
    total_cap: Annotated[float, Meta(gt=0.0, le=1e12)] = 100_000.0
    fee: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.0005
    half_spread: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.0001
    slippage: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.0002
    latency_ms: Milliseconds = 0
    volume_share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    cooldown_bars: Annotated[int, Meta(ge=0, le=100_000)] = 0
    flat_on_halt: bool = False
    sandbox: bool = True
    price_limit: Annotated[float, Meta(gt=0.0, le=0.1)] | None = None


class TrustKey(Struct, frozen=True, tag="trust_key"):
    """Trust an Ed25519 public key. ``holder`` is its owner; ``may`` are the tags of the commands that it may sign,
    or ``*`` for all. Once one key is trusted, every command must be signed."""

    key_id: Name
    public_key: KeyHex
    holder: Annotated[str, Meta(min_length=1, max_length=64)]
    may: tuple[Tag, ...] = ("*",)


class RevokeKey(Struct, frozen=True, tag="revoke_key"):
    """Revoke a key, for good. Commands that it signed before remain valid."""

    key_id: Name


class Halt(Struct, frozen=True, tag="halt"):
    """Stop intents from this command on. Decisions are still recorded."""


class Resume(Struct, frozen=True, tag="resume"):
    """End a halt."""


class Retire(Struct, frozen=True, omit_defaults=True, tag="retire"):
    """Take an artifact out of service for good, out of shadow too. It must not be a champion. ``verdict``: the event id
    of the gate verdict that is the reason; earlier releases left it out."""

    model: Name
    artifact: DigestHex
    verdict: EventHex | None = None


class SetApprovalRule(Struct, frozen=True, tag="set_approval_rule"):
    """Set which commands need a second person, and who may approve them. While a rule is in force, a new one needs a
    second person too. The rule has no effect on votes, so a rollback does not change it.

    ``commands``: the tags of those commands, of ``promote``, ``set_weights`` (with it, steps up the ladder need one
    too), ``set_ladder`` and ``promote_policy`` (with it, ``set_voting_policy`` needs one too). Empty: no command needs
    a second person. ``approvers``: the holders of the keys that approve; actors, while no key is trusted."""

    commands: tuple[Tag, ...] = ()
    approvers: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()


Proposable = Promote | SetWeights | SetApprovalRule | PromotePolicy | SetVotingPolicy | SetLadder


class Propose(Struct, frozen=True, tag="propose"):
    """Propose a command that needs a second person. The version of this entry is the number of the proposal.

    ``valid_ms``: how long it can be approved."""

    command: Proposable
    valid_ms: Annotated[int, Meta(ge=1, le=2_592_000_000)] = 86_400_000


class Approve(Struct, frozen=True, tag="approve"):
    """Carry out what another person proposed. It takes effect with this entry.

    ``command``: as it was proposed, so that the entry says by itself what was approved; a promotion with the evidence
    (``ready``, ``verdict``) of this moment."""

    proposal: Annotated[int, Meta(ge=1)]
    command: Proposable


class Refuse(Struct, frozen=True, tag="refuse"):
    """End a proposal without its effect: an approver refuses it, or its author withdraws it."""

    proposal: Annotated[int, Meta(ge=1)]


Command = (
    Found
    | RegisterArtifact
    | StartShadow
    | StopShadow
    | Promote
    | SetWeights
    | SetVotingPolicy
    | Halt
    | Resume
    | Retire
    | Rollback
    | ConfirmPromotion
    | RevertProbation
    | SetGatePolicy
    | SetLadder
    | StepWeight
    | SetTrainingPolicy
    | SetExecutionPolicy
    | TrustKey
    | RevokeKey
    | SetApprovalRule
    | Propose
    | Approve
    | Refuse
    | StartPolicyShadow
    | StopPolicyShadow
    | PromotePolicy
)


class CommandRecorded(Struct, frozen=True, omit_defaults=True, tag="command.recorded"):
    """One entry of the control stream.

    ``version`` counts from 1. It is the entry's id (``<version>-0``) as long as only control writers have written to
    the stream. ``previous`` is the head before the entry, 64 zeros for the first. The head after it is the SHA-256 of
    this event's canonical bytes (``shared.control.head_of``). ``signature``: an Ed25519 signature by the trusted key
    ``key`` over the canonical bytes without the signature."""

    version: Annotated[int, Meta(ge=1)]
    previous: DigestHex
    command_id: Annotated[str, Meta(min_length=1, max_length=64)]
    at: Milliseconds
    actor: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[Text, Meta(min_length=1)]
    command: Command
    expects: Annotated[int | None, _SHOWN_AS_NONE] = field(default_factory=_nothing)
    key: Name | None = None
    signature: SignatureHex | None = None


ControlEvent = CommandRecorded
