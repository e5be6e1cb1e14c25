"""Compute a decision from the probabilities of several models: pure arithmetic over recorded ballots.

Three pools, and the user's own rule. With the members' weights w and the pool's prior pi (the members' training priors,
by weight):

``logpool``: log-linear, of centred evidence. With a member's centre c, the mean log probability of each class over its
calibration part,

    logit_k = (log pi_k + sum_m w_m (log p_mk - c_mk)) / T

A member that always gives the same probabilities contributes nothing, whatever its weight; nor does an absent one.
A member alone is not itself in this pool: its average over the calibration part is replaced by pi.

``mean`` and ``logmean``: the means of probabilities and of their logs, as they are,

    P_k = sum_m v_m p_mk / V;  logit_k = log P_k / T            v_m = w_m s_m,  V = sum_m v_m
    logit_k = sum_m v_m log p_mk / V / T

s_m is 0 for a member whose predictions over its calibration part never moved, and 1 from a spread of 0.1 mnat on: so a
constant member contributes nothing here either, and takes no weight from the others. Nor does an absent one. Where V is
0, P is pi.

``stacker``: a logistic regression on top of one of these pools (``shared.voting.stacker``).

Action: BUY or SELL where P(BUY) - P(SELL) reaches the edge in that direction, else HOLD. This is expected value with
symmetric class returns: the edge is cost over the return of a right call. A policy with ``cost`` has that edge computed
(``edge_of``), from the mean return of a move that the artifacts' registrations have: it differs with the interval, the
horizon and the market. Confidence: the probability of the action.

``consensus``, the user's own rule. Each member votes its most probable class with its weight; the heaviest class wins,
a tie is HOLD. Confidence: the weighted mean confidence of those who agree, times 1.2, 1.1, 0.8 or 0.6 for 4 (or more),
3, 2 or 1 of them, at most 0.95; two or fewer in agreement with less than 0.65 is HOLD.

Sums run in the order of the members (by name): the same ballots give the same bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Final, Literal, NamedTuple

from msgspec import UNSET, Struct, structs

from schemas.common import ACTIONS, Action, Probabilities
from schemas.control import RegisterArtifact, SetVotingPolicy, Stacker, Triple
from shared.control import State
from shared.voting.arithmetic import FLOOR, ZERO, evidence_of, softmax
from shared.voting.stacker import complete, stacked

MULTIPLIERS: Final = {1: 0.6, 2: 0.8, 3: 1.1}
FULL_AGREEMENT: Final = 1.2
CAP: Final = 0.95
WEAK_BELOW: Final = 0.65
FULL_SPREAD: Final = 1e-4
"""The spread (nats) from which a member counts fully in a mean. Noise of 1e-5 on a constant has a spread of 1e-10, a
calibrated model that gains 1 mnat has one of 1e-3."""
PLACES: Final[Mapping[Action, int]] = {action: place for place, action in enumerate(ACTIONS)}
"""The index of each action in a vector of probabilities."""


PoolRule = Literal["logpool", "mean", "logmean"]


class Member(NamedTuple):
    """A voting model under one version of the configuration. ``moving`` is s in the formulas: how far it counts in a
    mean of predictions. ``reach``: the mean absolute return of a move (a fraction), None where it is not known."""

    model: str
    artifact: str
    weight: float
    centre: Triple
    prior: Triple
    moving: float = 1.0
    reach: float | None = None


class Panel(NamedTuple):
    """The voting members, the shadows and the voting policy of one configuration. ``log_prior`` is the pool's prior.
    ``candidates``: the voting policies in shadow and their digests. The ``edge`` of each policy is the one that follows
    from the members (``edge_of``)."""

    members: tuple[Member, ...]
    shadows: frozenset[tuple[str, str]]
    log_prior: Triple
    policy: SetVotingPolicy
    candidates: tuple[tuple[str, SetVotingPolicy], ...] = ()


class BallotEffect(Struct, frozen=True, gc=False):
    """One counted ballot by itself and its effect on the vote.

    ``action`` and ``confidence`` are those of the ballot alone. ``effect`` is the probability of the decided action
    with the ballot minus without it. ``pivotal`` is True where the action would differ without the ballot."""

    action: Action
    confidence: float
    effect: float
    pivotal: bool


class Vote(NamedTuple):
    """The result of a vote. ``effects`` is by model; without quorum it is empty and the action is HOLD. ``rule`` is the
    one that gave the result."""

    quorum: bool
    action: Action
    confidence: float
    probabilities: Probabilities
    consensus_count: int
    effects: Mapping[str, BallotEffect]
    rule: str


def panel_of(state: State) -> Panel:
    """Return the panel of a configuration, with members sorted by name."""
    members = []
    for name in state.voting:
        model = state.models[name]
        assert model.champion is not None
        members.append(member_of(state.artifacts[model.champion], name, model.weight or 0.0))
    shadows = frozenset((name, artifact) for name, model in state.models.items() for artifact in model.shadows)
    panel = panel_with(members, shadows, state.policy)
    if not state.policy_shadows:
        return panel
    candidates = [(digest, state.policies[digest].policy) for digest in state.policy_shadows]
    return panel._replace(candidates=tuple([(digest, _in_force(members, policy)) for digest, policy in candidates]))


def panel_with(members: Sequence[Member], shadows: frozenset[tuple[str, str]], policy: SetVotingPolicy) -> Panel:
    """Return a panel of members that are sorted by name."""
    prior = log_prior((member.weight, member.prior) for member in members)
    return Panel(tuple(members), shadows, prior, _in_force(members, policy))


def _in_force(members: Sequence[Member], policy: SetVotingPolicy) -> SetVotingPolicy:
    """Return a policy with the edge that follows from the members."""
    edge = edge_of(members, policy)
    return policy if edge == policy.edge else structs.replace(policy, edge=edge)


def edge_of(members: Sequence[Member], policy: SetVotingPolicy) -> float:
    """Return the edge in force: where the policy has a cost, the cost over the mean return of a move, which is the mean
    of the members' by weight; 1, which no lead reaches, if the cost is larger. Otherwise, and if no registration has
    that return, the policy's edge."""
    reach = total = 0.0
    for member in members:
        if member.reach is not None:
            reach += member.weight * member.reach
            total += member.weight
    if policy.cost is UNSET or not reach:
        return policy.edge
    return min(1.0, policy.cost / (reach / total))


def pool_of(policy: SetVotingPolicy) -> PoolRule:
    """Return the pool by which contributions are measured and weights are learned: that of the policy, or the one below
    its stacker; the log-linear one under ``consensus``, which is no pool."""
    if policy.stacker is not UNSET:
        return policy.stacker.base
    match policy.rule:
        case "consensus" | "stacker":
            return "logpool"
        case rule:
            return rule


def member_of(registered: RegisterArtifact, model: str, weight: float) -> Member:
    """Return an artifact as a member of a panel."""
    reach = None if registered.reach is UNSET else registered.reach
    moving = moving_of(registered)
    return Member(model, registered.artifact, weight, registered.centre, registered.prior, moving, reach)


def moving_of(registered: RegisterArtifact) -> float:
    """Return how far an artifact counts in a mean of predictions, 0 to 1: its spread, of ``FULL_SPREAD``.

    Registrations of earlier releases have no spread: their artifact counts unless its backtest had no response to its
    inputs."""
    if registered.spread is not UNSET:
        return min(1.0, registered.spread / FULL_SPREAD)
    return 0.0 if registered.backtest is not None and not registered.backtest.response else 1.0


def log_prior(weighted: Iterable[tuple[float, Triple]]) -> Triple:
    """Return the log of the pool's prior: the weighted mean of the members' priors."""
    prior = [0.0, 0.0, 0.0]
    for weight, shares in weighted:
        for k in range(3):
            prior[k] += weight * shares[k]
    total = sum(prior) or 1.0
    sell, hold, buy = (log(max(share / total, FLOOR)) for share in prior)
    return sell, hold, buy


def vote(panel: Panel, ballots: Mapping[str, Probabilities]) -> Vote:
    """Return the result of a vote over ``ballots``, the probabilities by model.

    Each model in ``ballots`` must be a member of ``panel``."""
    present = [member for member in panel.members if member.model in ballots]
    weight = sum(member.weight for member in present)
    policy = panel.policy
    if len(present) < policy.quorum_count or weight < policy.quorum_weight - FLOOR:
        return Vote(False, "HOLD", 0.0, softmax(*panel.log_prior), 0, {}, policy.rule)
    if policy.rule == "consensus":
        return _consensus(present, ballots)
    if policy.stacker is not UNSET and complete(policy.stacker, {each.model: each.artifact for each in present}):
        return _stacked(panel, policy.stacker, present, ballots)
    return _pooled(panel, present, ballots)


def _pooled(panel: Panel, present: Sequence[Member], ballots: Mapping[str, Probabilities]) -> Vote:
    match pool_of(panel.policy):
        case "mean" | "logmean" as rule:
            return _mean(panel, present, ballots, logs=rule == "logmean")
        case "logpool":
            return _logpool(panel, present, ballots)


def _stacked(panel: Panel, stacker: Stacker, present: Sequence[Member], ballots: Mapping[str, Probabilities]) -> Vote:
    """Pool the ballots by a stacker. Without a member of its fit the pool below would have decided."""
    edge = panel.policy.edge
    centres = {member.model: member.centre for member in present}
    fitted = {member.model for member in stacker.members}
    pooled = stacked(stacker, _pooled(panel, present, ballots).probabilities, ballots, centres)
    action = _by_edge(pooled, edge)
    chosen = PLACES[action]
    confidence = pooled[chosen]
    effects = {}
    agreeing = 0
    for member in present:
        rest = [other for other in present if other is not member]
        without = _pooled(panel, rest, ballots).probabilities if rest else softmax(*panel.log_prior)
        if member.model not in fitted:
            without = stacked(stacker, without, ballots, centres)
        p = ballots[member.model]
        own = _by_edge(p, edge)
        agreeing += own == action
        effect, pivotal = confidence - without[chosen], _by_edge(without, edge) != action
        effects[member.model] = BallotEffect(own, p[PLACES[own]], effect, pivotal)
    return Vote(True, action, confidence, pooled, agreeing, effects, "stacker")


def own_action(policy: SetVotingPolicy, probabilities: Probabilities) -> Action:
    """Return the action that follows from one ballot alone: by the edge in a pool, the most probable class under
    ``consensus``."""
    return _most_probable(probabilities) if policy.rule == "consensus" else _by_edge(probabilities, policy.edge)


def _logpool(panel: Panel, present: Sequence[Member], ballots: Mapping[str, Probabilities]) -> Vote:
    """Pool the ballots log-linearly.

    The loops over classes are written out: verifying a million decisions spends most of its time here."""
    policy = panel.policy
    temperature, edge = policy.temperature, policy.edge
    evidence = []
    sell, hold, buy = panel.log_prior
    for model, _artifact, weight, centre, _prior, _moving, _reach in present:
        p = ballots[model]
        e0, e1, e2 = evidence_of(p, centre)
        z0, z1, z2 = weight * e0, weight * e1, weight * e2
        evidence.append((model, p, z0, z1, z2))
        sell += z0
        hold += z1
        buy += z2
    pooled = softmax(sell / temperature, hold / temperature, buy / temperature)
    action = _by_edge(pooled, edge)
    chosen = PLACES[action]
    confidence = pooled[chosen]
    effects = {}
    agreeing = 0
    for model, p, z0, z1, z2 in evidence:
        without = softmax((sell - z0) / temperature, (hold - z1) / temperature, (buy - z2) / temperature)
        own = _by_edge(p, edge)
        agreeing += own == action
        effect, pivotal = confidence - without[chosen], _by_edge(without, edge) != action
        effects[model] = BallotEffect(own, p[PLACES[own]], effect, pivotal)
    return Vote(True, action, confidence, pooled, agreeing, effects, "logpool")


def _mean(panel: Panel, present: Sequence[Member], ballots: Mapping[str, Probabilities], *, logs: bool) -> Vote:
    """Pool the ballots by their mean, or by the mean of their logs."""
    edge = panel.policy.edge
    shares = []
    sell = hold = buy = total = 0.0
    for member in present:
        p, share = ballots[member.model], member.weight * member.moving
        x0, x1, x2 = evidence_of(p, ZERO) if logs else p
        shares.append((member.model, p, share, share * x0, share * x1, share * x2))
        total += share
        sell += share * x0
        hold += share * x1
        buy += share * x2
    pooled = mean_of(panel, (sell, hold, buy), total, logs=logs)
    action = _by_edge(pooled, edge)
    chosen = PLACES[action]
    confidence = pooled[chosen]
    effects = {}
    agreeing = 0
    for number, (model, p, share, *_) in enumerate(shares):
        # The sums are made again: what is left of a difference of sums is not what the others alone give.
        rest = shares[:number] + shares[number + 1 :]
        without = pooled if not share else mean_of(panel, _sums(rest), sum(each[2] for each in rest), logs=logs)
        own = _by_edge(p, edge)
        agreeing += own == action
        effect, pivotal = confidence - without[chosen], _by_edge(without, edge) != action
        effects[model] = BallotEffect(own, p[PLACES[own]], effect, pivotal)
    return Vote(True, action, confidence, pooled, agreeing, effects, "logmean" if logs else "mean")


def _sums(shares: Sequence[tuple[str, Probabilities, float, float, float, float]]) -> Triple:
    sell = hold = buy = 0.0
    for _, _, _, x0, x1, x2 in shares:
        sell += x0
        hold += x1
        buy += x2
    return sell, hold, buy


def mean_of(panel: Panel, sums: Triple, total: float, *, logs: bool) -> Probabilities:
    """Return the mean of ballots from the sums of their probabilities or logs, each times its share of ``total``."""
    if total <= 0.0:
        return softmax(*panel.log_prior)
    temperature = panel.policy.temperature
    if logs:
        scale = total * temperature
        return softmax(sums[0] / scale, sums[1] / scale, sums[2] / scale)
    sell, hold, buy = sums
    whole = sell + hold + buy
    if temperature == 1.0:
        return (sell / whole, hold / whole, buy / whole)
    l0, l1, l2 = evidence_of((sell / whole, hold / whole, buy / whole), ZERO)
    return softmax(l0 / temperature, l1 / temperature, l2 / temperature)


def _consensus(present: Sequence[Member], ballots: Mapping[str, Probabilities]) -> Vote:
    action, confidence, shares, agreeing = _by_weight(present, ballots)
    effects = {}
    for member in present:
        p = ballots[member.model]
        action_alone = _most_probable(p)
        rest = [other for other in present if other is not member]
        without = _by_weight(rest, ballots) if rest else ("HOLD", 0.0, (0.0, 1.0, 0.0), 0)
        chosen = PLACES[action]
        effects[member.model] = BallotEffect(
            action_alone, p[PLACES[action_alone]], shares[chosen] - without[2][chosen], without[0] != action
        )
    return Vote(True, action, confidence, shares, agreeing, effects, "consensus")


def _by_weight(
    present: Sequence[Member], ballots: Mapping[str, Probabilities]
) -> tuple[Action, float, Probabilities, int]:
    weights = [0.0, 0.0, 0.0]
    for member in present:
        weights[PLACES[_most_probable(ballots[member.model])]] += member.weight
    total = sum(weights) or 1.0
    shares = (weights[0] / total, weights[1] / total, weights[2] / total)
    top = max(weights)
    winner: Action = ACTIONS[weights.index(top)] if weights.count(top) == 1 else "HOLD"
    agreeing = [m for m in present if _most_probable(ballots[m.model]) == winner]
    agreeing_weight = sum(m.weight for m in agreeing)
    mean = (
        sum(m.weight * ballots[m.model][PLACES[winner]] for m in agreeing) / agreeing_weight if agreeing_weight else 0.0
    )
    confidence = min(CAP, mean * MULTIPLIERS.get(len(agreeing), FULL_AGREEMENT)) if agreeing else 0.0
    if len(agreeing) <= 2 and confidence < WEAK_BELOW:
        winner = "HOLD"
        agreeing = [m for m in present if _most_probable(ballots[m.model]) == "HOLD"]
    return winner, confidence, shares, len(agreeing)


def _by_edge(p: Probabilities, edge: float) -> Action:
    lead = p[2] - p[0]
    if lead >= edge and lead > 0:
        return "BUY"
    return "SELL" if -lead >= edge and lead < 0 else "HOLD"


def _most_probable(p: Probabilities) -> Action:
    """Return the class with the highest probability; HOLD if two classes have it."""
    top = max(p)
    return ACTIONS[p.index(top)] if p.count(top) == 1 else "HOLD"
