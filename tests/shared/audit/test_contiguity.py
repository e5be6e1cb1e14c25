"""A server and an archive know how many entries there must be: what was removed is named, trimming is no fault."""

from pathlib import Path
from typing import Any

import pytest
import redis

from bench.recorded_rounds import Recorded
from bench.replayed import seal_streams
from schemas.catalogue import STREAMS
from shared.archive.store import open_store
from shared.audit.contiguity import check_streams
from shared.audit.findings import Findings
from shared.audit.live import Live, live
from shared.audit.sealed import ArchivedRecording
from shared.audit.source import Bounded, places_of
from shared.log import Entry, StreamKey

DECISIONS = StreamKey("decisions")


def filled(url: str, count: int = 40) -> tuple[Any, list[str]]:
    client: Any = redis.Redis.from_url(url)
    for number in range(count):
        client.xadd(DECISIONS.key, {"e": b"x%d" % number}, id=f"{1000 + number // 3}-{number % 3}")
    return client, [entry.decode() for entry, _ in client.xrange(DECISIONS.key)]


def checked(url: str, archive: Path | None = None) -> Findings:
    with live(url, open_store(archive) if archive else None) as source:
        assert isinstance(source, Live)
        return check_streams(Bounded(source, source.ends(1)), places_of(1))


def test_every_stream_of_the_catalogue_is_in_a_cut_and_control_is_read_last() -> None:
    assert {place.stream for place in places_of(1)} == set(STREAMS)
    assert places_of(2)[-1] == StreamKey("control")


def test_a_whole_stream_is_no_fault(empty_redis_url: str) -> None:
    filled(empty_redis_url)
    found = checked(empty_redis_url)
    assert (found.count, found.code) == (0, 0)


@pytest.mark.parametrize("gone", [[5], [6, 7, 8], [0], [39]])
def test_an_entry_that_was_deleted_is_named(empty_redis_url: str, gone: list[int]) -> None:
    client, ids = filled(empty_redis_url)
    client.xdel(DECISIONS.key, *(ids[number] for number in gone))
    first = checked(empty_redis_url).first
    assert first is not None
    assert (first.layer, first.stream) == ("stream", "decisions")
    assert first.entry in {ids[gone[-1]], ids[gone[-1] + 1] if gone[-1] < 39 else ""}


def test_what_was_trimmed_without_an_archive_is_not_checked(empty_redis_url: str) -> None:
    client, ids = filled(empty_redis_url)
    client.xtrim(DECISIONS.key, minid=ids[12], approximate=False)
    found = checked(empty_redis_url)
    assert (found.count, found.code) == (0, 3)
    assert "trimmed, and no archive" in next(iter(found.unchecked))


def sealed(url: str, folder: Path, upto: int) -> None:
    source = Recorded()
    client: Any = redis.Redis.from_url(url)
    rows = client.xrange(DECISIONS.key)[:upto]
    source.places[DECISIONS] = [Entry(DECISIONS, entry.decode(), fields[b"e"]) for entry, fields in rows]
    seal_streams(source, folder)


def test_what_was_sealed_and_trimmed_is_no_fault(empty_redis_url: str, tmp_path: Path) -> None:
    client, ids = filled(empty_redis_url)
    sealed(empty_redis_url, tmp_path, 20)
    client.xtrim(DECISIONS.key, minid=ids[18], approximate=False)
    found = checked(empty_redis_url, tmp_path)
    assert (found.count, found.code) == (0, 0)


@pytest.mark.parametrize("gone", [25, 39])
def test_an_entry_deleted_after_what_was_sealed_and_trimmed_is_named(
    empty_redis_url: str, tmp_path: Path, gone: int
) -> None:
    client, ids = filled(empty_redis_url)
    sealed(empty_redis_url, tmp_path, 20)
    client.xtrim(DECISIONS.key, minid=ids[20], approximate=False)
    client.xdel(DECISIONS.key, ids[gone])
    found = checked(empty_redis_url, tmp_path)
    assert found.first is not None
    assert (found.first.layer, found.first.entry) == ("stream", ids[gone])


def test_an_entry_deleted_before_it_was_sealed_is_missed_by_the_count(empty_redis_url: str, tmp_path: Path) -> None:
    client, ids = filled(empty_redis_url)
    client.xdel(DECISIONS.key, ids[9], ids[10], ids[11])
    sealed(empty_redis_url, tmp_path, 37)
    found = checked(empty_redis_url, tmp_path)
    assert found.first is not None
    assert found.first.layer == "stream"


def test_sealed_files_alone_name_what_their_ids_leave_out(empty_redis_url: str, tmp_path: Path) -> None:
    client, ids = filled(empty_redis_url)
    client.xdel(DECISIONS.key, ids[10])
    sealed(empty_redis_url, tmp_path, 39)
    found = check_streams(ArchivedRecording(open_store(tmp_path)), places_of(1))
    assert found.first is not None
    assert (found.first.entry, found.first.layer) == (ids[11], "stream")
