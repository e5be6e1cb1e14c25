"""Given scores of a voting policy in shadow, when they are read, then it is judged against the policy in force."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from bench.recorded import BEFORE, PRIOR, START, market, scored
from schemas.control import (
    Command,
    PromotePolicy,
    Rollback,
    SetGatePolicy,
    SetVotingPolicy,
    StartPolicyShadow,
    StopPolicyShadow,
)
from schemas.gates import ActionDue, EvidenceRestarted, GateVerdict, GuardTripped, VerdictReached
from schemas.scores import PredictionScored, TradedPrices
from services.gate_evaluator.main import issue_for
from shared.control.issuing import ControlWriter
from shared.control.policies import policy_digest
from shared.log.memory import MemoryLog
from tests.services.gate_evaluator.test_core import Bench

IN_FORCE = SetVotingPolicy(quorum_count=1)
SHARP = SetVotingPolicy(quorum_count=1, temperature=0.5)
START_SHADOW = StartPolicyShadow(SHARP, scale=0.3, money_scale=0.02)
GIVEN: tuple[Command, ...] = (*BEFORE, IN_FORCE, START_SHADOW)
"""The policy is in shadow from version 9 on."""
BARS = 24 * 40


def rows(bars: int = BARS, version: int = 9, **other: Any) -> Iterator[PredictionScored]:
    """Scores of a policy that gives the true probabilities; the log odds of the policy in force are half as large."""
    about = {"model": "ensemble", "artifact": bytes.fromhex(policy_digest(SHARP)), "latency_ms": None, **other}
    about["incumbent_artifact"] = bytes.fromhex(policy_digest(IN_FORCE))
    for row in market(bars, symbols=4):
        yield structs.replace(row, control_version=version, pool_with=row.probabilities, **about)


def newest(bench: Bench) -> tuple[VerdictReached, dict[str, GateVerdict]]:
    verdict = bench.of(VerdictReached)[-1]
    return verdict, {gate.name: gate for gate in verdict.gates}


def test_a_better_policy_passes_by_its_log_score() -> None:
    bench = Bench(*GIVEN)
    bench.take(rows())
    verdict, gates = newest(bench)
    assert (verdict.model, verdict.artifact) == ("ensemble", policy_digest(SHARP))
    assert verdict.champion == policy_digest(IN_FORCE)
    assert gates["improvement"].verdict == "passed"
    assert gates["improvement"].detail.startswith("in log score")
    assert {"copy", "contribution", "response"}.isdisjoint(gates)
    assert verdict.overall == "passed", [gate for gate in verdict.gates if gate.verdict != "passed"]


def test_a_policy_of_the_same_probabilities_that_earns_more_passes_by_its_money() -> None:
    def earning() -> Iterator[PredictionScored]:
        """The price rises, and only the candidate ever buys."""
        for row in rows():
            same = structs.replace(row, incumbent=row.probabilities, pool_without=row.probabilities, decided="HOLD")
            close = 100.0 * 1.001 ** ((row.open_time - START) // row.interval_ms)
            prices = TradedPrices(close=close, next_open=close, next_close=close * 1.001, next_volume=1e6)
            yield structs.replace(same, action="BUY", prices=prices)

    bench = Bench(*BEFORE, IN_FORCE, structs.replace(START_SHADOW, scale=0.006, money_scale=0.003))
    bench.take(earning())
    verdict, gates = newest(bench)
    assert gates["improvement"].detail.startswith("in money")
    assert (gates["improvement"].verdict, gates["incumbent"].verdict) == ("passed", "passed")
    assert verdict.overall == "passed", [gate for gate in verdict.gates if gate.verdict != "passed"]


def test_a_policy_that_decides_as_the_one_in_force_never_passes() -> None:
    bench = Bench(*GIVEN)
    bench.take(structs.replace(row, incumbent=row.probabilities, pool_without=row.probabilities) for row in rows())
    verdict, gates = newest(bench)
    assert (gates["improvement"].verdict, verdict.overall) == ("inconclusive", "inconclusive")


def test_a_worse_policy_fails() -> None:
    bench = Bench(*GIVEN)
    bench.take(
        structs.replace(row, probabilities=row.incumbent or PRIOR, incumbent=row.probabilities) for row in rows()
    )
    verdict, gates = newest(bench)
    assert (gates["incumbent"].verdict, verdict.overall) == ("failed", "failed")


def test_under_classic_gates_it_is_judged_by_the_default_ones() -> None:
    bench = Bench(*GIVEN, SetGatePolicy("classic"))
    bench.take(rows(version=10))
    _, gates = newest(bench)
    assert gates["improvement"].verdict == "passed"


@pytest.mark.parametrize("restart", [False, True])
def test_evidence_ends_with_the_shadow_run_and_with_the_policy_in_force(restart: bool) -> None:
    bench = Bench(*GIVEN)
    bench.take(rows(400))
    bench.command(SetVotingPolicy(quorum_count=1, edge=0.2))
    if restart:
        bench.restart()
    bench.take(rows(1, version=10))
    [first] = bench.of(EvidenceRestarted)
    assert (first.model, first.changed) == ("ensemble", ("champion",))
    bench.command(StopPolicyShadow(policy_digest(SHARP)), START_SHADOW)
    bench.take(rows(1, version=12))
    assert bench.of(EvidenceRestarted)[-1].changed == ("candidate",)


def test_the_scales_are_those_under_the_version_of_the_scores_whatever_was_read_since() -> None:
    early, late = Bench(*GIVEN), Bench(*GIVEN)
    late.command(StopPolicyShadow(policy_digest(SHARP)), structs.replace(START_SHADOW, scale=0.01))
    for bench in (early, late):
        bench.take(rows(10))
    [first], [second] = (each.state.memory.candidates.values() for each in (early, late))
    assert first.evidence == second.evidence


def test_after_a_promotion_the_former_policy_is_the_candidate() -> None:
    bench = Bench(*GIVEN, PromotePolicy(policy_digest(SHARP), forced=True))
    bench.take(rows(200, version=10, artifact=bytes.fromhex(policy_digest(IN_FORCE))))
    verdict, _ = newest(bench)
    assert (verdict.artifact, verdict.champion) == (policy_digest(IN_FORCE), policy_digest(SHARP))


ACTING = SetGatePolicy("default", {"automatic": True})
PROMOTED: tuple[Command, ...] = (
    *(*BEFORE, IN_FORCE, StartPolicyShadow(SHARP, scale=0.05, money_scale=0.02), ACTING),
    PromotePolicy(policy_digest(SHARP), forced=True, probation=100_000),
)
"""The sharp policy is in force from version 11 on; the former one continues in shadow."""


def reverse(better: str, bars: int = BARS) -> Iterator[PredictionScored]:
    """Scores of the former policy, which is ``better`` or worse than the one in force, or is its equal in log score and
    earns more (``earns``) by waiting for the moves that come."""
    for row in rows(bars, 11, artifact=bytes.fromhex(policy_digest(IN_FORCE))):
        flat = structs.replace(row, incumbent_artifact=bytes.fromhex(policy_digest(SHARP)), decided="HOLD")
        if better == "former":
            yield flat
        elif better == "in force":
            yield structs.replace(flat, probabilities=row.incumbent or PRIOR, incumbent=row.probabilities)
        else:
            earned = structs.replace(flat, incumbent=row.probabilities, signed_return=0.01, incumbent_return=-0.01)
            yield earned


@pytest.mark.parametrize(("better", "check"), [("former", "harm"), ("earns", "money")])
@pytest.mark.parametrize("restart", [False, True])
def test_a_promoted_policy_that_is_worse_than_the_former_is_to_be_rolled_back(
    better: str, check: str, restart: bool
) -> None:
    bench, scores = Bench(*PROMOTED), list(reverse(better))
    bench.take(scores[:100])
    if restart:
        bench.restart()
    bench.take(scores[100:])
    stages = [(each.model, each.artifact, each.ghost, each.stage) for each in bench.of(GuardTripped)]
    about = ("ensemble", policy_digest(SHARP), policy_digest(IN_FORCE))
    assert stages == [(*about, "step_down"), (*about, "rollback")]
    assert bench.of(GuardTripped)[-1].guard == check
    [due] = [each for each in bench.of(ActionDue) if each.action != "confirm_promotion"]
    assert (due.model, due.artifact, due.action, due.acts) == ("ensemble", policy_digest(SHARP), "rollback", True)
    ids = {one.envelope.id.hex(): one.envelope.event for one in bench.written}
    assert ids[due.evidence] == bench.of(GuardTripped)[-1]


def test_a_promoted_policy_that_is_better_is_confirmed() -> None:
    bench = Bench(*PROMOTED)
    bench.take(reverse("in force"))
    assert bench.of(GuardTripped) == []
    [due] = bench.of(ActionDue)
    assert (due.model, due.action, due.acts) == ("ensemble", "confirm_promotion", True)


def test_the_guard_of_a_policy_ends_with_it_and_other_shadows_do_not_count() -> None:
    bench = Bench(*PROMOTED)
    bench.take(structs.replace(row, artifact=bytes.fromhex("7e" * 32)) for row in reverse("former", 10))
    assert bench.state.memory.guards == {}
    bench.take(reverse("former", 10))
    assert list(bench.state.memory.guards) == ["ensemble"]
    bench.command(Rollback(model="ensemble"))
    bench.take(rows(1, version=12))
    assert bench.state.memory.guards == {}


@pytest.mark.anyio
async def test_the_gate_evaluator_rolls_back_the_policy_alone() -> None:
    writer = ControlWriter(MemoryLog())
    for command in PROMOTED:
        await writer.issue(command, actor="ada", reason="a test")
    due = ActionDue(
        model="ensemble",
        artifact=policy_digest(SHARP),
        action="rollback",
        acts=True,
        evidence="0e" * 16,
        reason="guard harm",
        control_version=11,
    )
    assert await issue_for(writer, due, "0f" * 16) == "version 12"
    state = await writer.state()
    assert state.policy == IN_FORCE
    assert not state.probations
    assert "no longer the champion" in await issue_for(writer, due, "0f" * 16)


def test_scores_of_the_ensemble_teach_no_weights_and_trip_no_guard() -> None:
    bench = Bench(*GIVEN)
    bench.take([scored(1, "SYN0", PRIOR, 1, model="ensemble", artifact=bytes.fromhex(policy_digest(SHARP)))])
    assert (bench.state.memory.weight_learning, bench.state.memory.guards, bench.state.memory.decays) == (None, {}, {})
