"""The ``training`` stream: requests for artifacts and for stackers, the progress of each job, and its result."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import DigestHex, EventHex, IntervalMs, Milliseconds, Name, Probabilities, Real, Symbol, Text
from schemas.control import SetVotingPolicy

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Imbalance = Literal["none", "logit_adjustment", "weights"]
"""How unequal class frequencies are corrected (``shared.training.imbalance``)."""
Cause = Literal["operator", "schedule", "drift", "decay"]
Stage = Literal["reading", "fitting", "measuring", "checking"]


class Recipe(Struct, frozen=True):
    """What to train. Together with the data it determines the bits of the artifact. ``params`` are complete, with no
    defaults left out; ``horizon`` is in bars; ``hold`` is the share of HOLD in the training part."""

    family: Name
    feature_set: Name
    params: dict[str, int | float]
    horizon: Annotated[int, Meta(ge=1)]
    hold: Annotated[float, Meta(gt=0.0, lt=1.0)]
    seed: Annotated[int, Meta(ge=0)]
    imbalance: Imbalance = "none"


class TrainingRequested(Struct, frozen=True, tag="training.requested"):
    """A request to train an artifact for ``model``. The id of this event is the id of the job.

    ``evidence`` is the id of the event on ``gates`` that is the cause, for ``drift`` and ``decay``. The data are the
    last ``window_ms`` up to and including the bar ``until`` (open time; None: the newest when the job starts), of
    ``symbols`` (empty: all). ``forced``: the budget does not apply. ``revised_bars``: labels are computed from
    the later content of bars that their exchange changed (``BarRevised``); vectors stay those that were served."""

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
    revised_bars: bool = False


class Ends(Struct, frozen=True):
    """How far a partition is read: the ids of the last entries of ``market``, ``features`` and ``venue`` to be used.
    Jobs of earlier releases did not read ``venue``."""

    partition: Count
    market: str
    features: str
    venue: str = "0-0"


class TrainingStarted(Struct, frozen=True, tag="training.started"):
    """The job has started, for the ``attempt``-th time. Together with the request this fixes its data: bars with
    ``first`` <= open time <= ``last``, and no entry later than ``ends``."""

    request: EventHex
    model: Name
    attempt: Annotated[int, Meta(ge=1)]
    first: Milliseconds
    last: Milliseconds
    ends: tuple[Ends, ...]
    worker: Text
    at: Milliseconds


class SymbolData(Struct, frozen=True):
    """Counts for one symbol of a data set. ``rows`` are labelled windows, ``gaps`` runs of missing bars, ``missing``
    the bars in those runs."""

    bars: Count
    vectors: Count
    rows: Count
    gaps: Count
    missing: Count


class DataReport(Struct, frozen=True):
    """The description of a data set.

    ``classes``: the shares of SELL, HOLD and BUY in the training part, separated by ``kappa``. ``parts``: the rows of
    each part. ``constant``: features that never change in the training part; ``duplicated``: pairs that are equal in
    it. ``drifted``: features whose distribution differs from the training part of the champion ``against``; ``drift``:
    their share. ``revised``: the bars that their exchange changed after their close; the request says which content
    labels were computed from. ``unfit``: the reasons why the data cannot be used, empty if they can. Digests:
    ``shared.training.series``."""

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
    revised: Count = 0


class DataAssessed(Struct, frozen=True, tag="data.assessed"):
    """The data of a job were read and described, before training."""

    request: EventHex
    model: Name
    report: DataReport
    at: Milliseconds


class TrainingProgressed(Struct, frozen=True, tag="training.progressed"):
    """Step ``number`` of at most ``of``.

    While fitting: ``train_loss`` and ``held_loss`` are mean log losses (nats) of the training and the held-out rows.
    The other numbers are of the held-out rows. ``skill``: the relative reduction of the class prior's loss;
    ``spread``: the standard deviation of the log probabilities; ``entropy``: their mean entropy (nats); ``distinct``:
    the number of different predictions, rounded to 1e-3; ``top``: the share of the class that is most often the most
    likely. A number that is not finite is None."""

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
    """The gain of an artifact in log loss over ``over`` on the test part: thousandths of a nat a row, with a 95 %
    block-bootstrap interval. ``note`` is a limitation of the comparison. ``moves`` and ``direction`` are the parts of
    ``value`` that are about whether the price moves, and about where (``shared.labels.parts``); earlier releases left
    them out."""

    over: Text
    value: Real
    low: Real
    high: Real
    note: Text = ""
    moves: Real | UnsetType = UNSET
    direction: Real | UnsetType = UNSET


class SanityCheck(Struct, frozen=True):
    """One of the fixed checks on the predictions for the test part."""

    name: Name
    passed: bool
    value: Real
    limit: Real


class TrainingCompleted(Struct, frozen=True, tag="training.completed"):
    """The job has made an artifact. It is stored, checked, registered by ``version`` of the control stream, and in
    shadow if ``shadow``. It does not vote until it is promoted. ``peak_mb``: the peak resident memory of the training
    process."""

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
    """The data or the model was rejected, for ``reason``; ``evidence`` says it with figures. What was made of the model
    is in the folder ``quarantine``, below the trainer's state folder, for inspection. It is in no artifact store, so
    it cannot be registered."""

    request: EventHex
    model: Name
    reason: Rejection
    evidence: Text
    quarantine: Text
    seconds: Real
    at: Milliseconds


class TrainingFailed(Struct, frozen=True, tag="training.failed"):
    """The job ended without a result, and not because of the data: it crashed, ran out of memory or disk, could not
    read its input, could not register the artifact, or was interrupted too often. ``model`` is ``ensemble`` for the fit
    of a stacker."""

    request: EventHex
    model: Name
    reason: Literal["crashed", "out_of_memory", "out_of_disk", "unreadable", "interrupted", "unregistered"]
    detail: Text
    at: Milliseconds


StackedPool = Literal["logpool", "mean", "logmean"]
"""The pool below a stacker."""


class StackerRequested(Struct, frozen=True, tag="stacker.requested"):
    """A request to fit a stacker on recorded rounds. The id of this event is the id of the job.

    ``base``: the pool below it; None: that of the policy in force. The rounds are those that were decided after
    ``since`` and until ``until`` (None: all). It is fitted on the first ``share`` of them, and compared with the policy
    in force on the others. ``forced``: the budget does not apply."""

    cause: Literal["operator", "schedule"]
    actor: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[Text, Meta(min_length=1)]
    at: Milliseconds
    base: StackedPool | None = None
    since: Milliseconds | None = None
    until: Milliseconds | None = None
    share: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.6
    forced: bool = False


class RoundEnds(Struct, frozen=True):
    """How far a partition is read: the ids of the last entries of ``decisions`` and ``scores`` to be used."""

    partition: Count
    decisions: str
    scores: str


class StackerStarted(Struct, frozen=True, tag="stacker.started"):
    """The fit has started, for the ``attempt``-th time. Together with the request this fixes its rounds: no entry later
    than ``ends``, and none of the control stream later than ``control``."""

    request: EventHex
    attempt: Annotated[int, Meta(ge=1)]
    control: str
    ends: tuple[RoundEnds, ...]
    worker: Text
    at: Milliseconds


class PenaltyTried(Struct, frozen=True):
    """What a penalty gains over the pool on the later rounds of the fit, fitted on its earlier ones: thousandths of a
    nat a round, with two standard errors on both sides. ``least``: the gain of the symbol that gains least."""

    penalty: Real
    value: Real
    low: Real
    high: Real
    least: Real


class PolicyGain(Struct, frozen=True):
    """What a policy gains over the one in force on ``rounds`` rounds: ``value`` in log score (thousandths of a nat a
    round), ``money`` in return after costs (basis points a round), each with a 95 % interval over blocks."""

    rounds: Count
    value: Real
    low: Real
    high: Real
    money: Real
    money_low: Real
    money_high: Real


class StackerFitted(Struct, frozen=True, tag="stacker.fitted"):
    """The job has fitted a stacker. ``policy`` is the voting policy that has its numbers and names the artifacts that
    vote; ``digest`` is its name in shadow. It is in shadow by ``version`` of the control stream if ``shadow``, else
    ``note`` says why it is not. It does not decide until it is promoted.

    ``rounds``: the rounds of the fit. ``penalty`` is the one of ``tried`` that was used. ``later``: its gain on rounds
    after those of the fit. ``scale`` and ``money_scale``: for ``StartPolicyShadow``."""

    request: EventHex
    policy: SetVotingPolicy
    digest: DigestHex
    rounds: Count
    penalty: Real
    tried: tuple[PenaltyTried, ...]
    later: PolicyGain
    scale: Real
    money_scale: Real
    seconds: Real
    version: Count
    shadow: bool
    at: Milliseconds
    note: Text = ""


FitRejection = Literal["too_few_rounds", "no_certain_gain", "worse_later"]


class StackerRejected(Struct, frozen=True, tag="stacker.rejected"):
    """The job has found no stacker to propose: there are too few rounds, no penalty of ``tried`` gains with certainty
    and at no symbol's cost, or the one that does is worse than the policy in force on the rounds after those of the
    fit. ``evidence`` says it with figures."""

    request: EventHex
    reason: FitRejection
    evidence: Text
    tried: tuple[PenaltyTried, ...]
    seconds: Real
    at: Milliseconds


TrainingEvent = (
    TrainingRequested
    | TrainingStarted
    | DataAssessed
    | TrainingProgressed
    | TrainingCompleted
    | TrainingRejected
    | TrainingFailed
    | StackerRequested
    | StackerStarted
    | StackerFitted
    | StackerRejected
)
