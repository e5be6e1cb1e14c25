"""What counts as ready: the newest word of the worker that lives."""

import pytest

from schemas.codec import encode
from schemas.control import Halt, Promote
from schemas.readiness import ArtifactFailed, ArtifactFreed, ArtifactReady
from shared.control import State
from shared.control.readiness import evidence, with_readiness
from shared.log import Commit, Log, Owner, StreamKey

pytestmark = pytest.mark.anyio

GROUP = "model-worker.m"
ONE, TWO = "11" * 32, "22" * 32
FIRST, SECOND = Owner("elsewhere", 1, GROUP), Owner("elsewhere", 2, GROUP)


async def announce(log: Log, owner: Owner, *events: object, partition: int = 0) -> list[str]:
    """A worker takes its group over and says this; the ids."""
    claim = await log.claim(GROUP, ("features",), partition, owner, take_over=True)
    sealed = [encode("readiness", event) for event in events]
    await log.commit(claim, Commit(sealed, {}, {}))
    return [each.envelope.id.hex() for each in sealed]


def ready(owner: Owner, artifact: str = ONE, at: int = 1, life: str = "6f1d09b2") -> ArtifactReady:
    return ArtifactReady(
        model="m", artifact=artifact, owner=str(owner), life=life, control_version=3, took_ms=20, at=at
    )


def failed(owner: Owner, at: int = 1) -> ArtifactFailed:
    return ArtifactFailed(
        model="m",
        artifact=ONE,
        owner=str(owner),
        life="6f1d09b2",
        control_version=3,
        reason="model.ubj: missing",
        at=at,
    )


async def test_what_the_living_worker_holds_is_ready(log: Log) -> None:
    (one, two) = await announce(log, FIRST, ready(FIRST), ready(FIRST, TWO))
    assert await evidence(log, 1, "m", ONE) == ((one,), ())
    assert await evidence(log, 1, "m", TWO) == ((two,), ())


async def test_what_was_never_loaded_is_not_and_the_way_out_is_said(log: Log) -> None:
    await announce(log, FIRST, ready(FIRST, TWO))
    found = await evidence(log, 1, "m", ONE)
    assert found.ids == ()
    assert found.missing == (
        "model-worker.m, partition 0: not loaded; start it in shadow first (`conclave shadow start m 111111111111`)",
    )


async def test_the_word_of_a_former_owner_is_void(log: Log) -> None:
    await announce(log, FIRST, ready(FIRST))
    await announce(log, SECOND, ready(SECOND, TWO))
    assert (await evidence(log, 1, "m", ONE)).ids == ()


async def test_what_it_said_before_it_was_started_anew_is_void(log: Log) -> None:
    await announce(log, FIRST, ready(FIRST), ready(FIRST, TWO, life="a-new-life"))
    assert (await evidence(log, 1, "m", ONE)).ids == ()
    assert len((await evidence(log, 1, "m", TWO)).ids) == 1


async def test_a_worker_that_is_gone_holds_nothing(log: Log) -> None:
    await announce(log, FIRST, ready(FIRST))
    await log.release(await log.claim(GROUP, ("features",), 0, FIRST, take_over=True))
    assert (await evidence(log, 1, "m", ONE)).missing[0].startswith("model-worker.m, partition 0: no living worker")


async def test_the_newest_word_counts(log: Log) -> None:
    (_, again) = await announce(log, FIRST, failed(FIRST), ready(FIRST, at=2))
    assert (await evidence(log, 1, "m", ONE)).ids == (again,)
    await announce(log, FIRST, failed(FIRST, at=3))
    assert (await evidence(log, 1, "m", ONE)).missing == (
        "model-worker.m, partition 0: it did not load: model.ubj: missing",
    )


async def test_what_was_freed_is_not_ready(log: Log) -> None:
    freed = ArtifactFreed(model="m", artifact=ONE, owner=str(FIRST), life="6f1d09b2", control_version=4)
    await announce(log, FIRST, ready(FIRST), freed)
    assert "not loaded; start it in shadow first" in (await evidence(log, 1, "m", ONE)).missing[0]


async def test_every_partition_must_hold_it(log: Log) -> None:
    (one,) = await announce(log, FIRST, ready(FIRST))
    (found, missing) = await evidence(log, 2, "m", ONE)
    assert (found, len(missing)) == ((one,), 1)
    assert "partition 1" in missing[0]


async def test_a_promotion_is_given_its_evidence_and_other_commands_are_left_alone(log: Log) -> None:
    (one,) = await announce(log, FIRST, ready(FIRST))
    state = State(partitions=1)
    assert await with_readiness(log, state, Promote("m", ONE)) == (Promote("m", ONE, ready=(one,)), ())
    named = Promote("m", TWO, ready=("ab" * 16,))
    assert await with_readiness(log, state, named) == (named, ())
    assert await with_readiness(log, state, Halt()) == (Halt(), ())


async def test_the_stream_is_kept_by_partition(log: Log) -> None:
    await announce(log, FIRST, ready(FIRST), partition=3)
    assert len(await log.tail(StreamKey("readiness", 3), 10)) == 1
