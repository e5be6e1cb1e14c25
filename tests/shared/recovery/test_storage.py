"""A disk that is full or read-only: what is written outside the log is missing for a while, and nothing else."""

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from schemas.codec import decode, encode
from schemas.control import CommandRecorded, Found, Halt, RegisterArtifact
from schemas.operations import StorageFailed, StorageRecovered
from shared.control import EMPTY, State, fold, propose
from shared.control.checkpoint import note_digests, read
from shared.log import Log, Owner, StreamKey
from shared.log.memory import MemoryLog
from shared.recovery.copies import Copy, CopyingReader
from shared.recovery.record import ControlRecord
from shared.recovery.storage import Storage
from shared.runtime import notices
from shared.runtime.host import Host
from tests.shared.runtime.test_host import Sums, publish

pytestmark = pytest.mark.anyio
ME = Owner("here", 1, "sums")


@contextlib.contextmanager
def no_parent(folder: Path) -> Iterator[None]:
    """A file is where the folder should be, which stops root too."""
    aside = folder.with_name("aside")
    if folder.exists():
        folder.rename(aside)
    folder.write_text("a file where a folder should be")
    yield
    folder.unlink()
    if aside.exists():
        aside.rename(folder)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """No file of this process may grow, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


Failing = Callable[[Path], contextlib.AbstractContextManager[None]]
BOTH = pytest.mark.parametrize("failing", [no_parent, full])


def control(number: int) -> tuple[list[tuple[str, bytes]], State]:
    """The entries of a control stream, and its configuration."""
    state, entries = EMPTY, []
    for version in range(1, number + 1):
        command = Found(1, "log-of-a-test") if version == 1 else Halt() if version % 2 == 0 else registered(version)
        made = propose(state, command, command_id=str(version), actor="me", reason="test", at=version)
        if not isinstance(made, CommandRecorded):
            made = propose(state, registered(version), command_id=str(version), actor="me", reason="t", at=version)
            assert isinstance(made, CommandRecorded), made
        state = fold(state, made)
        entries.append((f"{version}-0", encode("control", made).data))
    return entries, state


def registered(number: int) -> RegisterArtifact:
    return RegisterArtifact(
        model="a",
        artifact=f"{number:064x}",
        family="prior",
        feature_set="f" * 64,
        feature_set_name="user-8",
        interval_ms=60_000,
        classes=("SELL", "HOLD", "BUY"),
        centre=(-1.1, -1.1, -1.1),
        prior=(0.25, 0.5, 0.25),
    )


@BOTH
def test_what_could_not_be_noted_is_compared_from_memory_and_written_when_the_disk_allows_it(
    tmp_path: Path, failing: Failing
) -> None:
    entries, state = control(3)
    shorter = control(2)[1]
    record = ControlRecord(tmp_path, Storage("sums"))
    reader = record.reader()
    with failing(tmp_path / "checkpoints"):
        for entry in entries:
            reader.take(*entry)
        record.note(state, 1)
        assert len(record.storage.failing) == 2
        assert record.missing(state) is None
        missing = record.missing(shorter)
        assert missing is not None
        assert [lost.version for lost in missing.lost] == [3]
        assert missing.lost[0].copied is not None
    assert read(record.path) == []
    record.note(state, 2)
    assert record.storage.failing == {}
    again = ControlRecord(tmp_path)
    assert [noted.version for noted in read(again.path)] == [3]
    assert [(entry.id, entry.data) for entry in again.copy.entries()] == entries


@BOTH
def test_a_failure_is_reported_once_and_its_end_once(tmp_path: Path, failing: Failing) -> None:
    record = ControlRecord(tmp_path, Storage("sums"))
    _, state = control(2)
    with failing(tmp_path / "checkpoints"):
        for at in range(3):
            record.note(state, at)
    record.note(state, 9)
    record.note(state, 10)
    [failed, recovered] = record.storage.due(7)
    assert isinstance(failed, StorageFailed)
    assert (failed.group, failed.file, failed.at) == ("sums", str(record.path), 7)
    assert isinstance(recovered, StorageRecovered)
    assert record.storage.due(8) == []


def test_what_an_earlier_process_reported_is_over_once_this_one_has_written_it(tmp_path: Path) -> None:
    for before in (True, False):
        storage, file = Storage("sums"), tmp_path / "file"
        if before:
            storage.attempt(file, file.touch)
        storage.resume({str(file): "full"})
        if not before:
            storage.attempt(file, file.touch)
        assert [type(event) for event in storage.due(1)] == [StorageRecovered]


def test_a_reader_does_not_try_a_failing_disk_for_each_of_many_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, _ = control(20)
    copy, storage = Copy(tmp_path / "file" / "control.entries"), Storage("sums")
    tried = list[str]()
    really_write = copy.write

    def write(*, durable: bool = False) -> None:
        tried.append("once")
        really_write(durable=durable)

    monkeypatch.setattr(copy, "write", write)
    (tmp_path / "file").write_text("a file where a folder should be")
    reader = CopyingReader(copy, storage)
    for entry in entries:
        assert reader.take(*entry) is not None
    assert (reader.state.version, tried) == (20, ["once"])
    (tmp_path / "file").unlink()
    copy.write()
    assert [(entry.id, entry.data) for entry in Copy(copy.path).entries()] == entries


def test_a_part_of_a_line_is_no_line(tmp_path: Path) -> None:
    entries, state = control(2)
    copy = Copy(tmp_path / "control.entries")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the disk becomes full in the middle of the first line
    try:
        with pytest.raises(OSError, match="large"):
            copy.add(*entries[0])
        with pytest.raises(OSError, match="large"):
            note_digests(tmp_path, 0, "sums", {}, structs.replace(state, log_id="x" * 200), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    copy.add(*entries[1])
    assert [(entry.id, entry.data) for entry in Copy(copy.path).entries()] == entries


@BOTH
async def test_given_a_failing_disk_when_a_service_runs_then_it_goes_on_and_raises_one_alarm_and_one_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Failing
) -> None:
    monkeypatch.setattr(notices, "NOTE_HEAD_AFTER_S", 0.0)
    log, stop, storage = MemoryLog(), anyio.Event(), Storage("sums")
    record = ControlRecord(tmp_path, storage)
    _, state = control(2)
    host = Host(
        Sums(),
        log,
        0,
        ME,
        note_head=lambda _: record.note(state, 1),
        storage=storage,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        with failing(tmp_path / "checkpoints"):
            await until(log, StorageFailed, 1)
            await publish(log, *range(10))
            with anyio.fail_after(10):
                while (await log.extent(StreamKey("dead"))).added < 10:
                    await anyio.sleep(0.01)
        await until(log, StorageRecovered, 1)
        stop.set()
    assert [len(await alarms(log, kind)) for kind in (StorageFailed, StorageRecovered)] == [1, 1]
    assert read(record.path)[0].version == 2


async def alarms(log: Log, kind: type) -> list[object]:
    found = [decode("alarms", entry.data).event for entry in await log.scan(StreamKey("alarms"))]
    return [event for event in found if isinstance(event, kind)]


async def until(log: Log, kind: type, count: int) -> None:
    with anyio.fail_after(10):
        while len(await alarms(log, kind)) < count:
            await anyio.sleep(0.01)
