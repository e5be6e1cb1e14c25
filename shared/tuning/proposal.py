"""Try voting policies on recorded rounds: choose on the earlier ones, and show what the choice is worth on the later.

The pool's probabilities (rule, temperature, stacker) are chosen by log loss. The lead from which a decision is BUY or
SELL (edge, or cost where the policy has one) is chosen by the sum of returns after costs, under the chosen
probabilities. A label that ends in the later part is left out of the earlier one.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec import UNSET, Struct, structs
from numpy.typing import NDArray

from schemas.control import SetVotingPolicy
from shared.control.changes import policy_differences
from shared.tuning.rounds import DecidedRound
from shared.tuning.stacking import FittedPolicy, NoStackerError, carried_to, fitted_policy
from shared.voting.pool import Panel, edge_of, vote

TEMPERATURES: Final = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
RULES: Final = ("mean", "logmean", "logpool")
EDGES: Final = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
COSTS: Final = (0.25, 0.5, 0.75, 1.5, 2.0, 3.0)
"""Multiples of the cost in force."""
FLOOR: Final = 0.01
"""The smallest probability that enters a gain, as in the gates."""
SMALLEST_SCALE: Final = 0.006
SMALLEST_MONEY_SCALE: Final = 0.0002
Values = NDArray[np.float64]


class NothingToCompareError(ValueError):
    """There are too few rounds to choose and to show. The message has their number."""


class ComparedPart(Struct, frozen=True):
    """A policy compared with the one in force over some rounds.

    ``gain``: in log score (nats a round); ``low`` and ``high``: its 95 % interval over blocks. ``money``: the mean
    return of a round after costs (a fraction); ``money_gain`` is what it is more than that of the policy in force,
    ``money_low`` and ``money_high`` its interval. ``acts``: the share of rounds with BUY or SELL."""

    rounds: int
    gain: float
    low: float
    high: float
    money: float
    money_gain: float
    money_low: float
    money_high: float
    acts: float


class TriedPolicy(Struct, frozen=True):
    """One policy that was tried. ``by``: ``log score`` or ``money``, by which it competed."""

    name: str
    by: str
    policy: SetVotingPolicy
    earlier: ComparedPart
    later: ComparedPart


class PolicyProposal(Struct, frozen=True):
    """All that was tried, and the best. ``best`` is None if none was better than the policy in force on the earlier
    part. ``scale`` and ``money_scale``: for ``StartPolicyShadow``. ``cut``: the first bar of the later part (ms).
    ``no_stacker``: why there is none although one was asked for."""

    cut: int
    in_force: TriedPolicy
    tried: tuple[TriedPolicy, ...]
    best: TriedPolicy | None
    scale: float
    money_scale: float
    no_stacker: str = ""


class FittedStacker(NamedTuple):
    """A stacker fitted on the earlier part, as a policy for the artifacts that vote now, and its gain over the policy
    in force on the later part. ``scale`` and ``money_scale``: for ``StartPolicyShadow``."""

    fitted: FittedPolicy
    later: ComparedPart
    scale: float
    money_scale: float


class _Compared:
    """Rounds, and how the policy in force decides them."""

    def __init__(self, rounds: Sequence[DecidedRound], cut: int, in_force: SetVotingPolicy) -> None:
        self.rounds = rounds
        self.outcome = np.array([each.outcome for each in rounds])
        self.move = np.array([each.move for each in rounds])
        self.cost = np.array([each.cost for each in rounds])
        opened, ends = (np.array([getattr(each, name) for each in rounds]) for name in ("open_time", "ends"))
        first = rounds[0]
        horizon = max(each.ends - each.open_time for each in rounds)
        self.block = opened // max(8 * horizon, 28_800_000, 8 * first.interval_ms)
        self.earlier, self.later = ends < cut, opened >= cut
        self.probabilities = probabilities_of(rounds, in_force)
        self.returns = self.returns_of(self.probabilities, in_force)

    def returns_of(self, probabilities: Values, policy: SetVotingPolicy) -> Values:
        """Return what each round earned after costs under a policy."""
        side = self.sides_of(probabilities, policy)
        return np.where(side != 0, side * self.move - self.cost, 0.0)

    def sides_of(self, probabilities: Values, policy: SetVotingPolicy) -> Values:
        """Return 1 for BUY, -1 for SELL and 0 for HOLD, by round."""
        edges: dict[int, float] = {}
        for each in self.rounds:
            if id(each.panel) not in edges:
                edges[id(each.panel)] = edge_of(each.panel.members, policy)
        edge = np.array([edges[id(each.panel)] for each in self.rounds])
        lead = probabilities[:, 2] - probabilities[:, 0]
        return np.where(np.abs(lead) >= edge, np.sign(lead), 0.0)

    def gains(self, probabilities: Values) -> Values:
        """Return the gain in log score of each round."""
        mine, theirs = (
            np.log(np.maximum(p[np.arange(len(p)), self.outcome], FLOOR)) for p in (probabilities, self.probabilities)
        )
        return np.asarray(mine - theirs)

    def part(self, chosen: NDArray[np.bool_], probabilities: Values, policy: SetVotingPolicy) -> ComparedPart:
        """Return the comparison over some rounds."""
        gains, returns = self.gains(probabilities)[chosen], self.returns_of(probabilities, policy)[chosen]
        more = returns - self.returns[chosen]
        low, high = self._interval(gains, chosen)
        money_low, money_high = self._interval(more, chosen)
        return ComparedPart(
            rounds=int(chosen.sum()),
            gain=float(gains.mean()),
            low=low,
            high=high,
            money=float(returns.mean()),
            money_gain=float(more.mean()),
            money_low=money_low,
            money_high=money_high,
            acts=float((self.sides_of(probabilities, policy)[chosen] != 0).mean()),
        )

    def scales(self, probabilities: Values, policy: SetVotingPolicy) -> tuple[float, float]:
        """Return three standard deviations of block means of the gain in log score, and of that in money."""
        gains, more = self.gains(probabilities), self.returns_of(probabilities, policy) - self.returns
        return (
            max(3 * self._deviation(gains), SMALLEST_SCALE),
            max(3 * self._deviation(more), SMALLEST_MONEY_SCALE),
        )

    def _deviation(self, values: Values) -> float:
        """Return the standard deviation of block means."""
        means = [values[self.block == number].mean() for number in np.unique(self.block)]
        return float(np.std(means))

    def _interval(self, values: Values, chosen: NDArray[np.bool_]) -> tuple[float, float]:
        """Return the mean and 1.96 standard errors of block means on both sides."""
        blocks = self.block[chosen]
        means = np.array([values[blocks == number].mean() for number in np.unique(blocks)])
        width = 1.96 * float(means.std(ddof=1)) / len(means) ** 0.5 if len(means) > 1 else float("inf")
        mean = float(values.mean())
        return mean - width, mean + width


def probabilities_of(rounds: Iterable[DecidedRound], policy: SetVotingPolicy) -> Values:
    """Return the probabilities [N, 3] of recorded rounds under a policy."""
    return np.array([vote(each.panel._replace(policy=policy), each.ballots).probabilities for each in rounds])


def probabilities_of_fitted(rounds: Sequence[DecidedRound], policy: SetVotingPolicy) -> Values:
    """Return the probabilities [N, 3] of recorded rounds under a new stacker, as if it had been carried to the
    artifacts of each round."""
    panels: dict[int, Panel] = {}
    for each in rounds:
        if id(each.panel) not in panels:
            panels[id(each.panel)] = each.panel._replace(policy=carried_to(policy, each.panel.members))
    return np.array([vote(panels[id(each.panel)], each.ballots).probabilities for each in rounds])


def propose(
    rounds: Sequence[DecidedRound], in_force: SetVotingPolicy, *, share: float = 0.6, stacker: bool = False
) -> PolicyProposal:
    """Return what was tried on rounds in the order of their bars, of which the first ``share`` is the earlier part.
    ``stacker``: whether to fit one too. Raises ``NothingToCompareError``."""
    cut, earlier = _divided(rounds, share)
    compared = _Compared(rounds, cut, in_force)

    def tried(by: str, policy: SetVotingPolicy, probabilities: Values) -> TriedPolicy:
        name = ", ".join(policy_differences(in_force, policy)) or "in force"
        parts = [compared.part(chosen, probabilities, policy) for chosen in (compared.earlier, compared.later)]
        return TriedPolicy(name, by, policy, *parts)

    found = [tried("log score", in_force, compared.probabilities)]
    known = {"in force": compared.probabilities}
    pools = [(policy, probabilities_of(rounds, policy)) for policy in _pools(in_force)]
    no_stacker = ""
    if stacker:
        try:
            stacked = _fitted_for_now(rounds, earlier, in_force).policy
            pools.append((stacked, probabilities_of_fitted(rounds, stacked)))
        except NoStackerError as why:
            no_stacker = str(why)
    for policy, probabilities in pools:
        found.append(tried("log score", policy, probabilities))
        known[found[-1].name] = probabilities
    pool = max(found, key=lambda each: each.earlier.gain)
    probabilities = known[pool.name]
    by_money = [tried("money", policy, probabilities) for policy in _actions(pool.policy)]
    best = max([pool, *by_money], key=lambda each: each.earlier.money)
    unchanged = best.policy == in_force
    scale, money_scale = compared.scales(probabilities, best.policy)
    return PolicyProposal(
        cut=cut,
        in_force=found[0],
        tried=(*found[1:], *by_money),
        best=None if unchanged else best,
        scale=scale,
        money_scale=money_scale,
        no_stacker=no_stacker,
    )


def fitted_stacker(
    rounds: Sequence[DecidedRound], in_force: SetVotingPolicy, below: SetVotingPolicy, *, share: float = 0.6
) -> FittedStacker:
    """Return the stacker that ``propose`` fits on the same rounds, without the other policies that it tries. ``below``:
    the policy whose pool it is put on, which may be the one in force. Raises ``NothingToCompareError`` and
    ``NoStackerError``."""
    cut, earlier = _divided(rounds, share)
    fitted = _fitted_for_now(rounds, earlier, below)
    compared, probabilities = _Compared(rounds, cut, in_force), probabilities_of_fitted(rounds, fitted.policy)
    later = compared.part(compared.later, probabilities, fitted.policy)
    return FittedStacker(fitted, later, *compared.scales(probabilities, fitted.policy))


def _divided(rounds: Sequence[DecidedRound], share: float) -> tuple[int, list[DecidedRound]]:
    """Return the first bar (ms) of the later part, and the rounds of the earlier one."""
    cut = rounds[int(share * len(rounds))].open_time if rounds else 0
    earlier = [each for each in rounds if each.ends < cut]
    if len(earlier) < 100 or len(rounds) - len(earlier) < 100:
        raise NothingToCompareError(
            f"{len(rounds):,} rounds have an outcome, {len(earlier):,} of them in the earlier part; expected at least "
            "100 in each part: wait, or name another range (--since, --until)"
        )
    return cut, earlier


def _fitted_for_now(
    rounds: Sequence[DecidedRound], earlier: Sequence[DecidedRound], below: SetVotingPolicy
) -> FittedPolicy:
    """Return a stacker fitted on the earlier rounds, which names the artifacts of the last round."""
    fitted = fitted_policy(earlier, below)
    return fitted._replace(policy=carried_to(fitted.policy, rounds[-1].panel.members))


def _pools(policy: SetVotingPolicy) -> list[SetVotingPolicy]:
    """Return the policies that differ in their probabilities, without a new stacker."""
    pools = [structs.replace(policy, temperature=each) for each in TEMPERATURES if each != policy.temperature]
    plain = structs.replace(policy, stacker=UNSET)
    return pools + [structs.replace(plain, rule=rule) for rule in RULES if rule != policy.rule]


def _actions(policy: SetVotingPolicy) -> list[SetVotingPolicy]:
    """Return the policies that differ in when they act. Under ``consensus`` none does."""
    if policy.rule == "consensus":
        return []
    if policy.cost is not UNSET and policy.cost:
        return [structs.replace(policy, cost=min(1.0, policy.cost * each)) for each in COSTS]
    return [structs.replace(policy, edge=each, cost=UNSET) for each in EDGES if each != policy.edge]
