"""The ``control`` stream: every command that ever changed the configuration, in order, chained.

The configuration is the fold of this stream (``shared.control``) and stands nowhere else.

An entry's canonical bytes are its JSON as it is written; chain and signatures are over them, so what
was written once must encode to the same bytes for ever. A field that is added later is therefore left
out at its default (``omit_defaults``, which goes by identity: None, a bool, an empty tuple or dict).
The fields that were optional in the first release are always written: their default is a factory.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from schemas.common import DigestHex, EventHex, IntervalMs, Milliseconds, Name, Probabilities, Real, Text

Weight = Annotated[float, Meta(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]
Tag = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z_*]+$")]
KeyHex = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]+$")]
SignatureHex = Annotated[str, Meta(min_length=128, max_length=128, pattern=r"^[0-9a-f]+$")]


def _nothing() -> Any:
    """None, as a factory."""
    return None


_SHOWN_AS_NONE: Final = Meta(extra_json_schema={"default": None})
_SHOWN_AS_FALSE: Final = Meta(extra_json_schema={"default": False})


class Found(Struct, frozen=True, tag="found"):
    """The first command of an installation: how many partitions it has (for ever), and a random
    id that tells this log from any other."""

    partitions: Annotated[int, Meta(ge=1, le=1024)]
    log_id: Annotated[str, Meta(min_length=8, max_length=64)]


Row = tuple[Real, ...]


class Backtest(Struct, frozen=True):
    """What gates hold an artifact's live evidence against, fixed in training, before its first live score.

    ``scale``: three standard deviations of its gain over the class prior in purged blocks of the test part
    (nats). ``response``: the largest change of a probability when one input of the last vector moves by one
    deviation. ``edges`` [F][<= 9]: the inner edges of bins of equal mass of each input in the training part,
    ``counts`` [F][edges + 1]: the rows in them, ``effect`` rows for each that counts as independent."""

    scale: Annotated[float, Meta(gt=0.0, le=100.0)]
    response: Annotated[float, Meta(ge=0.0, le=1.0)]
    edges: tuple[Row, ...]
    counts: tuple[Row, ...]
    effect: Annotated[float, Meta(ge=1.0, le=1e12)]


class RegisterArtifact(Struct, frozen=True, omit_defaults=True, tag="register_artifact"):
    """Makes an artifact known under a model's name, with all that a vote needs to know of it.

    ``centre`` is the mean log probability of each class over the calibration part, ``prior`` the
    class frequencies of the training part. ``features`` are the names in the feature set, in order,
    and ``libraries`` the versions it was trained with: a promotion shows by name what it changes.
    ``horizon`` (bars) and ``kappa`` say what its classes mean (label ``vfh1``, ``shared.labels.batch``);
    without them its predictions cannot be scored. ``backtest``: None for one that was not trained here."""

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


class StartShadow(Struct, frozen=True, tag="start_shadow"):
    """Runs a registered artifact beside the champion; it is recorded and never votes."""

    model: Name
    artifact: DigestHex


class StopShadow(Struct, frozen=True, tag="stop_shadow"):
    """Ends an artifact's shadow run; it stays registered."""

    model: Name
    artifact: DigestHex


class Promote(Struct, frozen=True, omit_defaults=True, tag="promote"):
    """Makes an artifact its model's champion; the former one stays on, in shadow.

    ``verdict`` is the event id of a passing gate verdict, ``ready`` the ids of the ``ArtifactReady``
    events that were seen, one a partition; where either is missing it needs ``forced``. ``weight`` is
    for a model that has no weight yet. ``accept_changes`` acknowledges that the artifact differs from
    the champion in feature set, interval, family or libraries. ``probation``: unless confirmed within
    so many scored decisions, it is reverted."""

    model: Name
    artifact: DigestHex
    forced: Annotated[bool, _SHOWN_AS_FALSE] = field(default_factory=bool)
    weight: Annotated[Weight | None, _SHOWN_AS_NONE] = field(default_factory=_nothing)
    ready: tuple[EventHex, ...] = ()
    verdict: EventHex | None = None
    probation: Annotated[int, Meta(ge=1)] | None = None
    accept_changes: bool = False


class Rollback(Struct, frozen=True, tag="rollback"):
    """Makes a new version that votes as an earlier one did: champions, weights and policies. It
    touches neither the halt nor keys nor shadows, and brings nothing retired back.

    ``to``: the version to be equal to; None: the configuration before the last change of it, so that
    a second rollback goes further back. ``model``: that model's champion alone."""

    to: Annotated[int, Meta(ge=1)] | None = None
    model: Name | None = None


class ConfirmPromotion(Struct, frozen=True, tag="confirm_promotion"):
    """Ends a probation: the champion stays."""

    model: Name
    artifact: DigestHex


class RevertProbation(Struct, frozen=True, tag="revert_probation"):
    """Ends a probation that was not confirmed in time: the former champion votes again.
    ``decisions`` is how many scored decisions were counted under it, ``last`` the id of the last."""

    model: Name
    artifact: DigestHex
    decisions: Annotated[int, Meta(ge=0)]
    last: EventHex | None = None


class SetWeights(Struct, frozen=True, tag="set_weights"):
    """The weight of every voting model: exactly the models with a champion; they sum to one."""

    weights: dict[Name, Weight]


class SetVotingPolicy(Struct, frozen=True, tag="set_voting_policy"):
    """How ballots become a decision. Formulas: ``shared.voting.pool``.

    ``rule``: ``logpool`` (default) or ``consensus`` (votes by weight, agreement multipliers).
    ``quorum_weight`` and ``quorum_count``: least share of weight and least number of members that
    must have voted. ``deadline_ms``: after the close of a live bar, how long a round waits.
    ``valid_ms``: after the close of the bar, how long an intent may be acted on.
    ``edge``: least P(BUY) - P(SELL), in either direction, for an action other than HOLD.
    ``temperature``: divides the pooled logits."""

    rule: Literal["logpool", "consensus"] = "logpool"
    quorum_weight: Weight = 0.5
    quorum_count: Annotated[int, Meta(ge=1)] = 2
    deadline_ms: Milliseconds = 5_000
    valid_ms: Milliseconds = 60_000
    edge: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.10
    temperature: Annotated[float, Meta(gt=0.0, le=10.0)] = 1.0


class SetGatePolicy(Struct, frozen=True, tag="set_gate_policy"):
    """By which gates a candidate is judged: the name of a policy, and its parameters."""

    name: Name
    parameters: dict[str, bool | int | float | str] = {}


class SetLadder(Struct, frozen=True, tag="set_ladder"):
    """The weights that ``StepWeight`` goes through, ascending. ``automatic``: whether the
    gate-evaluator may take steps too, or people only."""

    steps: tuple[Weight, ...] = (0.05, 0.10, 0.15, 0.20, 0.25)
    automatic: bool = False


class StepWeight(Struct, frozen=True, tag="step_weight"):
    """Moves a voting model to the next weight of the ladder, up or down; the others keep their
    proportions. ``automatic``: no person asked for it."""

    model: Name
    up: bool = True
    automatic: bool = False


class SetTrainingPolicy(Struct, frozen=True, tag="set_training_policy"):
    """When models are trained again, on what, and what may come of it. Nothing that votes: no rollback touches it.

    ``schedule_hours``: each voting model is trained again so long after it was last asked for (0: never).
    ``on_drift``, ``on_decay``: whether ``InputsDrifted`` and ``SkillDecayed`` are causes. ``cooldown_hours``: least
    time between two requests for one model. ``budget``: most jobs within seven days, of all models.
    ``window_days``: how far back the data go. ``rows``: fewest labelled rows. ``shadow``: whether an accepted
    candidate is put in shadow. ``sanity``: whether an artifact that fails the fixed sanity checks is refused, or
    they are only reported."""

    schedule_hours: Annotated[int, Meta(ge=0, le=87_600)] = 168
    window_days: Annotated[int, Meta(ge=1, le=3_650)] = 30
    cooldown_hours: Annotated[int, Meta(ge=0, le=8_760)] = 24
    budget: Annotated[int, Meta(ge=0, le=10_000)] = 14
    rows: Annotated[int, Meta(ge=100)] = 1000
    on_drift: bool = True
    on_decay: bool = True
    shadow: bool = True
    sanity: Literal["report", "refuse"] = "report"


class TrustKey(Struct, frozen=True, tag="trust_key"):
    """Makes an Ed25519 public key known, with who holds it and what it may sign: tags of commands,
    or ``*`` for all. From the first trusted key on, every command must be signed."""

    key_id: Name
    public_key: KeyHex
    holder: Annotated[str, Meta(min_length=1, max_length=64)]
    may: tuple[Tag, ...] = ("*",)


class RevokeKey(Struct, frozen=True, tag="revoke_key"):
    """Ends the trust in a key, for good. What it signed before stands."""

    key_id: Name


class Halt(Struct, frozen=True, tag="halt"):
    """No intents from here on; decisions go on being recorded."""


class Resume(Struct, frozen=True, tag="resume"):
    """Ends a halt."""


class Retire(Struct, frozen=True, tag="retire"):
    """Takes an artifact out of service for good: not a champion, not in shadow."""

    model: Name
    artifact: DigestHex


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
    | TrustKey
    | RevokeKey
)


class CommandRecorded(Struct, frozen=True, omit_defaults=True, tag="command.recorded"):
    """One entry of the log. ``version`` counts from 1 and is the entry's id (``<version>-0``) in a log
    that nobody wrote to past the door; ``previous`` is the head before it, 64 zeros for the first. The
    head after it is the SHA-256 of this event's canonical bytes (``shared.control.head_of``).

    ``signature``: Ed25519 by the trusted key ``key`` over the canonical bytes without it."""

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
