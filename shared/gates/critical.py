"""The critical gates of the policy ``default``, each of which vetoes: failures and latencies, answers that ignore the
input, a copy of the champion, and the time that the evidence covers.

Time is the event time of bars, never a clock's. Replayed and synthetic bars come as fast as they can be read, and the
scores of one model far ahead of those of another, so they cannot show whether a candidate keeps pace with the market.
``LIVE_ONLY`` and the expiry in ``time`` wait for live bars; until then they are inconclusive, and veto nothing.
"""

from typing import Final, NamedTuple

from shared.gates import degeneracy, operations
from shared.gates.evidence import PRIOR, Evidence
from shared.gates.policy import DefaultPolicy
from shared.gates.verdicts import Gate, Outcome, gate, judged

DAY_MS: Final = 86_400_000
LIVE_ONLY: Final = ("latency", "staleness")
"""The gates that only live bars can answer. They are soft and inconclusive until one was scored."""


class LiveBars(NamedTuple):
    """Open times of live bars: the candidate's first and newest that were scored, and the newest of any artifact in
    ``scores``. -1: there was none."""

    first: int = -1
    last: int = -1
    newest: int = -1


NO_LIVE_BARS: Final = LiveBars()


def operations_gates(state: Evidence, policy: DefaultPolicy, live: LiveBars) -> list[Gate]:
    """Return the gates of failed and unreadable predictions, of latency and of staleness."""
    ops = state.operations
    asked = ops.answered + ops.failed + ops.unreadable
    bad = ops.unreadable / asked if asked else 0.0
    readable: Outcome = "inconclusive" if not ops.answered or bad > policy.most_unreadable else "passed"
    low, high = operations.wilson(ops.failed, asked)
    share = ops.failed / asked if asked else 0.0
    failures = judged(asked, policy.least_rows, share <= policy.most_failures)
    if failures == "failed" and low <= policy.most_failures:
        failures = "inconclusive"
    return [
        gate(
            "readable", readable, bad, policy.most_unreadable, asked, "critical", detail=f"{ops.unreadable} unreadable"
        ),
        gate("failures", failures, share, policy.most_failures, asked, "critical", (low, high)),
        _latency(state, policy),
        _staleness(state, policy, live),
    ]


def _latency(state: Evidence, policy: DefaultPolicy) -> Gate:
    ops = state.operations
    if not ops.timed:
        return gate("latency", "inconclusive", 0.0, policy.most_latency_ms, 0, "soft", detail="no latency was recorded")
    p99 = operations.quantile_ms(ops, 0.99)
    outcome = judged(ops.timed, policy.least_rows, p99 <= policy.most_latency_ms)
    return gate("latency", outcome, p99, policy.most_latency_ms, ops.timed, "critical", detail="P99, ms, rounded up")


def _staleness(state: Evidence, policy: DefaultPolicy, live: LiveBars) -> Gate:
    ops, most = state.operations, policy.most_stale_bars + state.plan.horizon
    if live.last < 0:
        detail = "only live bars can answer it, and none was scored"
        return gate("staleness", "inconclusive", 0.0, most, 0, "soft", detail=detail)
    lag = (live.newest - live.last) / state.plan.interval_ms - state.plan.horizon
    return gate("staleness", judged(ops.answered, 1, lag <= most), lag, most, ops.answered, "critical")


def degeneracy_gates(state: Evidence, policy: DefaultPolicy) -> list[Gate]:
    """Return the gates of outputs that hardly vary, or that do not follow the input."""
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


def copy_gate(state: Evidence, policy: DefaultPolicy) -> Gate:
    """Return the gate of a candidate that answers as the champion does."""
    share = state.copied / max(1, state.compared)
    outcome = judged(state.compared, policy.least_rows, share <= policy.most_copied)
    detail = "answers equal to the champion's, rounded to 1e-3"
    return gate("copy", outcome, share, policy.most_copied, state.compared, "critical", detail=detail)


def time_gate(state: Evidence, policy: DefaultPolicy, live: LiveBars) -> Gate:
    """Return the gate of days, blocks and hours of the day that the evidence covers. It expires by the days between
    live bars: a history of any length is evidence that was not waited for."""
    ops, blocks = state.operations, state.bets[PRIOR].blocks
    days = (ops.last - ops.first) / DAY_MS if ops.first >= 0 else 0.0
    hours = state.hours.bit_count()
    seen_all = hours >= min(policy.least_hours, DAY_MS // max(state.plan.interval_ms, 3_600_000))
    enough = days >= policy.least_days and blocks >= policy.least_blocks and seen_all
    outcome: Outcome = "passed" if enough else "inconclusive"
    detail = f"{days:.1f} days, {blocks} blocks, {hours} of 24 hours"
    watched = (live.last - live.first) / DAY_MS
    if watched > policy.most_days:
        outcome = "failed"
        detail = f"expired after {watched:.1f} days of live bars: {detail}; retrain, or set most_days"
    return gate("time", outcome, days, policy.least_days, blocks, "critical", detail=detail)
