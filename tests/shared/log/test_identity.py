"""Whether the log there is, is the log that was read: one contract for both logs, and a server that lost its tail."""

from collections.abc import Sequence
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
import redis

from schemas.codec import Encoded
from shared.log import (
    Claim,
    Commit,
    Log,
    Owner,
    Position,
    ReadMark,
    StreamKey,
    SupersededError,
    TruncatedLogError,
    preceding,
)
from shared.log.identity import digest_of
from shared.log.redis import RedisLog
from shared.server.embedded import EmbeddedServer
from tests.minute_bars import minute_bars

MARKET, CONTROL, DEAD = StreamKey("market"), StreamKey("control"), StreamKey("dead")
ME, OTHER = Owner("here", 4_000_001, "me"), Owner("there", 4_000_002, "other")

pytestmark = pytest.mark.anyio


async def publish(log: Log, outputs: Sequence[Encoded]) -> None:
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(outputs, {}, {}))
    await log.release(claim)


async def consumed(log: Log, claim: Claim, count: int = 100) -> Commit:
    """What a reader commits who read up to ``count`` bars."""
    before = claim.positions["market"]
    entries = await log.read({MARKET: before.id}, count=count, block_ms=0)
    after = Position(entries[-1].id, before.seen + len(entries), digest_of(entries[-1].data))
    return Commit([], {"market": before}, {"market": after})


# A place is an entry


async def test_a_position_is_kept_with_the_digest_of_its_entry(site: Any) -> None:
    log = site.connect()
    await publish(log, minute_bars(0, 1))
    claim = await log.claim("voter", ["market"], 0, ME)
    commit = await consumed(log, claim)
    await log.commit(claim, commit)
    assert commit.after["market"].digest
    assert (await site.connect().claim("voter", ["market"], 0, ME)).positions == commit.after


async def test_what_was_read_and_is_there_passes(log: Log) -> None:
    await publish(log, minute_bars(0, 1))
    commit = await consumed(log, await log.claim("voter", ["market"], 0, ME))
    await log.check([ReadMark(MARKET, commit.after["market"], kept=True), ReadMark(CONTROL, Position())])


async def test_an_entry_with_the_same_id_and_other_bytes_is_another(log: Log) -> None:
    await log.append_at(CONTROL, "1-0", b"one")
    with pytest.raises(TruncatedLogError, match="another entry has the id 1-0") as caught:
        await log.check([ReadMark(CONTROL, Position("1-0", 1, digest_of(b"uno")))])
    assert caught.value.lost[:3] == (CONTROL, "1-0", "1-0")


async def test_a_lost_entry_is_missed_though_later_ones_came(log: Log) -> None:
    await log.append_at(CONTROL, "1-0", b"one")
    await log.append_at(CONTROL, "3-0", b"three")
    with pytest.raises(TruncatedLogError, match="entry 2-0 is gone") as caught:
        await log.check([ReadMark(CONTROL, Position("2-0", 2, digest_of(b"two")))])
    assert caught.value.lost.last == "3-0"


async def test_a_trimmed_entry_is_no_fault_unless_it_has_to_be_there(site: Any) -> None:
    log = site.connect()
    await publish(log, minute_bars(0, 1, 2))
    commit = await consumed(log, await log.claim("voter", ["market"], 0, ME), count=2)
    site.trim(MARKET, (await log.scan(MARKET))[2].id)
    await log.check([ReadMark(MARKET, commit.after["market"])])
    with pytest.raises(TruncatedLogError):
        await log.check([ReadMark(MARKET, commit.after["market"], kept=True)])


# Commits


async def test_a_commit_upon_an_entry_that_was_not_read_so_is_not_applied(log: Log) -> None:
    await publish(log, minute_bars(0, 1))
    claim = await log.claim("voter", ["market"], 0, ME)
    commit = await consumed(log, claim)
    after = commit.after["market"]._replace(digest=digest_of(b"another"))
    with pytest.raises(TruncatedLogError):
        await log.commit(claim, commit._replace(outputs=minute_bars(2), after={"market": after}))
    assert len(await log.scan(MARKET)) == 2
    gone = after._replace(id=preceding(after.id))
    with pytest.raises(TruncatedLogError):
        await log.commit(claim, commit._replace(outputs=minute_bars(2), after={"market": gone}))
    assert len(await log.scan(MARKET)) == 2
    await log.commit(claim, commit)


async def test_a_commit_at_a_trimmed_position_is_applied(site: Any) -> None:
    log = site.connect()
    await publish(log, minute_bars(0, 1, 2))
    claim = await log.claim("voter", ["market"], 0, ME)
    commit = await consumed(log, claim, count=2)
    site.trim(MARKET, (await log.scan(MARKET))[2].id)
    await log.commit(claim, commit)
    await log.commit(claim, Commit(minute_bars(3), commit.after, commit.after))
    assert len(await log.scan(MARKET)) == 2


async def test_two_claims_of_one_epoch_are_told_apart(site: Any) -> None:
    """The server lost the first of them; the second process was given the same number."""
    log = site.connect()
    image = site.image()
    first = await log.claim("voter", ["market"], 0, ME)
    site.restore(image)
    other = site.connect()
    second = await other.claim("voter", ["market"], 0, OTHER)
    assert first.epoch == second.epoch
    with pytest.raises(SupersededError):
        await log.commit(first, Commit(minute_bars(0), {}, {}))
    await other.commit(second, Commit(minute_bars(1), {}, {}))
    assert [entry.data for entry in await log.scan(MARKET)] == [minute_bars(1)[0].data]


async def test_a_group_that_stands_where_it_stood_before_is_no_other_owner(site: Any) -> None:
    log = site.connect()
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(minute_bars(0), {}, {}, b"0"))
    image = site.image()
    await log.commit(claim, Commit(minute_bars(1), {}, {}, b"1"))
    site.restore(image)
    with pytest.raises(TruncatedLogError, match="lost its last writes"):
        await log.commit(claim, Commit(minute_bars(2), {}, {}, b"2"))
    assert len(await log.scan(MARKET)) == 1
    again = await log.claim("feed", [], 0, ME)
    assert again.memo == b"0"
    await log.commit(again, Commit(minute_bars(1), {}, {}, b"1"))


async def test_a_commit_with_the_words_of_the_one_before_a_lost_one_is_no_repetition(site: Any) -> None:
    """A service that is idle commits nothing, to learn whether its last commit is still there."""
    log = site.connect()
    claim = await log.claim("feed", [], 0, ME)
    nothing = Commit([], {}, {}, b"memo")
    await log.commit(claim, nothing)
    image = site.image()
    await log.commit(claim, Commit(minute_bars(1), {}, {}, b"memo"))
    site.restore(image)
    with pytest.raises(TruncatedLogError):
        await log.commit(claim, nothing)


async def test_an_image_stays_as_it_was_whatever_is_written_and_restored(site: Any) -> None:
    log = site.connect()
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(minute_bars(0), {}, {}, b"0"))
    image = site.image()
    for number in (1, 2):
        await log.commit(claim, Commit(minute_bars(number), {}, {}, b"later"))
        site.restore(image)
        assert [entry.data for entry in await log.scan(MARKET)] == [minute_bars(0)[0].data]
        claim = await log.claim("feed", [], 0, ME)
        assert claim.memo == b"0"
        assert claim.epoch == 2


async def test_a_claim_that_is_gone_is_no_other_owner(site: Any) -> None:
    log = site.connect()
    image = site.image()
    claim = await log.claim("feed", [], 0, ME)
    site.restore(image)
    with pytest.raises(TruncatedLogError):
        await log.renew(claim)
    with pytest.raises(TruncatedLogError):
        await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert await log.scan(MARKET) == []


async def test_nothing_is_appended_to_a_log_whose_end_was_read_and_is_gone(log: Log) -> None:
    await log.append_at(CONTROL, "1-0", b"one")
    marks = [ReadMark(CONTROL, Position("2-0", 2, digest_of(b"two")), kept=True)]
    with pytest.raises(TruncatedLogError):
        await log.append_at(CONTROL, "3-0", b"three", marks=marks)
    assert [entry.id for entry in await log.scan(CONTROL)] == ["1-0"]
    assert await log.append_at(CONTROL, "2-0", b"two", marks=[ReadMark(CONTROL, Position("1-0", 1, digest_of(b"one")))])


# A deleted hash


async def test_a_group_whose_hash_is_gone_is_restored_from_its_consumer_group(site: Any) -> None:
    log = site.connect()
    await publish(log, minute_bars(0, 1, 2))
    claim = await log.claim("voter", ["market", "dead"], 0, ME)
    commit = await consumed(log, claim, count=2)
    await log.commit(claim, commit._replace(memo=b"memo", since={"market": "5-0"}))
    site.lose_hash("voter")
    again = await log.claim("voter", ["market", "dead"], 0, OTHER)
    assert again.restored == ("market",)
    assert again.positions == {"market": commit.after["market"]._replace(digest=""), "dead": Position()}
    assert (again.memo, again.since, again.former) == (b"", {}, None)
    await log.release(again)
    last = await log.claim("voter", ["market", "dead"], 0, ME)
    assert last.restored == ("market",)  # until somebody has made up its mind about it
    await log.commit(last, Commit([], {}, {}, b"new"))
    assert (await log.claim("voter", ["market", "dead"], 0, ME)).restored == ()


async def test_a_new_group_is_not_restored(log: Log) -> None:
    await publish(log, minute_bars(0))
    assert (await log.claim("voter", ["market"], 0, ME)).restored == ()
    assert (await log.claim("other", ["market"], 0, ME)).restored == ()


# A server that lost its tail: an append-only file as it was earlier


async def test_a_commit_depends_on_control_over_a_new_connection_too(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data", die_with_parent=True)
    port = int(server.start().rpartition(":")[2][:-2])
    log = RedisLog(server.url, patience_s=10.0)
    try:
        claim = await log.claim("voter", [], 0, ME)
        await log.append_at(CONTROL, "1-0", b"one")
        server.stop()
        copytree(tmp_path / "data", tmp_path / "before")
        server = EmbeddedServer(tmp_path / "data", port=port, die_with_parent=True)
        server.start()
        await log.append_at(CONTROL, "2-0", b"two")
        server.kill()
        rmtree(tmp_path / "data")
        copytree(tmp_path / "before", tmp_path / "data")
        server = EmbeddedServer(tmp_path / "data", port=port, die_with_parent=True)
        server.start()
        opened = log.opened
        known = (ReadMark(CONTROL, Position("2-0", 2, digest_of(b"two")), kept=True),)
        with pytest.raises(TruncatedLogError, match="entry 2-0 is gone"):
            await log.commit(claim, Commit(minute_bars(0), {}, {}, known=known))
        assert log.opened > opened
        with redis.Redis.from_url(server.url) as client:
            assert client.xlen(MARKET.key) == 0
    finally:
        await log.close()
        server.stop()
