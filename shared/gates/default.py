"""The policy ``default``: the needed gates, which are anytime-valid tests of skill, and how all its gates combine.

A candidate passes where every critical and every needed gate passed and at most one soft gate failed. A gate by e-value
passes when ln E *ever* reached ln(1/alpha), and fails when the evidence for the opposite did; looking more often does
not raise the error rate. The critical gates are in ``critical``, the soft ones in ``quality``; ``money`` is soft, and
here because it is a test too. Kinds, statistics and defaults: ``docs/reference/gate-policies.md``. The details of gates
are recorded in verdicts, so their wording is fixed.
"""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from shared.gates import betting, critical, multiplicity, quality
from shared.gates.betting import Bets
from shared.gates.critical import LIVE_ONLY, NO_LIVE_BARS, LiveBars
from shared.gates.evidence import (
    BETTER,
    CHAMPION,
    CHAMPION_OVER_PRIOR,
    EARNS_MORE,
    MONEY,
    POOL,
    PRIOR,
    Evidence,
)
from shared.gates.policy import DefaultPolicy
from shared.gates.verdicts import Gate, Judgement, Kind, Outcome, combine, gate

WIDEST: Final = math.log(100.0)
"""The largest possible gain in log score, because probabilities are cut at 0.01."""


DEFAULTS: Final = DefaultPolicy()


def claim(state: Evidence) -> float:
    """Return ln of an e-value against "not to be promoted", for ``multiplicity``.

    It is the least of the needed gates' present evidence: the minimum of e-values is an e-value against the union of
    their nulls."""
    needed = [betting.log_e(state.bets[PRIOR]), _improvement_e(state) if _is_policy(state) else _contribution_e(state)]
    return min(needed) if not state.compared else min(*needed, betting.log_e(state.bets[CHAMPION]))


def verdicts(
    state: Evidence,
    policy: DefaultPolicy = DEFAULTS,
    *,
    live: LiveBars = NO_LIVE_BARS,
    rivals: Mapping[str, float] | None = None,
) -> tuple[Gate, ...]:
    """Return every gate at present.

    ``rivals`` holds the ``claim`` of every candidate for its model, this one under the name of its artifact; with more
    than one the error budget is shared (e-BH)."""
    gates = [*critical.operations_gates(state, policy, live), *critical.degeneracy_gates(state, policy)]
    gates.append(critical.time_gate(state, policy, live))
    gates.append(_bet("skill", state.bets[PRIOR], policy.alpha, policy, "needed"))
    if _is_policy(state):
        gates += [_incumbent(state, policy), _improvement(state, policy), _money(state, policy)]
    else:
        if state.compared:
            gates += [critical.copy_gate(state, policy), _incumbent(state, policy), _money(state, policy)]
        gates.append(_contribution(state, policy))
    if rivals is not None and len(rivals) > 1:
        gates.append(_budget(state, policy, rivals))
    gates += [quality.base_rate(state, policy), quality.action_mix(state, policy), quality.calibrated(state, policy)]
    gates += [quality.output_drift(state), quality.loss_drift(state, policy)]
    return tuple(gates)


def judge(
    state: Evidence,
    policy: DefaultPolicy = DEFAULTS,
    *,
    live: LiveBars = NO_LIVE_BARS,
    rivals: Mapping[str, float] | None = None,
) -> Judgement:
    """Return the policy's judgement and the advice what to do next."""
    gates = verdicts(state, policy, live=live, rivals=rivals)
    outcome = combine(gates, policy.soft_failures)
    if outcome == "passed":
        unanswered = [one.name for one in gates if one.name in LIVE_ONLY and one.outcome == "inconclusive"]
        note = f"; only live bars can answer: {', '.join(unanswered)}" if unanswered else ""
        return Judgement(outcome, gates, 0.05, f"may be promoted, at the first step of the ladder{note}")
    failed = [one.name for one in gates if one.outcome == "failed"]
    if outcome == "failed":
        return Judgement(outcome, gates, 0.0, f"stay in shadow and retrain; failed: {', '.join(failed)}")
    waiting = [one.name for one in gates if one.outcome == "inconclusive" and one.kind != "soft"]
    return Judgement(outcome, gates, 0.0, f"stay in shadow; not enough seen for: {', '.join(waiting)}")


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


def _is_policy(state: Evidence) -> bool:
    """Return whether the candidate is a voting policy. It is no artifact, so it need not differ from the champion in
    its probabilities, and it is the whole ensemble, so it contributes nothing to one."""
    return len(state.bets) > EARNS_MORE


def _improvement(state: Evidence, policy: DefaultPolicy) -> Gate:
    """Return the gate of a voting policy that is to be better than the one in force in log score, or in money. Each of
    the two tests has half of the error budget."""
    alpha = policy.alpha / 2
    score = _bet("improvement", state.bets[BETTER], alpha, policy, "needed")
    money = _bet("improvement", state.bets[EARNS_MORE], alpha, policy, "needed", 1.0)
    best, words = (money, "money") if money.value > score.value else (score, "log score")
    outcome: Outcome = "failed" if score.outcome == money.outcome == "failed" else "inconclusive"
    if "passed" in {score.outcome, money.outcome}:
        outcome = "passed"
    return structs.replace(best, outcome=outcome, detail=f"in {words}: {best.detail}")


def _improvement_e(state: Evidence) -> float:
    return betting.log_mean_exp([betting.log_e(state.bets[BETTER]), betting.log_e(state.bets[EARNS_MORE])])


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
