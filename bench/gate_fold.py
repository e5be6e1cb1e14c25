"""Measure how many scores a second the gates of ``default`` fold on one core; check that restarts change no verdict.

Measured is the processor time from decoded events (``PredictionScored``) to evidence, for one candidate and eight
symbols. The floor is a loop over the same events that only reads their fields. The whole core of the gate-evaluator,
from an envelope to its output, is measured as well, including the verdicts.
"""

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bench import forecasts
from bench.harness import Figure, medians
from bench.recorded import commands, market
from schemas.codec import encode
from schemas.common import ACTIONS
from schemas.scores import PredictionScored
from services.gate_evaluator.core import Evaluator
from shared.gates import classic, contribution, default, evidence, guard, weights
from shared.gates.contribution import ContributionPanel
from shared.gates.evidence import Evidence
from shared.gates.rounds import MemberScore
from shared.gates.rows import Plan, Row, row_of
from shared.runtime.service import Batch, Received

DAYS = 28
LOOKS = 200


def run(quick: bool) -> dict[str, Figure]:
    """Return the scores a second, the time of a verdict (us), the size of a state (bytes), and the number of verdicts
    that a restart changed."""
    rows, plan = _rows(DAYS // 4 if quick else DAYS)
    scored = [_scored(row) for row in rows]

    def measure() -> dict[str, float]:
        return {
            "default": _rate(scored, lambda: _fold(evidence.initial(plan), scored)),
            "classic": _rate(scored, lambda: _classic(scored)),
            "guard": _rate(scored, lambda: _guard(scored)),
            "evaluator": _rate(received, lambda: _evaluate(received)),
            "floor": _rate(scored, lambda: [row_of(one) for one in scored]),
            "worth": _members(rows, contributions=True),
            "weights": _members(rows, contributions=False),
        }

    received = _received(500 if quick else 2000)
    found = medians(3 if quick else 5, measure)
    state = _fold(evidence.initial(plan), scored)
    verdict = _seconds(lambda: [default.judge(state) for _ in range(100)]) / 100
    floor = f"{found['floor']:,.0f}/s only to take events apart"
    return {
        "default_per_second": Figure(found["default"], "scores/s", ">= 100000", floor),
        "classic_per_second": Figure(found["classic"], "scores/s", ">= 100000", floor),
        "guard_per_second": Figure(found["guard"], "scores/s", ">= 100000", floor),
        "evaluator_per_second": Figure(found["evaluator"], "scores/s", "", "the whole core, one candidate"),
        "shapley_per_second": Figure(found["worth"], "answers/s", "", "four members, exact over 16 coalitions"),
        "weights_per_second": Figure(found["weights"], "answers/s", "", "logpool1, four members"),
        "verdict_us": Figure(1e6 * verdict, "us", "", "all gates of one candidate"),
        "state_bytes": Figure(float(len(msgspec.msgpack.encode(state))), "bytes", "", f"after {len(rows):,} scores"),
        "verdicts_changed_by_restart": Figure(
            float(_changed(plan, rows)), "verdicts", "<= 0", f"of {LOOKS}, state through its bytes at each look"
        ),
    }


def _rows(days: int) -> tuple[list[Row], Plan]:
    past = forecasts.market(1, 60 * 96)
    prior = np.bincount(past.outcome.ravel(), minlength=3) / past.outcome.size
    plan = forecasts.plan(past, forecasts.forecast(past, noise=0.4, seed=2), forecasts.story(past, 3, prior))
    now = forecasts.market(4, days * 288)
    candidate = forecasts.forecast(now, noise=0.4, seed=5)
    return list(forecasts.rows(now, candidate, forecasts.story(now, 6, prior))), plan


def _scored(row: Row) -> PredictionScored:
    id_ = b"\0" * 16
    return PredictionScored(
        symbol=row.symbol,
        interval_ms=forecasts.FIVE_MINUTES,
        open_time=row.open_time,
        origin="synthetic",
        model="bench",
        artifact=b"\0" * 32,
        role="shadow",
        late=False,
        probabilities=row.probabilities,
        prior=row.prior,
        action=ACTIONS[row.action],
        outcome=ACTIONS[row.outcome],
        hit=row.action == row.outcome,
        forward_return=row.move or 0.0,
        scale=0.003,
        kappa=0.6,
        horizon=12,
        ends=row.open_time,
        hour_return=row.move,
        log_loss=1.0,
        brier=0.6,
        signed_return=row.net or 0.0,
        cost=0.0005,
        incumbent=row.champion,
        incumbent_artifact=b"\1" * 32,
        incumbent_return=row.champion_net,
        pool_with=row.pool or row.probabilities,
        pool_without=row.rest or row.probabilities,
        decided=ACTIONS[row.ensemble],
        control_version=1,
        prediction=id_,
        decision=id_,
        latency_ms=12,
    )


def _fold(state: Evidence, scored: list[PredictionScored]) -> Evidence:
    for one in scored:
        evidence.evolve(state, row_of(one))
    return state


def _classic(scored: list[PredictionScored]) -> None:
    state = classic.initial()
    for one in scored:
        classic.evolve(state, row_of(one))


def _guard(scored: list[PredictionScored]) -> None:
    state = guard.initial(horizon=12, interval_ms=forecasts.FIVE_MINUTES)
    for one in scored:
        guard.evolve(state, row_of(one))


def _members(rows: list[Row], contributions: bool) -> float:
    """Return the predictions a second of four members, made from the candidate and the ensemble."""
    said = [
        MemberScore(name, row.symbol, row.open_time, p, row.outcome)
        for row in rows[: len(rows) // 2]
        for name, p in (("a", row.probabilities), ("b", row.champion), ("c", row.pool), ("d", row.rest))
        if p is not None
    ]
    log_prior = (-1.386, -0.693, -1.386)
    if contributions:
        worth = contribution.initial(ContributionPanel(("a", "b", "c", "d"), (0.25,) * 4, (log_prior,) * 4, log_prior))
        return len(said) / _seconds(lambda: [contribution.evolve(worth, one) for one in said])
    members = [weights.WeightedMember(name, 0.25, log_prior, (0.25, 0.5, 0.25)) for name in "abcd"]
    state = weights.initial(members, horizon=12, interval_ms=forecasts.FIVE_MINUTES)
    return len(said) / _seconds(lambda: [weights.evolve(state, one) for one in said])


def _received(bars: int) -> list[Received]:
    """Return the scores of one candidate as received from the log."""
    return [
        Received("scores", f"{number}-0", encode("scores", row).envelope) for number, row in enumerate(market(bars), 1)
    ]


def _evaluate(received: list[Received]) -> None:
    evaluator = Evaluator()
    state = evaluator.initial(b"")
    evaluator.apply(state, Batch(commands(), ()))
    for start in range(0, len(received), 1000):
        evaluator.handle(state, Batch((), received[start : start + 1000]))


def _rate(scored: Sequence[object], work: Callable[[], object]) -> float:
    return len(scored) / _seconds(work)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _changed(plan: Plan, rows: list[Row]) -> int:
    """Return the number of verdicts that differ between an uninterrupted fold and one that is encoded and decoded
    before every verdict."""
    whole, restarted = evidence.initial(plan), evidence.initial(plan)
    every = len(rows) // LOOKS
    changed = 0
    for number, row in enumerate(rows, start=1):
        evidence.evolve(whole, row)
        evidence.evolve(restarted, row)
        if number % every == 0:
            restarted = msgspec.msgpack.decode(msgspec.msgpack.encode(restarted), type=Evidence)
            changed += default.judge(whole) != default.judge(restarted)
    return changed
