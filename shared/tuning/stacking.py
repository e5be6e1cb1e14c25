"""Fit a stacker on recorded rounds: penalised multinomial logistic regression on top of a pool.

With the probabilities P of the pool, the outcome y, and for each member m its centred evidence x_m (``log p - c``) on
two axes, *moves* and *direction*,

    a_m = x_m(HOLD) - (x_m(SELL) + x_m(BUY)) / 2        b_m = x_m(BUY) - x_m(SELL)

the numbers v and w of each member minimise

    mean over rounds of -log softmax(log P + sum_m (v_m a_m M + w_m b_m D))_y + penalty / 2 (||v||^2 + ||w||^2)

with M = (-1/3, 2/3, -1/3) and D = (-1/2, 0, 1/2). So the penalty shrinks it towards the pool. Nine free numbers a
member are not better on real bars (``BENCH=skill``).

Each penalty is fitted on the earlier rounds of the fit and tried on the later ones. Those under which a symbol loses
there are left out. Of the others the one whose gain over the pool is largest after two standard errors are subtracted
is used. If that leaves nothing, there is no stacker.

SciPy minimises it (L-BFGS): scikit-learn's logistic regression has no offset, in whose place P stands. The problem is
convex.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from msgspec import UNSET, structs
from numpy.typing import NDArray

from schemas.control import SetVotingPolicy, StackedMember, Stacker
from shared.families.libraries import library
from shared.tuning.rounds import DecidedRound
from shared.voting.arithmetic import FLOOR, evidence_of
from shared.voting.pool import Member, pool_of, vote

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

PENALTIES: Final = (3.0, 1.0, 0.3, 0.1)
"""Lighter ones gain more in some folds of real bars, and lose as much in others (``BENCH=skill``)."""
INNER: Final = 0.7
"""The part of the rounds on which each penalty is fitted. The others choose among them."""
ERRORS: Final = 2.0
"""The standard errors by which a gain must exceed zero."""
FEWEST: Final = 500
"""The fewest rounds of a fit."""
CHUNKS: Final = 20
"""Consecutive parts of the later rounds, from whose means the standard error is computed: labels overlap."""
OF_EVIDENCE: Final = np.array([[-0.5, 1.0, -0.5], [-1.0, 0.0, 1.0]])
"""The axes *moves* and *direction* of evidence, by class."""
TO_LOGITS: Final = np.array([[-1 / 3, 2 / 3, -1 / 3], [-0.5, 0.0, 0.5]])
"""What a unit on each axis adds to the logits."""


class TriedPenalty(NamedTuple):
    """The gain of a penalty over the pool on the later rounds (nats a round), its standard error, and the gain of the
    symbol that gains least."""

    penalty: float
    gain: float
    error: float
    least: float

    @property
    def certain(self) -> float:
        """Return what is left of the gain after two standard errors."""
        return self.gain - ERRORS * self.error


class NoStackerError(ValueError):
    """There is no stacker to propose; the message says why. ``tried``: the penalties, empty if there are too few
    rounds."""

    def __init__(self, message: str, tried: Sequence[TriedPenalty] = ()) -> None:
        super().__init__(message)
        self.tried = tuple(tried)


class ChosenFit(NamedTuple):
    """The numbers [P] under the penalty that is used, and all that were tried."""

    numbers: Values
    penalty: float
    tried: tuple[TriedPenalty, ...]


class FittedPolicy(NamedTuple):
    """A policy with a new stacker, the number of rounds of its fit, its penalty, and all that were tried."""

    policy: SetVotingPolicy
    rounds: int
    penalty: float
    tried: tuple[TriedPenalty, ...]


class Fitting(NamedTuple):
    """The rounds of a fit: ``offset`` [N, 3], the log probabilities of the pool; ``terms`` [P, N, 3], what a unit of
    each number adds to the logits; ``outcomes`` [N]; ``symbol`` [N], the number of each round's symbol."""

    offset: Values
    terms: Values
    outcomes: Ints
    symbol: Ints

    def of(self, rows: slice | Ints) -> Self:
        """Return some of the rounds."""
        terms = np.ascontiguousarray(self.terms[:, rows])
        return self._replace(
            offset=self.offset[rows], terms=terms, outcomes=self.outcomes[rows], symbol=self.symbol[rows]
        )


def fitted_policy(rounds: Sequence[DecidedRound], policy: SetVotingPolicy) -> FittedPolicy:
    """Return ``policy`` with a stacker on top of its pool, fitted on the rounds of its members, which must be in the
    order of their bars. Raises ``NoStackerError``.

    The members, and the artifacts that the stacker names, are those of the last round. Rounds in which the same models
    voted with other artifacts belong to the fit: each ballot is centred as its own artifact is."""
    members = rounds[-1].panel.members if rounds else ()
    models = [member.model for member in members]
    whole = [each for each in rounds if _has_all(each, models)]
    if len(whole) < FEWEST:
        raise NoStackerError(f"{len(whole):,} rounds have a ballot of every member as it votes now, expected {FEWEST}")
    base = pool_of(policy)
    below = structs.replace(policy, rule=base, stacker=UNSET)
    pooled = np.array([vote(each.panel._replace(policy=below), each.ballots).probabilities for each in whole])
    evidence = np.array([[evidence_of(each.ballots[m.model], m.centre) for m in each.panel.members] for each in whole])
    outcomes = np.array([each.outcome for each in whole])
    symbol = np.unique([each.symbol for each in whole], return_inverse=True)[1]
    chosen = chosen_fit(Fitting(np.log(np.maximum(pooled, FLOOR)), terms_of(evidence), outcomes, symbol))
    stacked = tuple(
        StackedMember(member.model, member.artifact, _rows(own))
        for member, own in zip(members, chosen.numbers.reshape(-1, len(OF_EVIDENCE)), strict=True)
    )
    fitted = structs.replace(below, rule="stacker", stacker=Stacker(base, stacked))
    return FittedPolicy(fitted, len(whole), chosen.penalty, chosen.tried)


def carried_to(policy: SetVotingPolicy, members: Sequence[Member]) -> SetVotingPolicy:
    """Return a policy with a stacker, which names the artifacts of these members in place of its own. A model that is
    not among them keeps its artifact."""
    assert policy.stacker
    artifacts = {member.model: member.artifact for member in members}
    named = [structs.replace(one, artifact=artifacts.get(one.model, one.artifact)) for one in policy.stacker.members]
    return structs.replace(policy, stacker=structs.replace(policy.stacker, members=tuple(named)))


def terms_of(evidence: Values) -> Values:
    """Return what a unit of each number of a stacker adds to the logits, [2 M, N, 3], from centred evidence
    [N, M, 3]."""
    along = np.einsum("nmk,ak->man", evidence, OF_EVIDENCE)
    terms = np.einsum("man,ak->mank", along, TO_LOGITS)
    return np.asarray(terms.reshape(-1, len(evidence), 3), dtype=np.float64)


def chosen_fit(rounds: Fitting) -> ChosenFit:
    """Return the fit on all rounds under the penalty whose gain is certain and largest. Raises ``NoStackerError``."""
    tried = tried_penalties(rounds)
    best = max(tried, key=lambda each: (each.least >= 0.0, each.certain))
    if best.certain <= 0.0 or best.least < 0.0:
        raise NoStackerError(
            f"its gain over the pool on rounds after those of its fit is {1000 * best.gain:+.2f} mnat, with a standard "
            f"error of {1000 * best.error:.2f}, and {1000 * best.least:+.2f} for the symbol that gains least; expected "
            f"more than {ERRORS:g} standard errors, and no loss",
            tried,
        )
    return ChosenFit(fit(rounds, best.penalty), best.penalty, tuple(tried))


def tried_penalties(rounds: Fitting, penalties: Sequence[float] = PENALTIES) -> list[TriedPenalty]:
    """Return what each penalty gains on the later rounds, fitted on the earlier ones."""
    cut = int(INNER * len(rounds.outcomes))
    earlier, later = rounds.of(slice(cut)), rounds.of(slice(cut, None))
    pooled = log_losses(np.zeros(len(rounds.terms)), later)
    tried = []
    for penalty in penalties:
        gains = pooled - log_losses(fit(earlier, penalty), later)
        means = np.array([chunk.mean() for chunk in np.array_split(gains, CHUNKS)])
        least = min(float(gains[later.symbol == each].mean()) for each in np.unique(later.symbol))
        tried.append(TriedPenalty(penalty, float(gains.mean()), float(means.std(ddof=1)) / CHUNKS**0.5, least))
    return tried


def fit(rounds: Fitting, penalty: float) -> Values:
    """Return the numbers [P] under one penalty."""
    observed = np.eye(3)[rounds.outcomes]
    flat = rounds.terms.reshape(len(rounds.terms), -1)

    def loss_and_gradient(numbers: Values) -> tuple[float, Values]:
        logs = _log_probabilities(numbers, rounds)
        loss = -float((observed * logs).sum(axis=1).mean()) + penalty / 2 * float(numbers @ numbers)
        return loss, flat @ (np.exp(logs) - observed).ravel() / len(observed) + penalty * numbers

    start = np.zeros(len(rounds.terms))
    found = library("scipy.optimize").minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B")
    return np.asarray(found.x, dtype=np.float64)


def log_losses(numbers: Values, rounds: Fitting) -> Values:
    """Return the log loss (nats) of the stacker with these numbers [P] in each round."""
    return -_log_probabilities(numbers, rounds)[np.arange(len(rounds.outcomes)), rounds.outcomes]


def stacked_probabilities(numbers: Values, rounds: Fitting) -> Values:
    """Return the probabilities [N, 3] of the stacker with these numbers [P]."""
    return np.asarray(np.exp(_log_probabilities(numbers, rounds)))


def _log_probabilities(numbers: Values, rounds: Fitting) -> Values:
    offset, terms = rounds.offset, rounds.terms
    logits = offset + (numbers @ terms.reshape(len(terms), -1)).reshape(offset.shape)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _has_all(each: DecidedRound, models: Sequence[str]) -> bool:
    voting: Sequence[Member] = each.panel.members
    return [member.model for member in voting] == models and all(model in each.ballots for model in models)


def _rows(numbers: Values) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]:
    """Return W of ``shared.voting.stacker`` for the two numbers of a member."""
    matrix = np.einsum("a,ak,aj->kj", numbers, TO_LOGITS, OF_EVIDENCE)
    sell, hold, buy = ((float(a), float(b), float(c)) for a, b, c in matrix)
    return sell, hold, buy
