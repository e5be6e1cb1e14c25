"""The soft gates of the policy ``default``, one of which may fail: base rate, action mix, calibration, drift of outputs
and loss.
"""

import math
from typing import Final

from shared.gates import calibration, drift
from shared.gates.evidence import PRIOR, REFERENCE_BLOCKS, ROWS_A_BLOCK, Evidence, design_effect
from shared.gates.policy import DefaultPolicy
from shared.gates.verdicts import Gate, Outcome, gate, judged

CLASSES: Final = ("SELL", "HOLD", "BUY")


def base_rate(state: Evidence, policy: DefaultPolicy) -> Gate:
    """Compare the mean probability of each class with its observed share; return the gate of the worst class."""
    worst = max(state.residuals, key=lambda one: abs(one.mean))
    n = worst.blocks
    error = math.sqrt(worst.squares / (n * (n - 1))) if n > 1 else 1.0
    bias = abs(worst.mean)
    passed = bias <= min(policy.most_bias, max(policy.bias_ignored, 3 * error))
    outcome = judged(n, policy.least_blocks, passed)
    detail = f"{CLASSES[state.residuals.index(worst)]}: mean probability less share that came"
    bounds = (worst.mean - 3 * error, worst.mean + 3 * error)
    return gate("base_rate", outcome, bias, policy.most_bias, n, "soft", bounds, detail, worst.mean)


def action_mix(state: Evidence, policy: DefaultPolicy) -> Gate:
    """Return the total variation between the actions and those of the backtest; inconclusive without a backtest."""
    count = sum(state.actions)
    mix = [number / max(1, count) for number in state.actions]
    detail = "SELL {:.1%}, HOLD {:.1%}, BUY {:.1%}".format(*mix)
    if state.plan.actions is None:
        detail += "; no backtest to compare with"
        return gate("action_mix", "inconclusive", 0.0, policy.most_mix_distance, count, "soft", detail=detail)
    distance = 0.5 * sum(abs(now - then) for now, then in zip(mix, state.plan.actions, strict=True))
    outcome = judged(count, policy.least_rows, distance <= policy.most_mix_distance)
    return gate("action_mix", outcome, distance, policy.most_mix_distance, count, "soft", detail=detail)


def calibrated(state: Evidence, policy: DefaultPolicy) -> Gate:
    """Return the gate of the worst class by calibration error, recalibration slope and miscalibration."""
    blocks, rows = state.bets[PRIOR].blocks, state.reliability.count
    if blocks < policy.least_blocks or rows < policy.least_rows:
        return gate("calibration", "inconclusive", 0.0, policy.most_calibration_error, rows, "soft")
    found = [_class_calibration(state, policy, k) for k in range(3)]
    order: dict[Outcome, int] = {"failed": 0, "inconclusive": 1, "passed": 2}
    return min(found, key=lambda one: (order[one.outcome], -one.value))


def _class_calibration(state: Evidence, policy: DefaultPolicy, class_: int) -> Gate:
    sums, effect = state.reliability, design_effect(state, class_)
    error = calibration.calibration_error(sums, class_, effect)
    slope = calibration.recalibration(sums, class_, effect)
    parts = calibration.murphy(sums, class_)
    share = parts.miscalibration / parts.uncertainty if parts.uncertainty else 0.0
    room = policy.most_miscalibration + calibration.GROUPS * effect / sums.count
    line = policy.most_calibration_error + 2 * error.error
    off = slope.slope - 2 * slope.error > policy.slope_to or slope.slope + 2 * slope.error < policy.slope_from
    outcome: Outcome = "passed"
    if error.debiased > line or off or share > room:
        outcome = "failed"
    elif not policy.slope_from <= slope.slope <= policy.slope_to:
        outcome = "inconclusive"
    pays = parts.discrimination / parts.uncertainty if parts.uncertainty else 0.0
    detail = (
        f"{CLASSES[class_]}: slope {slope.slope:.2f}, miscalibration {share:.2%} and discrimination {pays:.2%} "
        f"of the uncertainty, {effect:.1f} rows per effective row"
    )
    bounds = (max(0.0, error.debiased - 2 * error.error), error.debiased + 2 * error.error)
    return gate("calibration", outcome, error.debiased, line, sums.count, "soft", bounds, detail)


def output_drift(state: Evidence) -> Gate:
    """Return the PSI of the recent probabilities against the backtest, or against the first ten blocks, for the worst
    class."""
    outputs = state.outputs
    worst = drift.Drift(0.0, drift.RULE_OF_THUMB, False)
    if outputs.recent_blocks >= 3:
        found = []
        for base, now in zip(outputs.reference, outputs.recent, strict=True):
            edges = drift.equal_mass(base)
            effect = max(1.0, sum(now) / (ROWS_A_BLOCK * outputs.recent_blocks))
            base_effect = max(1.0, sum(base) / (ROWS_A_BLOCK * REFERENCE_BLOCKS))
            found.append(drift.judge(drift.grouped(now, edges), drift.grouped(base, edges), effect, base_effect))
        worst = max(found, key=lambda one: one.value - one.threshold)
    blocks = round(outputs.recent_blocks)
    return gate("output_drift", judged(blocks, 3, not worst.alarm), worst.value, worst.threshold, blocks, "soft")


def loss_drift(state: Evidence, policy: DefaultPolicy) -> Gate:
    """Return the peak of an e-CUSUM of the loss over the prior's: whether it ever became worse."""
    watch = state.loss
    outcome = judged(watch.blocks, policy.least_blocks, watch.peak < policy.loss_alarm)
    return gate("loss_drift", outcome, watch.peak, policy.loss_alarm, watch.blocks, "soft", detail="e-CUSUM, peak")
