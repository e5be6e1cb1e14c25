"""The running digest of a group equals the digest of its entries on the stream, however they were written."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Encoded, encode
from schemas.decisions import BallotLate, FenceClosed
from schemas.features import FeaturesWithheld
from schemas.predictions import PredictionFailed
from shared.audit.written import writer
from shared.log import Claim, Commit, Entry, Log, Owner, StreamKey
from shared.log.admin import opened_whole
from shared.log.memory import MemoryLog
from shared.log.redis import RedisLog
from shared.log.written import SIZE, Written, extend, of_fields, of_text, start, to_text
from shared.server.embedded import EmbeddedServer

FEATURES, PREDICTIONS, DECISIONS = StreamKey("features"), StreamKey("predictions"), StreamKey("decisions")
ME = Owner("here", 4_000_001, "me")
GROUP_KEY = "conclave:{p0}:group:feature-builder"

pytestmark = pytest.mark.anyio


def withheld(number: int) -> Encoded:
    return encode(
        "features",
        FeaturesWithheld(
            symbol="BTC",
            interval_ms=60_000,
            open_time=60_000 * number,
            origin="synthetic",
            feature_set=bytes(32),
            reason="warming",
            have=0,
            need=1,
        ),
    )


def failed(model: str, number: int) -> Encoded:
    return encode(
        "predictions",
        PredictionFailed(
            symbol="BTC",
            interval_ms=60_000,
            open_time=60_000 * number,
            origin="synthetic",
            model=model,
            artifact=bytes(32),
            reason="error",
            detail="",
            vector=bytes(16),
            control_version=1,
        ),
    )


def late(number: int) -> Encoded:
    event = BallotLate(
        symbol="BTC",
        interval_ms=60_000,
        open_time=60_000 * number,
        origin="synthetic",
        model="m",
        artifact="0" * 64,
        event="0" * 32,
    )
    return encode("decisions", event)


def events(*numbers: int) -> list[Encoded]:
    return [withheld(number) for number in numbers]


def recomputed(place: StreamKey, group: str, entries: Sequence[Entry]) -> Written:
    """The digest of a group by the definition, from the entries of the stream."""
    own = [entry for entry in entries if writer(place.stream, entry.data) == group]
    digest = extend(start(place.stream, place.partition, group), [entry.data for entry in own])
    return Written(own[0].id, own[-1].id, len(own), digest)


async def claimed(log: Log, group: str = "feature-builder", partition: int = 0) -> Claim:
    return await log.claim(group, [], partition, ME)


async def write(log: Log, claim: Claim, outputs: Sequence[Encoded]) -> None:
    await log.commit(claim, Commit(outputs, {}, {}, str(outputs).encode()))


async def test_a_digest_is_that_of_the_entries_whatever_the_batches(log: Log) -> None:
    claim = await claimed(log)
    for batch, total in ((events(1, 2, 3), 3), (events(4), 4), (events(5, 6), 6)):
        await write(log, claim, batch)
        written = await log.written(claim)
        assert written == {"features": recomputed(FEATURES, "feature-builder", await log.scan(FEATURES))}
        assert written["features"].entries == total


async def test_a_new_group_has_written_nothing(log: Log) -> None:
    claim = await claimed(log)
    assert claim.written == {}
    assert await log.written(claim) == {}


async def test_a_restart_goes_on_from_the_digest(site: Any) -> None:
    first, second = site.connect(), site.connect()
    await write(first, await claimed(first), events(1, 2))
    again = await claimed(second)
    assert again.written["features"].entries == 2
    await write(second, again, events(3))
    (view,) = await first.groups(0)
    assert view.written == {"features": recomputed(FEATURES, "feature-builder", await first.scan(FEATURES))}
    assert view.written["features"].entries == 3


async def test_a_commit_that_is_sent_again_counts_once(log: Log) -> None:
    claim = await claimed(log)
    for commit in (Commit(events(1, 2), {}, {}, b"a"), Commit(events(3), {}, {}, b"b")):
        for _ in range(3):
            await log.commit(claim, commit)
    assert await log.written(claim) == {"features": recomputed(FEATURES, "feature-builder", await log.scan(FEATURES))}


async def test_a_commit_that_was_refused_changes_no_digest(site: Any) -> None:
    log, other = site.connect(), site.connect()
    old = await claimed(log)
    await write(log, old, events(1))
    new = await other.claim("feature-builder", [], 0, Owner("there", 2, "x"), take_over=True)
    with pytest.raises(RuntimeError, match="nothing was written"):
        await write(log, old, events(2))
    await write(other, new, events(3))
    assert await other.written(new) == {"features": recomputed(FEATURES, "feature-builder", await other.scan(FEATURES))}


async def test_workers_of_two_models_have_a_digest_each_on_one_stream(log: Log) -> None:
    one, two = await claimed(log, "model-worker.one"), await claimed(log, "model-worker.two")
    for number in range(4):
        await write(log, one, [failed("one", number)])
        await write(log, two, [failed("two", number), failed("two", 100 + number)])
    entries = await log.scan(PREDICTIONS)
    assert await log.written(one) == {"predictions": recomputed(PREDICTIONS, "model-worker.one", entries)}
    assert await log.written(two) == {"predictions": recomputed(PREDICTIONS, "model-worker.two", entries)}


async def test_what_others_may_write_to_a_stream_is_in_no_digest(log: Log) -> None:
    closed = encode("decisions", FenceClosed("c1", "ada", "test", 1))
    claim = await claimed(log, "ensemble-voter")
    await write(log, claim, [late(1), closed, late(2)])
    written = await log.written(claim)
    assert written["decisions"].entries == 2
    assert written == {"decisions": recomputed(DECISIONS, "ensemble-voter", await log.scan(DECISIONS))}


async def test_streams_of_another_service_and_other_groups_have_no_digest(log: Log) -> None:
    for group in ("voter", "shadow-recorder"):
        claim = await claimed(log, group)
        await write(log, claim, events(1))
        assert await log.written(claim) == {}


async def test_partitions_and_groups_begin_from_different_digests(log: Log) -> None:
    found = set()
    for partition in (0, 1):
        claim = await claimed(log, partition=partition)
        await write(log, claim, events(1))
        found.add((await log.written(claim))["features"].digest)
    assert len(found) == 2
    assert start("decisions", 0, "ensemble-voter") != start("intents", 0, "ensemble-voter")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.lists(st.integers(0, 50), max_size=4),
            st.sampled_from(["once", "twice", "restart", "takeover"]),
        ),
        max_size=12,
    )
)
def test_no_batches_repetitions_or_restarts_part_the_digest_from_the_stream(
    steps: list[tuple[str, list[int], str]],
) -> None:
    async def run() -> None:
        log, claims = MemoryLog(), dict[str, Claim]()
        for at, (model, numbers, how) in enumerate(steps):
            group = f"model-worker.{model}"
            if group not in claims or how in {"restart", "takeover"}:
                if how == "restart" and group in claims:
                    await log.release(claims[group])
                claims[group] = await log.claim(group, [], 0, Owner("here", at + 1, "me"), take_over=True)
            commit = Commit([failed(model, number) for number in numbers], {}, {}, b"%d" % at)
            for _ in range(2 if how == "twice" else 1):
                await log.commit(claims[group], commit)
        entries = await log.scan(PREDICTIONS)
        for view in await log.groups(0):
            own = [entry for entry in entries if writer("predictions", entry.data) == view.group]
            expected = {"predictions": recomputed(PREDICTIONS, view.group, entries)} if own else {}
            assert view.written == expected

    anyio.run(run)


def test_a_field_reads_back_and_anything_else_is_refused() -> None:
    written = Written("5-0", "5-2", 3, bytes(range(SIZE)))
    assert of_text(to_text(written)) == written
    for wrong in ("", "5-0 5-2 3", "5-2 5-0 3 " + "0" * 64, "5-0 5-2 0 " + "0" * 64, "5-0 5-2 3 00", "5-0 x 3 zz"):
        with pytest.raises(ValueError, match=r".+"):
            of_text(wrong)
        assert of_fields({"wrote:features": wrong.encode(), "pos:market": b"0-0 0"}) == {}


# On a server


async def test_a_group_without_the_field_begins_with_the_next_entry(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url)
    await write(log, await claimed(log), events(1, 2))
    with redis.Redis.from_url(empty_redis_url) as client:
        client.hdel(GROUP_KEY, "wrote:features", "wrote")  # a hash as an older release left it
    claim = await claimed(log)
    assert claim.written == {}
    await write(log, claim, events(3, 4))
    entries = await log.scan(FEATURES)
    assert await log.written(claim) == {"features": recomputed(FEATURES, "feature-builder", entries[2:])}
    await log.close()


async def test_a_digest_begins_anew_where_an_older_release_owned_the_group_in_between(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url)
    await write(log, await claimed(log), events(1, 2))
    with redis.Redis.from_url(empty_redis_url) as client:
        client.hincrby(GROUP_KEY, "epoch", 1)  # its claim, and what it wrote
        client.xadd(FEATURES.key, {"e": withheld(3).data})
    claim = await claimed(log)
    assert claim.written == {}
    await write(log, claim, events(4))
    assert (await log.written(claim))["features"] == recomputed(
        FEATURES, "feature-builder", (await log.scan(FEATURES))[3:]
    )
    await log.close()


async def test_a_group_that_was_restored_goes_on_from_its_digest(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url)
    await write(log, await claimed(log), events(1, 2))
    async with opened_whole(empty_redis_url, "test") as whole:
        fields = (await whole.cut(0)).groups["feature-builder"]
        with redis.Redis.from_url(empty_redis_url) as client:
            client.delete(GROUP_KEY)
        await whole.restore_group("feature-builder", 0, fields)
    claim = await claimed(log)
    await write(log, claim, events(3))
    written = await log.written(claim)
    assert written == {"features": recomputed(FEATURES, "feature-builder", await log.scan(FEATURES))}
    await log.close()


async def test_a_server_killed_between_commits_keeps_entries_and_digest_together() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder), fsync="always", die_with_parent=True)
        url = server.start()
        log = RedisLog(url)
        try:
            claim = await claimed(log)
            for turn in range(3):
                await write(log, claim, events(2 * turn, 2 * turn + 1))
                server.kill()
                port = int(url.rpartition(":")[2][:-2])
                server = EmbeddedServer(Path(folder), port=port, fsync="always", die_with_parent=True)
                server.start()
            written = await log.written(claim)
            assert written == {"features": recomputed(FEATURES, "feature-builder", await log.scan(FEATURES))}
            assert written["features"].entries == 6
        finally:
            await log.close()
            server.stop()
