"""The policy ``default``: skill by anytime-valid tests, and degeneracy checks that veto.

A candidate passes where every critical and every needed gate passed and at most one soft gate failed. A gate by e-value
passes when ln E *ever* reached ln(1/alpha), and fails when the evidence for the opposite did; looking more often does
not raise the error rate. Kinds, statistics and defaults: ``docs/reference/gate-policies.md``. The details of gates are
recorded in verdicts, so their wording is fixed.
"""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from shared.gates import betting, degeneracy, multiplicity, operations, quality
from shared.gates.betting import Bets
from shared.gates.evidence import (
    BETTER,
    CHAMPION,
    CHAMPION_OVER_PRIOR,
    MONEY,
    POOL,
    PRIOR,
    Evidence,
)
from shared.gates.policy import DefaultPolicy
from shared.gates.verdicts import Gate, Judgement, Kind, Outcome, combine, gate, judged

DAY_MS: Final = 86_400_000
WIDEST: Final = math.log(100.0)
"""The largest possible gain in log score, because probabilities are cut at 0.01."""


DEFAULTS: Final = DefaultPolicy()


def claim(state: Evidence) -> float:
    """Return ln of an e-value against "not to be promoted", for ``multiplicity``.

    It is the least of the needed gates' present evidence: the minimum of e-values is an e-value against the union of
    their nulls."""
    needed = [betting.log_e(state.bets[PRIOR]), _contribution_e(state)]
    return min(needed) if not state.compared else min(*needed, betting.log_e(state.bets[CHAMPION]))


def verdicts(
    state: Evidence,
    policy: DefaultPolicy = DEFAULTS,
    *,
    latest: int | None = None,
    rivals: Mapping[str, float] | None = None,
    inputs: Gate | None = None,
) -> tuple[Gate, ...]:
    """Return every gate at present.

    ``latest`` is the open time of the newest closed bar of the market. ``rivals`` holds the ``claim`` of every
    candidate for its model, this one under the name of its artifact; with more than one the error budget is shared
    (e-BH). ``inputs`` is the gate of the inputs' drift."""
    gates = [*_operations(state, policy, latest), *_degeneracy(state, policy), _time(state, policy)]
    gates.append(_bet("skill", state.bets[PRIOR], policy.alpha, policy, "needed"))
    if state.compared:
        gates += [_copy(state, policy), _incumbent(state, policy), _money(state, policy)]
    gates.append(_contribution(state, policy))
    if rivals is not None and len(rivals) > 1:
        gates.append(_budget(state, policy, rivals))
    gates += [quality.base_rate(state, policy), quality.action_mix(state, policy), quality.calibrated(state, policy)]
    gates += [quality.output_drift(state), quality.loss_drift(state, policy)]
    return tuple(gates if inputs is None else [*gates, inputs])


def judge(
    state: Evidence,
    policy: DefaultPolicy = DEFAULTS,
    *,
    latest: int | None = None,
    rivals: Mapping[str, float] | None = None,
    inputs: Gate | None = None,
) -> Judgement:
    """Return the policy's judgement and the advice what to do next."""
    gates = verdicts(state, policy, latest=latest, rivals=rivals, inputs=inputs)
    outcome = combine(gates, policy.soft_failures)
    if outcome == "passed":
        return Judgement(outcome, gates, 0.05, "may be promoted, at the first step of the ladder")
    failed = [one.name for one in gates if one.outcome == "failed"]
    if outcome == "failed":
        return Judgement(outcome, gates, 0.0, f"stay in shadow and retrain; failed: {', '.join(failed)}")
    waiting = [one.name for one in gates if one.outcome == "inconclusive" and one.kind != "soft"]
    return Judgement(outcome, gates, 0.0, f"stay in shadow; not enough seen for: {', '.join(waiting)}")


def _operations(state: Evidence, policy: DefaultPolicy, latest: int | None) -> list[Gate]:
    ops = state.operations
    asked = ops.answered + ops.failed + ops.unreadable
    bad = ops.unreadable / asked if asked else 0.0
    readable: Outcome = "inconclusive" if not ops.answered or bad > policy.most_unreadable else "passed"
    low, high = operations.wilson(ops.failed, asked)
    share = ops.failed / asked if asked else 0.0
    failures = judged(asked, policy.least_rows, share <= policy.most_failures)
    if failures == "failed" and low <= policy.most_failures:
        failures = "inconclusive"
    gates = [
        gate(
            "readable", readable, bad, policy.most_unreadable, asked, "critical", detail=f"{ops.unreadable} unreadable"
        ),
        gate("failures", failures, share, policy.most_failures, asked, "critical", (low, high)),
        _latency(state, policy),
    ]
    if latest is not None:
        lag = (latest - ops.last) / state.plan.interval_ms - state.plan.horizon if ops.last >= 0 else 0.0
        most = policy.most_stale_bars + state.plan.horizon
        gates.append(gate("staleness", judged(ops.answered, 1, lag <= most), lag, most, ops.answered, "critical"))
    return gates


def _latency(state: Evidence, policy: DefaultPolicy) -> Gate:
    ops = state.operations
    if not ops.timed:
        return gate("latency", "inconclusive", 0.0, policy.most_latency_ms, 0, "soft", detail="no latency was recorded")
    p99 = operations.quantile_ms(ops, 0.99)
    outcome = judged(ops.timed, policy.least_rows, p99 <= policy.most_latency_ms)
    return gate("latency", outcome, p99, policy.most_latency_ms, ops.timed, "critical", detail="P99, ms, rounded up")


def _degeneracy(state: Evidence, policy: DefaultPolicy) -> list[Gate]:
    distribution, n = state.distribution, state.distribution.count
    enough = n if distribution.bars >= policy.least_bars else 0
    least = policy.least_rows
    many = min(policy.least_distinct, policy.least_distinct_share * n)
    deviation, width = degeneracy.spread(distribution)
    distinct, chaos = degeneracy.distinct(distribution), degeneracy.entropy(distribution)
    same, run = degeneracy.same_everywhere(distribution), distribution.longest_run

    def one(name: str, value: float, threshold: float, passed: bool, detail: str = "") -> Gate:
        return gate(name, judged(enough, least, passed), value, threshold, n, "critical", detail=detail)

    gates = [
        one("distinct", distinct, many, distinct >= many, "answers, rounded to 1e-3"),
        one("entropy", chaos, policy.least_entropy, chaos >= policy.least_entropy, "nats, of the rounded answers"),
        one("deviation", deviation, policy.least_deviation, deviation >= policy.least_deviation),
        one("range", width, policy.least_range, width >= policy.least_range, "P10 to P90"),
        one("same_everywhere", same, policy.most_same, same <= policy.most_same, f"of {distribution.shared_bars} bars"),
        one("longest_run", run, policy.longest_run, run <= policy.longest_run, "of one symbol, one answer"),
    ]
    response = state.plan.response
    if response is not None:
        ok: Outcome = "passed" if response >= policy.least_response else "failed"
        gates.append(gate("response", ok, response, policy.least_response, 1, "critical", detail="to changed inputs"))
    return gates


def _copy(state: Evidence, policy: DefaultPolicy) -> Gate:
    share = state.copied / max(1, state.compared)
    outcome = judged(state.compared, policy.least_rows, share <= policy.most_copied)
    detail = "answers equal to the champion's, rounded to 1e-3"
    return gate("copy", outcome, share, policy.most_copied, state.compared, "critical", detail=detail)


def _time(state: Evidence, policy: DefaultPolicy) -> Gate:
    ops, blocks = state.operations, state.bets[PRIOR].blocks
    days = (ops.last - ops.first) / DAY_MS if ops.first >= 0 else 0.0
    hours = state.hours.bit_count()
    seen_all = hours >= min(policy.least_hours, DAY_MS // max(state.plan.interval_ms, 3_600_000))
    enough = days >= policy.least_days and blocks >= policy.least_blocks and seen_all
    outcome: Outcome = "passed" if enough else "inconclusive"
    detail = f"{days:.1f} days, {blocks} blocks, {hours} of 24 hours"
    if days > policy.most_days:
        outcome = "failed"
        detail = f"expired: {detail}; retrain, or set most_days"
    return gate("time", outcome, days, policy.least_days, blocks, "critical", detail=detail)


def _bet(name: str, bets: Bets, alpha: float, policy: DefaultPolicy, kind: Kind, widest: float = WIDEST) -> Gate:
    line = math.log(1 / alpha)
    outcome: Outcome = "inconclusive"
    if bets.peak_below >= line:
        outcome = "failed"
    elif bets.peak_above >= line and bets.blocks >= policy.least_blocks:
        outcome = "passed"
    low, high = betting.interval(bets, alpha)
    bounds = (max(low, -widest), min(high, widest))
    weak = betting.log_e_weak(bets)
    detail = f"gain {bets.mean:+.5f} a row, ln E now {betting.log_e(bets):.2f}, by the weak null {weak:.2f}"
    return gate(name, outcome, bets.peak_above, line, bets.blocks, kind, bounds, detail, bets.mean)


def _incumbent(state: Evidence, policy: DefaultPolicy) -> Gate:
    bet = _bet("incumbent", state.bets[CHAMPION], policy.alpha, policy, "needed")
    if state.bets[CHAMPION_OVER_PRIOR].peak_below < math.log(1 / policy.alpha):
        return bet
    detail = "waived: the champion itself is worse than the class prior"
    return structs.replace(bet, outcome="passed", detail=detail)


def _contribution(state: Evidence, policy: DefaultPolicy) -> Gate:
    bet = _bet("contribution", state.bets[POOL], policy.alpha, policy, "needed")
    beats = state.bets[BETTER].peak_above >= math.log(1 / policy.alpha) and bet.count >= policy.least_blocks
    if bet.outcome != "inconclusive" or not beats or bet.low <= -state.margin / 2:
        return bet
    detail = f"better than the champion, and not harmful to the ensemble; {bet.detail}"
    return structs.replace(bet, outcome="passed", detail=detail)


def _contribution_e(state: Evidence) -> float:
    pool = betting.log_e(state.bets[POOL])
    return betting.log_mean_exp([pool, betting.log_e(state.bets[BETTER])]) if state.compared else pool


def _budget(state: Evidence, policy: DefaultPolicy, rivals: Mapping[str, float]) -> Gate:
    name = state.plan.key.artifact
    if name not in rivals:
        raise ValueError(f"the claims of {len(rivals)} candidates do not name {name}: pass its own claim too")
    line = multiplicity.needed(rivals, name, policy.alpha)
    outcome: Outcome = "passed" if name in multiplicity.e_bh(rivals, policy.alpha) else "inconclusive"
    detail = f"e-BH over {len(rivals)} candidates"
    return gate("budget", outcome, rivals[name], line, state.bets[PRIOR].blocks, "needed", detail=detail)


def _money(state: Evidence, policy: DefaultPolicy) -> Gate:
    return _bet("money", state.bets[MONEY], policy.money_alpha, policy, "soft", 1.0)
