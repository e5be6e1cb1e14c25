"""The archiver on a real server: what is sealed, what goes, what stays, and what comes back."""

import errno
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from schemas.catalogue import DAY_MS
from schemas.codec import encode
from schemas.operations import DeadLetter
from services.archiver.sealing import ArchiveError, Round, run_round
from shared.archive import CorruptError, SealedHistory, WholeHistory, entries
from shared.archive.checking import check, check_cuts
from shared.archive.restoring import restore
from shared.archive.store import Disk, FolderStore, SegmentStore, UrlStore
from shared.log import START, Claim, Commit, Entry, Owner, Position, StreamKey
from shared.log.admin import NotEmptyError, opened_whole
from shared.log.redis import RedisLog
from shared.server.embedded import EmbeddedServer
from tests.minute_bars import minute_bar
from tests.shared.archive.conftest import MARKET

pytestmark = pytest.mark.anyio
ME = Owner("here", 4_000_001, "me")
LATER = 400 * DAY_MS


async def nothing() -> None:
    """Renews nothing."""


class World:
    """A server with a log, and an archive."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.log = RedisLog(url, patience_s=2.0)
        self.client = redis.Redis.from_url(url)
        self.folder = folder
        self.store: SegmentStore = FolderStore(folder)
        self.number = 0

    async def bars(self, count: int) -> None:
        claim = await self.log.claim("feed", [], 0, ME, take_over=True)
        outputs = [minute_bar(self.number + each) for each in range(count)]
        await self.log.commit(claim, Commit(outputs, {}, {}, memo=str(self.number).encode()))
        await self.log.release(claim)
        self.number += count

    async def letter(self, text: str) -> None:
        claim = await self.log.claim("feed", [], 0, ME, take_over=True)
        await self.log.commit(
            claim,
            Commit(
                [encode("dead", DeadLetter(service="feed", source="a:1", reason="bad_row", detail=text, raw=""))],
                {},
                {},
            ),
        )

    async def reads(self, group: str, count: int, since: int | None = None) -> Claim:
        claim = await self.log.claim(group, ["market"], 0, ME, take_over=True)
        found = await self.log.scan(MARKET, count=count)
        after = Position(found[-1].id, len(found))
        kept = {} if since is None else {"market": found[since].id}
        await self.log.commit(claim, Commit([], dict(claim.positions), {"market": after}, since=kept))
        return claim

    async def round(self, later: int = 0, copy: SegmentStore | None = None) -> Round:
        async with opened_whole(self.url, "test") as whole:
            now = time.time_ns() // 1_000_000 + later
            return await run_round(self.log, whole, self.store, partitions=1, now=now, copy=copy, renew=nothing)

    async def all(self, place: StreamKey = MARKET) -> list[Entry]:
        return [one async for one in entries(WholeHistory(self.log, self.store), place)]


@pytest.fixture
async def world(empty_redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = World(empty_redis_url, tmp_path / "archive")
    yield made
    await made.log.close()
    made.client.close()


async def test_what_is_sealed_old_and_needed_by_no_group_is_trimmed_and_still_read(world: World) -> None:
    await world.bars(30)
    await world.reads("feature-builder", 30)
    before = await world.all()
    done = await world.round(LATER)
    assert (done.sealed, done.trimmed) == (30, 30)
    assert (await world.log.extent(MARKET)).length == 0
    assert await world.all() == before
    await world.bars(5)
    assert [entry.data for entry in await world.all()] == [minute_bar(number).data for number in range(35)]


async def test_what_is_young_stays(world: World) -> None:
    await world.bars(30)
    assert (await world.round()).trimmed == 0
    assert (await world.log.extent(MARKET)).length == 30


async def test_what_a_group_has_not_read_stays_and_the_group_is_named(world: World) -> None:
    await world.bars(30)
    await world.reads("feature-builder", 30)
    await world.reads("shadow-recorder", 10)
    done = await world.round(LATER)
    assert done.trimmed == 10
    assert {one.place.stream: one.held_by for one in done.kept}["market"] == "shadow-recorder"


async def test_what_a_group_would_read_again_after_a_crash_stays(world: World) -> None:
    await world.bars(30)
    await world.reads("feature-builder", 30, since=6)
    assert (await world.round(LATER)).trimmed == 7
    assert (await world.log.extent(MARKET)).length == 23


async def test_a_stream_that_is_kept_for_ever_is_never_trimmed(world: World) -> None:
    await world.letter("a")
    await world.bars(1)
    done = await world.round(100 * LATER)
    assert {one.place.stream: one.through for one in done.kept}["dead"] == START
    assert (await world.log.extent(StreamKey("dead"))).length == 1


async def test_a_round_without_news_writes_nothing(world: World) -> None:
    await world.bars(10)
    await world.round()
    names = sorted(world.folder.rglob("*"))
    assert (await world.round()).files == 0
    assert sorted(world.folder.rglob("*")) == names


async def test_an_archive_that_changed_or_lost_a_file_stops_trimming(world: World) -> None:
    await world.bars(10)
    await world.round()
    await world.bars(10)
    await world.round()
    await world.reads("feature-builder", 20)
    first = world.folder / "p0/market/00000001.sealed"
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArchiveError) as corrupt:
        await world.round(LATER)
    first.unlink()
    with pytest.raises(ArchiveError) as lost:
        await world.round(LATER)
    assert (corrupt.value.reason, lost.value.reason) == ("corrupt", "lost")
    assert (await world.log.extent(MARKET)).length == 20
    first.write_bytes(whole)
    assert (await world.round(LATER)).trimmed == 20


async def test_an_entry_that_differs_from_the_sealed_one_stops_trimming(world: World) -> None:
    await world.bars(3)
    await world.round()
    last = (await world.log.extent(MARKET)).last
    key = MARKET.key
    world.client.delete(key)
    world.client.xadd(key, {"e": b"another"}, id=last)
    with pytest.raises(ArchiveError, match="another entry has the id"):
        await world.round(LATER)


async def test_a_server_that_ends_before_what_was_sealed_is_refused(world: World) -> None:
    await world.bars(3)
    await world.round()
    world.client.flushall()
    with pytest.raises(ArchiveError, match="lost entries, or is another one") as refused:
        await world.round()
    assert refused.value.reason == "behind"


class FullDisk(Disk):
    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_stops_trimming_and_leaves_nothing_half_written(world: World) -> None:
    await world.bars(10)
    await world.reads("feature-builder", 10)
    world.store = FolderStore(world.folder, FullDisk())
    with pytest.raises(ArchiveError, match="No space left") as refused:
        await world.round(LATER)
    assert refused.value.reason == "disk_full"
    assert (await world.log.extent(MARKET)).length == 10
    world.store = FolderStore(world.folder)
    assert (await world.round(LATER)).trimmed == 10


class PowerLossError(RuntimeError):
    """The machine went dark."""


class Failing(Disk):
    """A disk whose power fails after so many steps, sixteen bytes being one; what was not synced is half lost."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.unsynced: dict[Path, int] = {}

    def _spend(self, cost: int) -> int:
        spent = min(self.left, cost)
        self.left -= spent
        return spent

    def write(self, path: Path, data: bytes) -> None:
        cost = -(-len(data) // 16)
        written = self._spend(cost)
        path.write_bytes(data[: 16 * written])
        if written < cost:
            raise PowerLossError
        self.unsynced[path] = len(data)

    def sync(self, path: Path) -> None:
        if not self._spend(1):
            for file, size in self.unsynced.items():
                with file.open("r+b") as opened:
                    opened.truncate(size // 2)
            raise PowerLossError
        self.unsynced.pop(path, None)
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        if not self._spend(1):
            raise PowerLossError
        super().rename(source, target)


@pytest.mark.long
async def test_power_that_fails_at_any_step_loses_and_doubles_nothing(world: World, tmp_path: Path) -> None:
    await world.bars(6)
    await world.letter("a")
    expected = {place: await world.all(place) for place in (MARKET, StreamKey("dead"))}
    world.store = FolderStore(tmp_path / "clean")
    await world.round()
    whole = {path.read_bytes() for path in (tmp_path / "clean").rglob("*.sealed")}
    after, failed = 0, True
    while failed:
        folder = tmp_path / f"at-{after}"
        world.store = FolderStore(folder, Failing(after))
        failed = False
        try:
            await world.round()
        except PowerLossError:
            failed = True
        for path in folder.rglob("*.sealed"):
            assert path.read_bytes() in whole
        world.store = FolderStore(folder)
        await world.round()
        for place, held in expected.items():
            assert [one for part in SealedHistory(world.store).read(place) for one in part] == held
            check(world.store, place)
        assert check_cuts(world.store) is not None
        after += 1
    assert after > 100


async def test_a_copy_elsewhere_holds_the_same_and_nothing_is_trimmed_without_it(world: World) -> None:
    await world.bars(10)
    await world.reads("feature-builder", 10)
    copy = UrlStore(f"memory://{world.folder.parent.name}")
    assert (await world.round(LATER, copy)).trimmed == 10
    assert [one for part in SealedHistory(copy).read(MARKET) for one in part] == await world.all()
    assert check_cuts(copy) == check_cuts(world.store)

    class Away(UrlStore):
        def put(self, name: str, data: bytes) -> None:
            raise CorruptError("read back, it differs")

    await world.bars(10)
    await world.reads("feature-builder", 10)
    with pytest.raises(ArchiveError):
        await world.round(LATER, Away(f"memory://{world.folder.parent.name}"))
    assert (await world.log.extent(MARKET)).length == 10


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedServer(tmp_path_factory.mktemp("other"), die_with_parent=True) as server:
        yield server.url


async def test_a_restored_server_has_the_same_ids_bytes_counts_and_groups(world: World, other: str) -> None:
    await world.bars(20)
    await world.letter("a")
    claim = await world.reads("feature-builder", 12, since=3)
    await world.round()
    await world.bars(5)  # after the cut: not restored
    log = RedisLog(other)
    async with opened_whole(other, "test") as whole:
        done = await restore(world.store, whole)
        assert done.entries == {MARKET.key: 20, StreamKey("dead").key: 1}
        with pytest.raises(NotEmptyError, match="already"):
            await restore(world.store, whole)
    for place in (MARKET, StreamKey("dead")):
        assert await log.scan(place) == (await world.log.scan(place))[:20]
        assert (await log.extent(place)).added == len(await log.scan(place))
    again = await log.claim("feature-builder", ["market"], 0, ME)
    former = await world.log.claim("feature-builder", ["market"], 0, ME, take_over=True)
    assert (again.positions, again.since, again.memo) == (former.positions, former.since, former.memo)
    assert again.epoch > claim.epoch
    await log.close()
