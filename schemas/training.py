"""The ``training`` stream: who asked for a model to be trained, how that went, and what became of it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import DigestHex, EventHex, IntervalMs, Milliseconds, Name, Probabilities, Real, Symbol, Text

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Imbalance = Literal["none", "logit_adjustment", "weights"]
"""What is done about classes of unequal share (``shared.training.imbalance``)."""
Cause = Literal["operator", "schedule", "drift", "decay"]
Stage = Literal["reading", "fitting", "measuring", "checking"]


class Recipe(Struct, frozen=True):
    """What is to be trained: with the data, all that the bits of an artifact depend on. ``params`` are complete;
    ``horizon`` in bars, ``hold`` the share of HOLD in the training part."""

    family: Name
    feature_set: Name
    params: dict[str, int | float]
    horizon: Annotated[int, Meta(ge=1)]
    hold: Annotated[float, Meta(gt=0.0, lt=1.0)]
    seed: Annotated[int, Meta(ge=0)]
    imbalance: Imbalance = "none"


class TrainingRequested(Struct, frozen=True, tag="training.requested"):
    """Somebody, or something, wants an artifact for ``model``. The id of this event names the job.

    ``evidence`` is the event on ``gates`` that is the cause, for ``drift`` and ``decay``. The data are the last
    ``window_ms`` up to and with the bar ``until`` (open time; None: the newest when the job starts), of ``symbols``
    (none named: all). ``forced``: cooldown and budget were set aside."""

    model: Name
    recipe: Recipe
    cause: Cause
    evidence: EventHex | None
    actor: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[Text, Meta(min_length=1)]
    at: Milliseconds
    window_ms: Annotated[int, Meta(ge=1, lt=2**53)]
    until: Milliseconds | None = None
    symbols: tuple[Symbol, ...] = ()
    forced: bool = False


class Ends(Struct, frozen=True):
    """How far a partition is read: the ids of the last entries of ``market`` and ``features`` that count."""

    partition: Count
    market: str
    features: str


class TrainingStarted(Struct, frozen=True, tag="training.started"):
    """The job runs, for the ``attempt``-th time. Together with the request this fixes its data: bars with
    ``first`` <= open time <= ``last``, no entry behind ``ends``."""

    request: EventHex
    model: Name
    attempt: Annotated[int, Meta(ge=1)]
    first: Milliseconds
    last: Milliseconds
    ends: tuple[Ends, ...]
    worker: Text
    at: Milliseconds


class SymbolData(Struct, frozen=True):
    """One symbol of a data set: bars, vectors, labelled windows; runs of missing bars, and bars missing in them."""

    bars: Count
    vectors: Count
    rows: Count
    gaps: Count
    missing: Count


class DataReport(Struct, frozen=True):
    """What a data set is like. ``classes``: shares of SELL, HOLD, BUY in the training part, whose ``kappa`` cuts
    them; ``parts``: rows of each part. ``constant`` and ``duplicated`` name features of the training part that never
    change, and pairs that are equal there. ``drifted``: features whose distribution is another than in the
    training part of ``against`` (the champion), of which ``drift`` is the share. ``unfit``: why nothing is trained on
    it; empty where it is fit. Digests: ``shared.training.series``."""

    interval_ms: IntervalMs
    first: Milliseconds
    last: Milliseconds
    rows: Count
    symbols: dict[Symbol, SymbolData]
    parts: dict[str, Count]
    classes: Probabilities
    kappa: Real
    constant: tuple[str, ...]
    duplicated: tuple[tuple[str, str], ...]
    drifted: tuple[str, ...]
    drift: Share | None
    against: DigestHex | None
    bars_digest: DigestHex
    vectors_digest: DigestHex
    unfit: tuple[Text, ...] = ()


class DataAssessed(Struct, frozen=True, tag="data.assessed"):
    """What a job is about to be trained on."""

    request: EventHex
    model: Name
    report: DataReport
    at: Milliseconds


class TrainingProgressed(Struct, frozen=True, tag="training.progressed"):
    """Step ``number`` of at most ``of``. While fitting: mean log losses (nats) of the training and the held-out
    rows, ``skill`` the share of the class prior's loss that is gone on the held-out rows, ``spread`` the deviation
    of the log probabilities over them, ``distinct`` how many different answers to 1e-3, ``top`` the share of the class
    most often held most likely. None where a number is not finite."""

    request: EventHex
    model: Name
    stage: Stage
    number: Count
    of: Count
    at: Milliseconds
    train_loss: Real | None = None
    held_loss: Real | None = None
    skill: Real | None = None
    spread: Real | None = None
    entropy: Real | None = None
    distinct: Count | None = None
    top: Share | None = None


class Gain(Struct, frozen=True):
    """What an artifact gains in log loss over ``over`` on the test part: thousandths of a nat a row, with a 95 %
    block-bootstrap interval. ``note`` says what limits the comparison."""

    over: Text
    value: Real
    low: Real
    high: Real
    note: Text = ""


class SanityCheck(Struct, frozen=True):
    """One of the fixed checks on the answers to the test part."""

    name: Name
    passed: bool
    value: Real
    limit: Real


class TrainingCompleted(Struct, frozen=True, tag="training.completed"):
    """An artifact came of it: stored, checked, registered by ``version`` of the control stream, and in shadow
    where ``shadow``. It votes nowhere: that takes a promotion. ``peak_mb``: resident memory of the training process."""

    request: EventHex
    model: Name
    artifact: DigestHex
    rows: dict[str, Count]
    log_loss: Real
    prior_log_loss: Real
    gains: tuple[Gain, ...]
    sanity: tuple[SanityCheck, ...]
    seconds: Real
    peak_mb: Real
    version: Count
    shadow: bool
    at: Milliseconds


Rejection = Literal[
    "unfit_data",
    "constant",
    "no_information",
    "memorising",
    "diverged",
    "collapsed",
    "no_skill",
    "insane",
    "failed_checks",
]


class TrainingRejected(Struct, frozen=True, tag="training.rejected"):
    """Nothing may come of it: ``reason`` by name, ``evidence`` in words. What there is of a model lies in
    ``quarantine`` in the state folder of the trainer, for people to look at; it is in no store, so it cannot be
    registered."""

    request: EventHex
    model: Name
    reason: Rejection
    evidence: Text
    quarantine: Text
    seconds: Real
    at: Milliseconds


class TrainingFailed(Struct, frozen=True, tag="training.failed"):
    """The job ended without a result, by no fault of the data: it crashed, was out of memory or disk, its input could
    not be read, or it was given up after it had been interrupted too often."""

    request: EventHex
    model: Name
    reason: Literal["crashed", "out_of_memory", "out_of_disk", "unreadable", "interrupted", "unregistered"]
    detail: Text
    at: Milliseconds


TrainingEvent = (
    TrainingRequested
    | TrainingStarted
    | DataAssessed
    | TrainingProgressed
    | TrainingCompleted
    | TrainingRejected
    | TrainingFailed
)
