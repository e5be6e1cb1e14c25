"""Digests are noted outside the log and found again: in checkpoints, in cuts, on the server."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from msgspec.structs import replace

from schemas.codec import Encoded, encode
from schemas.features import FeaturesWithheld
from services.archiver.sealing import run_round
from shared.archive.restoring import restore
from shared.archive.store import FolderStore
from shared.audit.known import collect, mark_withdrawn, of_archive, of_checkpoints, of_server
from shared.audit.live import live
from shared.audit.sealed import ArchivedRecording as SealedSource
from shared.audit.written import KnownDigest, check_written
from shared.control import EMPTY, State
from shared.control.checkpoint import file_of, note_digests, read_digests
from shared.log import Commit, Owner, StreamKey, preceding
from shared.log.admin import opened_whole
from shared.log.memory import MemoryLog
from shared.log.redis import RedisLog
from shared.log.written import Written
from shared.runtime import process
from shared.runtime.host import Host
from shared.runtime.service import Batch
from shared.settings import Installation, Settings
from tests.minute_bars import minute_bars

FEATURES = StreamKey("features")
ME = Owner("here", 4_000_001, "me")
STATE = replace(EMPTY, version=7, head="ab" * 32, log_id="log-1")

pytestmark = pytest.mark.anyio


def withheld(number: int) -> Encoded:
    event = FeaturesWithheld(
        symbol="BTC",
        interval_ms=60_000,
        open_time=60_000 * number,
        origin="synthetic",
        feature_set=bytes(32),
        reason="warming",
        have=0,
        need=1,
    )
    return encode("features", event)


def written(entries: int, digest: int = 0) -> dict[str, Written]:
    return {"features": Written("1-0", f"{entries}-0", entries, bytes([digest or entries] * 32))}


async def write(log: Any, *numbers: int) -> None:
    claim = await log.claim("feature-builder", [], 0, ME)
    await log.commit(claim, Commit([withheld(number) for number in numbers], {}, {}, bytes(numbers)))
    await log.release(claim)


async def publish(log: Any, *numbers: int) -> None:
    """Bars, as a feed writes them."""
    bars = minute_bars(*numbers)
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(bars, {}, {}, bytes(numbers)))
    await log.release(claim)


@pytest.fixture
async def server(empty_redis_url: str) -> AsyncIterator[RedisLog]:
    """A log on a server."""
    opened = RedisLog(empty_redis_url)
    yield opened
    await opened.close()


async def nothing() -> None:
    """The archive is ours."""


def test_what_was_noted_is_read_back_with_the_control_head(tmp_path: Path) -> None:
    note_digests(tmp_path, 0, "feature-builder", written(3), STATE, at=11)
    note_digests(tmp_path, 0, "feature-builder", written(5), STATE, at=12)
    lines, unreadable = read_digests(file_of(tmp_path, 0))
    assert [(line.version, line.head, line.log_id) for line in lines] == [(7, "ab" * 32, "log-1")] * 2
    assert unreadable == 0
    known = of_checkpoints(tmp_path, partitions=2)
    assert [each.written for each in known] == [written(3)["features"], written(5)["features"]]
    assert [(each.place, each.group, each.at) for each in known] == [
        (FEATURES, "feature-builder", 11),
        (FEATURES, "feature-builder", 12),
    ]
    assert of_checkpoints(tmp_path, 1, "another-log") == []


def test_a_torn_line_is_written_over_and_a_spoilt_one_is_left_out(tmp_path: Path) -> None:
    note_digests(tmp_path, 0, "feature-builder", written(3), STATE, at=1)
    path = file_of(tmp_path, 0)
    path.write_bytes(b"{}\n" + path.read_bytes() + b'{"log_id":"lo')
    note_digests(tmp_path, 0, "feature-builder", written(4), STATE, at=2)
    lines, unreadable = read_digests(path)
    assert ([line.at for line in lines], unreadable) == ([1, 2], 1)


def test_a_note_is_withdrawn_by_a_later_one_of_fewer_entries() -> None:
    def note(entries: int, at: int) -> KnownDigest:
        return KnownDigest(FEATURES, "feature-builder", written(entries)["features"], "here", at)

    checkpoints = [note(3, 1), note(9, 2), note(5, 3), note(12, 4)]
    found = mark_withdrawn(checkpoints, [note(8, 2), note(8, 4), note(4, 2)])
    assert [(each.written.entries, each.withdrawn) for each in found] == [
        (3, False),
        (9, True),
        (5, False),
        (12, False),
        (8, True),
        (8, False),
        (4, False),
    ]


def test_a_disk_that_refuses_is_reported_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    note = process.digests_noted(Settings(installation=Installation(state=str(tmp_path))), "feature-builder", 0, STATE)
    for count in (1, 2):
        note(STATE, written(count))
    assert [record.message.partition(" could")[0] for record in caplog.records] == [
        "digests of what feature-builder wrote"
    ]
    (tmp_path / "checkpoints").unlink()
    note(EMPTY, written(3))
    [known] = of_checkpoints(tmp_path / "checkpoints", 1)
    assert known.written.entries == 3


class Copies:
    """A core that writes a withheld vector for each bar."""

    group = "feature-builder"
    reads = ("market",)
    follows_control = False
    ticks = 0

    def initial(self, memo: bytes) -> list[int]:
        return []

    def apply(self, state: list[int], batch: Batch) -> None:
        """Nothing is remembered."""

    def handle(self, state: list[int], batch: Batch) -> list[Encoded]:
        return [withheld(received.envelope.event.open_time // 60_000) for received in batch.events]

    def snapshot(self, state: list[int]) -> bytes:
        return b""

    def replay_from(self, state: list[int]) -> Mapping[str, str]:
        return {}


async def test_a_process_notes_its_digests_when_it_stops_and_when_it_starts(tmp_path: Path) -> None:
    log = MemoryLog()
    await publish(log, 1, 2, 3)

    def noting(state: State, found: Mapping[str, Written]) -> None:
        note_digests(tmp_path, 0, "feature-builder", found, STATE, at=1)

    for expected in ([3], [3, 3, 4]):
        stop = anyio.Event()
        host = Host(Copies(), log, 0, ME, note_digests=noting)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run, stop)
            with anyio.fail_after(10):
                while len(await log.scan(FEATURES)) < expected[-1]:
                    await anyio.sleep(0.001)
            stop.set()
        assert [each.written.entries for each in of_checkpoints(tmp_path, 1)] == expected
        await publish(log, 4)


async def test_the_server_its_archive_and_a_restored_one_agree_with_the_streams(
    server: RedisLog, empty_redis_url: str, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "archive")
    for numbers in ((1, 2, 3), (4, 5)):
        await write(server, *numbers)
        async with opened_whole(empty_redis_url, "test") as whole:
            await run_round(server, whole, store, partitions=1, now=1, renew=nothing)
    await write(server, 6)
    known = [*of_archive(store), *await of_server(server, 1)]
    assert [each.written.entries for each in known] == [3, 5, 6]

    def looked_at(url: str) -> int:
        assert collect(1, url=url, store=store) == known
        with live(url) as source:
            found = check_written(source, known, 0)
            assert (found.count, found.unchecked) == (0, {})
            return found.checked["written"]

    assert await anyio.to_thread.run_sync(looked_at, empty_redis_url) == 6
    sealed = check_written(SealedSource(store), of_archive(store), 0)
    assert (sealed.count, sealed.unchecked, sealed.checked) == (0, {}, {"written": 5})

    async with opened_whole(empty_redis_url, "test") as whole:
        with redis.Redis.from_url(empty_redis_url) as client:
            client.flushall()
        await restore(store, whole)
    await write(server, 7)
    known = [*of_archive(store), *await of_server(server, 1)]
    assert [each.written.entries for each in known] == [3, 5, 6]
    assert await anyio.to_thread.run_sync(looked_at, empty_redis_url) == 6


async def test_an_entry_removed_from_the_server_contradicts_the_group_and_the_cut(
    server: RedisLog, empty_redis_url: str, tmp_path: Path
) -> None:
    await write(server, 1, 2, 3, 4)
    known = await of_server(server, 1)
    entries = await server.scan(FEATURES)
    await server._ask("XDEL", FEATURES.key, entries[1].id)

    def differs(url: str) -> str:
        with live(url) as source:
            found = check_written(source, known, 0)
        assert found.code == 1
        assert found.first is not None
        return found.first.detail

    detail = await anyio.to_thread.run_sync(differs, empty_redis_url)
    assert "3 entries were read, 4 were written" in detail
    assert preceding(entries[0].id) not in detail
