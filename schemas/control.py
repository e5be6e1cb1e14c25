"""The ``control`` stream: every command that ever changed the configuration, in order, chained.

The configuration is the fold of this stream (``shared.control``) and stands nowhere else.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import DigestHex, IntervalMs, Milliseconds, Name, Probabilities, Text

Weight = Annotated[float, Meta(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]


class Found(Struct, frozen=True, tag="found"):
    """The first command of an installation: how many partitions it has (for ever), and a random
    id that tells this log from any other."""

    partitions: Annotated[int, Meta(ge=1, le=1024)]
    log_id: Annotated[str, Meta(min_length=8, max_length=64)]


class RegisterArtifact(Struct, frozen=True, tag="register_artifact"):
    """Makes an artifact known under a model's name, with all that a vote needs to know of it.

    ``centre`` is the mean log probability of each class over the calibration part, ``prior`` the
    class frequencies of the training part."""

    model: Name
    artifact: DigestHex
    family: Name
    feature_set: DigestHex
    feature_set_name: Name
    interval_ms: IntervalMs
    classes: tuple[str, str, str]
    centre: Triple
    prior: Probabilities


class StartShadow(Struct, frozen=True, tag="start_shadow"):
    """Runs a registered artifact beside the champion; it is recorded and never votes."""

    model: Name
    artifact: DigestHex


class StopShadow(Struct, frozen=True, tag="stop_shadow"):
    """Ends an artifact's shadow run; it stays registered."""

    model: Name
    artifact: DigestHex


class Promote(Struct, frozen=True, tag="promote"):
    """Makes an artifact its model's champion. Without a passing gate verdict it needs ``forced``.
    ``weight`` is for a model that has no weight yet."""

    model: Name
    artifact: DigestHex
    forced: bool = False
    weight: Weight | None = None


class SetWeights(Struct, frozen=True, tag="set_weights"):
    """The weight of every voting model: exactly the models with a champion; they sum to one."""

    weights: dict[Name, Weight]


class SetVotingPolicy(Struct, frozen=True, tag="set_voting_policy"):
    """How ballots become a decision. Formulas: ``shared.voting``.

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
)


class CommandRecorded(Struct, frozen=True, tag="command.recorded"):
    """One entry of the log. ``version`` counts from 1 and is the entry's id (``<version>-0``);
    ``previous`` is the head before it, 64 zeros for the first. The head after it is the SHA-256 of
    this event's canonical bytes (``shared.control.head_of``)."""

    version: Annotated[int, Meta(ge=1)]
    previous: DigestHex
    command_id: Annotated[str, Meta(min_length=1, max_length=64)]
    at: Milliseconds
    actor: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[Text, Meta(min_length=1)]
    command: Command
    expects: int | None = None


ControlEvent = CommandRecorded
