"""Which verdict lets a promotion stand, in one partition and in several."""

from typing import Any

import pytest
from msgspec import structs

from bench.recorded import BEFORE, CANDIDATE, commands, record, scored, verdict
from schemas.control import Found, Promote, PromotePolicy, SetVotingPolicy, StartPolicyShadow
from schemas.gates import EvidenceRestarted
from shared.control import EMPTY, State, fold
from shared.control.policies import policy_digest
from shared.gates.passing import NoVerdict, passing_verdict, with_verdict
from shared.gates.policies import digest_of
from shared.log.memory import MemoryLog

pytestmark = pytest.mark.anyio
ABOUT = ("xgboost", CANDIDATE.hex())
PROMOTE = Promote("xgboost", CANDIDATE.hex())
IN_FORCE = digest_of(None)
RESTARTED = EvidenceRestarted(
    model="xgboost",
    artifact=CANDIDATE.hex(),
    changed=("champion",),
    policy="default",
    policy_digest=IN_FORCE,
    scores=80,
    control_version=8,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def site(partitions: int = 1) -> State:
    state = EMPTY
    for envelope in commands(first=[Found(partitions, "log-of-a-test"), *BEFORE[1:]]):
        state = fold(state, envelope.event)
    return state


def passed(**other: Any) -> Any:
    return verdict("passed", **{"policy_digest": IN_FORCE, **other})


async def test_a_promotion_gets_the_newest_verdict_that_passed() -> None:
    log = MemoryLog()
    names = await record(log, "gates", [passed(), passed(scores=5300)])
    assert await passing_verdict(log, site(), *ABOUT) == names[-1]
    assert await with_verdict(log, site(), PROMOTE) == (structs.replace(PROMOTE, verdict=names[-1]), ())


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (verdict("failed", policy_digest=IN_FORCE), "not passed: skill"),
        (verdict("inconclusive", policy_digest=IN_FORCE), "inconclusive after 4800 scores"),
        (passed(policy_digest="3b" * 32), "under another gate policy"),
        (passed(champion="0d" * 32), "against another champion"),
        (RESTARTED, "evidence restarted (champion changed)"),
    ],
)
async def test_what_came_after_a_pass_is_what_counts(later: Any, why: str) -> None:
    log = MemoryLog()
    await record(log, "gates", [passed(), later])
    command, said = await with_verdict(log, site(), PROMOTE)
    assert isinstance(command, Promote)
    assert command.verdict is None
    assert why in said[0]


async def test_a_verdict_of_ones_own_is_no_verdict() -> None:
    log = MemoryLog()
    await record(log, "gates", [passed()])
    command, said = await with_verdict(log, site(), structs.replace(PROMOTE, verdict="ab" * 16))
    assert isinstance(command, Promote)
    assert command.verdict is None
    assert "is not the valid one" in said[0]


async def test_what_is_forced_and_what_is_no_promotion_needs_no_verdict() -> None:
    for command in (structs.replace(PROMOTE, forced=True), SetVotingPolicy()):
        assert await with_verdict(MemoryLog(), site(), command) == (command, ())


async def test_a_voting_policy_is_promoted_by_its_verdict_against_the_policy_in_force() -> None:
    policy, state = SetVotingPolicy(quorum_count=1, edge=0.2), site()
    for envelope in commands(first=[*BEFORE, StartPolicyShadow(policy)])[len(BEFORE) :]:
        state = fold(state, envelope.event)
    about = {"model": "ensemble", "artifact": policy_digest(policy)}
    command, log = PromotePolicy(policy_digest(policy)), MemoryLog()
    await record(log, "gates", [passed(**about, champion="0d" * 32)])
    _, said = await with_verdict(log, state, command)
    assert "another voting policy than the one in force" in said[0]
    [name] = await record(log, "gates", [passed(**about, champion=policy_digest(state.policy))])
    assert await with_verdict(log, state, command) == (structs.replace(command, verdict=name), ())
    forced = structs.replace(command, forced=True)
    assert await with_verdict(log, state, forced) == (forced, ())


async def test_every_partition_that_has_scores_must_have_passed_it() -> None:
    log, state = MemoryLog(), site(3)
    for partition in (0, 2):
        await record(log, "scores", [scored(0, f"SYN{partition}", (0.2, 0.5, 0.3), 1)], partition)
    (first,) = await record(log, "gates", [passed()], 0)
    with pytest.raises(NoVerdict, match="in partition 2: there is no verdict on it"):
        await passing_verdict(log, state, *ABOUT)
    await record(log, "gates", [verdict("failed", policy_digest=IN_FORCE)], 2)
    with pytest.raises(NoVerdict, match="in partition 2: failed"):
        await passing_verdict(log, state, *ABOUT)
    await record(log, "gates", [passed(scores=6000)], 2)
    assert await passing_verdict(log, state, *ABOUT) == first
