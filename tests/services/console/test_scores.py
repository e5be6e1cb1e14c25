"""Recorded scores are read a page at a time, in the order of their bars."""

import pytest

import shared.archive.history
from bench.recorded import CANDIDATE, PRIOR, record, scored, verdict
from schemas.gates import EvidenceRestarted
from services.console.evidence.records import read_verdicts, recorded_scores
from shared.log import StreamKey
from shared.log.memory import MemoryLog
from shared.report.summary import Verdict

pytestmark = pytest.mark.anyio
NAME = ("xgboost", CANDIDATE.hex())
RESTARTED = EvidenceRestarted(
    model="xgboost",
    artifact=CANDIDATE.hex(),
    changed=("champion",),
    policy="default",
    policy_digest="2a" * 32,
    scores=4800,
    control_version=8,
)


async def test_partitions_are_read_together_in_the_order_of_their_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.archive.history, "PAGE", 3)
    log = MemoryLog()
    for partition in range(3):
        await record(log, "scores", [scored(bar, f"S{partition}", PRIOR, 1) for bar in range(10)], partition)
    found = [one.event async for one in recorded_scores(log, 3)]
    bars = [one.open_time for one in found if one is not None]
    assert bars == sorted(bars)
    assert len(found) == 30
    assert [one.symbol for one in found[:3] if one is not None] == ["S0", "S1", "S2"]


async def test_what_cannot_be_read_keeps_its_place_and_hides_nothing() -> None:
    log = MemoryLog()
    await record(log, "scores", [scored(0, "A", PRIOR, 1)])
    last = (await log.extent(StreamKey("scores"))).last
    assert await log.append_at(StreamKey("scores"), f"{int(last.split('-')[0]) + 1}-0", b"nothing")
    assert [one.event is None async for one in recorded_scores(log, 1)] == [False, True]


async def test_an_empty_log_has_no_scores() -> None:
    assert [one async for one in recorded_scores(MemoryLog(), 2)] == []


async def test_the_newest_verdict_counts() -> None:
    log = MemoryLog()
    _, second = await record(log, "gates", [verdict("inconclusive"), verdict("passed")])
    verdicts = await read_verdicts(log, 1)
    assert verdicts.newest() == {NAME: Verdict(second, verdict("passed"))}
    assert verdicts.passed[NAME].id == second


async def test_evidence_that_began_anew_voids_the_verdict_before_it() -> None:
    log = MemoryLog()
    await record(log, "gates", [verdict("passed"), RESTARTED])
    verdicts = await read_verdicts(log, 1)
    assert verdicts.newest() == {}
    assert verdicts.candidates[NAME][0].restarted == RESTARTED
