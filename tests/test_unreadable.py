"""An entry that nobody can read, on any stream, stops no reader: each kind on each stream, before every reader."""

import ast
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import msgspec
import pytest
import redis

from bench.recorded import BEFORE, CANDIDATE, record, verdict
from schemas.catalogue import STREAMS
from schemas.codec import UnreadableError, decode, encode, framed, opened
from schemas.control import Promote
from schemas.documentation.examples import examples
from schemas.operations import ControlRefused, DeadLetter
from schemas.readiness import ArtifactReady
from services.console.evidence.contributions import newest as newest_contributions
from services.console.evidence.gates import statuses, verdict_by
from services.console.evidence.records import read_verdicts, recorded_scores
from services.console.run.decisions import Decisions
from services.ensemble_voter.main import service as voter
from services.feature_builder.main import service as feature_builder
from services.gate_evaluator.main import issue_due
from services.gate_evaluator.main import service as evaluator
from services.guard.main import Guard
from services.model_worker.main import service as model_worker
from services.observatory.projection import Projection
from services.shadow_recorder.main import service as recorder
from services.trainer.main import READS, Trainer
from services.watcher.main import Channels, Watcher
from services.watcher.state import BURST_MS
from shared.archive import WholeHistory, records
from shared.artifacts.store import ArtifactStore
from shared.control.issuing import ControlWriter, current, history, issue, refused
from shared.control.readiness import evidence
from shared.control.stream import now_ms
from shared.features import SETS
from shared.gates.passing import NoVerdict, passing_verdict
from shared.log import START, Log, StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.log.leases import id_order
from shared.log.memory import MemoryLog
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.runtime.loop import Loop
from shared.runtime.process import owner
from shared.runtime.service import Service
from shared.runtime.supervision import Supervised
from shared.settings import Settings
from shared.telemetry.reporting import Telemetry
from shared.training.ledger import TrainingWriter
from shared.training.recorded import ends_now

E = TypeVar("E")
pytestmark = pytest.mark.anyio
ROOT: Final = Path(__file__).parents[1]
DEEP: Final = 100_000
EXAMPLES: Final = {sealed.stream: sealed for sealed in examples()}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def envelope(stream: str, event: Any) -> bytes:
    """A well-formed envelope around anything."""
    if STREAMS[stream].codec == "msgpack":
        return msgspec.msgpack.encode([1, 0, bytes(16), bytes(16), bytes(16), event])
    ids = dict.fromkeys(("id", "causation", "correlation"), "0" * 32)
    return msgspec.json.encode({"schema": 1, "flags": 0, **ids, "event": event})


def of_a_newer_schema(stream: str) -> bytes:
    data = EXAMPLES[stream].data
    if STREAMS[stream].codec == "json":
        return data.replace(b'"schema":1', b'"schema":99', 1)
    return data[:1] + b"\x63" + data[2:]


def nested(stream: str) -> bytes:
    if STREAMS[stream].codec == "msgpack":
        return b"\x91" * DEEP
    return envelope(stream, {"type": "x", "a": "HERE"}).replace(b'"HERE"', b"[" * DEEP + b"]" * DEEP)


def of_another_stream(stream: str) -> bytes:
    codec = STREAMS[stream].codec
    return next(each.data for name, each in EXAMPLES.items() if name != stream and STREAMS[name].codec == codec)


KINDS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "no bytes at all": lambda stream: b"",
    "random bytes": lambda stream: bytes(range(120, 250)) * 2,
    "text": lambda stream: b"hello\x1b[2J",
    "a plain value": lambda stream: b"null" if STREAMS[stream].codec == "json" else b"\xc0",
    "an envelope without an event": lambda stream: envelope(stream, None),
    "an event without fields": lambda stream: envelope(stream, {}),
    "an unknown event": lambda stream: envelope(stream, {"type": "no.such"}),
    "an event of another stream": of_another_stream,
    "an event of a newer schema": of_a_newer_schema,
    "an event that was cut off": lambda stream: EXAMPLES[stream].data[:-3],
    "values nested without end": nested,
    "text that is not UTF-8": lambda stream: envelope(stream, {"type": "x"}).replace(b"x", b"\xff\xfe", 1),
    "a megabyte": lambda stream: b"\xc1" * 2**20,
}
"""Entries that no release can read, for each stream."""

each_stream = pytest.mark.parametrize("stream", STREAMS)


@each_stream
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_event_are_unreadable_however_they_are_read(stream: str, kind: str) -> None:
    data = KINDS[kind](stream)
    with pytest.raises(UnreadableError, match=stream):
        decode(stream, data)
    try:
        assert opened(stream, data).fault  # an audit names the fault, or cannot read it either
        assert framed(stream, data).fault
    except UnreadableError:
        pass


async def founded(log: Log) -> Log:
    """A log with a champion and a candidate."""
    for command in BEFORE:
        await issue(log, command, actor="ada", reason="a test")
    return log


async def spoil(log: Log, stream: str) -> int:
    """Append each kind to a stream, and return how many."""
    place = StreamKey(stream)
    for kind in KINDS.values():
        newest = id_order((await log.extent(place)).last)[0]
        assert await log.append_at(place, f"{max(newest, now_ms()) + 1}-0", kind(stream))
    return len(KINDS)


async def readable(log: Log, stream: str, kind: type[E]) -> list[E]:
    events = (envelope.event for _, envelope in events_of(await log.scan(StreamKey(stream)), reported_elsewhere))
    return [event for event in events if isinstance(event, kind)]


async def letters(log: Log) -> list[DeadLetter]:
    return await readable(log, "dead", DeadLetter)


async def alarms(log: Log) -> list[ControlRefused]:
    return await readable(log, "alarms", ControlRefused)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(20):
        while not await condition():
            await anyio.sleep(0.005)


async def hosted(log: Log, service: Service[Any]) -> None:
    """Run a service until it has read everything."""
    stop, host = anyio.Event(), Host(service, log, 0, owner(service.group))
    ends = {stream: (await log.extent(StreamKey(stream))).last for stream in service.reads}
    control = (await log.extent(StreamKey("control"))).last

    async def caught_up() -> bool:
        positions, alarms = host.commits.positions, host._alarms._raised
        return (
            all(stream in positions and positions[stream].id == end for stream, end in ends.items())
            and host.control.reader.last == control
            and (service.group != "ensemble-voter" or alarms == len(host.control.reader.refused))
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        await until(caught_up)
        stop.set()


def services(tmp_path: Path) -> list[Service[Any]]:
    return [
        feature_builder([SETS["core-28"]]),
        model_worker("xgboost", ArtifactStore(tmp_path / "artifacts")),
        voter(),
        recorder(),
        evaluator(),
    ]


@pytest.mark.parametrize("stream", ["market", "features", "predictions", "decisions", "trades", "scores", "control"])
async def test_a_hosted_service_writes_one_dead_letter_for_each_and_goes_on(stream: str, tmp_path: Path) -> None:
    log = await founded(MemoryLog())
    count = await spoil(log, stream)
    readers = [service for service in services(tmp_path) if stream in (*service.reads, "control")]
    for service in readers * 2:  # the second time as after a restart
        await hosted(log, service)
    expected = {service.group: count for service in readers if stream in service.reads}
    assert Counter(letter.service for letter in await letters(log)) == expected
    assert all(letter.reason == "unreadable" for letter in await letters(log))
    assert sum(1 + (alarm.more or 0) for alarm in await alarms(log)) == (count if stream == "control" else 0)


@each_stream
async def test_refused_commands_get_their_alarms_whatever_is_on_the_other_streams(stream: str, tmp_path: Path) -> None:
    """One bad entry on control and one on `alarms` once ended every service."""
    log = await founded(MemoryLog())
    await spoil(log, stream)
    await log.append_at(
        StreamKey("control"), f"{id_order((await log.extent(StreamKey('control'))).last)[0] + 1}-0", b"x"
    )
    await hosted(log, voter())
    assert await alarms(log)


async def trainer(log: Log, tmp_path: Path) -> None:
    settings = msgspec.convert({"installation": {"state": str(tmp_path)}, "redis": {"ephemeral": True}}, Settings)
    loop = Loop(log, "trainer", supervised=Supervised({}))
    async with loop.owned(1, READS):
        trainer = Trainer(settings, loop, None)
        await trainer.request_due()
        await trainer._refuse_unreadable()


async def watcher(log: Log, tmp_path: Path) -> None:
    watcher = Watcher(log, 1, tmp_path / "watcher.json", Channels([]), [], Telemetry())
    await watcher.begin()
    watcher._kept.positions = dict.fromkeys(watcher._kept.positions, START)
    await watcher.turn()


async def observatory(log: Log, tmp_path: Path) -> None:
    projection = Projection(log, 1, tmp_path / "observatory.bin")
    await projection.begin()
    while not projection.caught_up:
        await projection.turn()
    await projection.turn()
    for key, read in projection.positions.items():
        extent = await log.extent(StreamKey(key.rpartition(":")[2]))
        assert not extent.length or read == extent.last


async def commands_that_are_due(log: Log, _: Path) -> None:
    with anyio.move_on_after(0.05):
        await issue_due(log)


async def readiness(log: Log, _: Path) -> None:
    claim = await log.claim("model-worker.xgboost", ("features",), 0, owner("model-worker.xgboost"), take_over=True)
    await evidence(log, 1, "xgboost", CANDIDATE.hex())
    await log.release(claim)


async def verdicts(log: Log, _: Path) -> None:
    statuses(await current(log), await read_verdicts(log, 1))
    await newest_contributions(log)
    with pytest.raises(NoVerdict):
        await passing_verdict(log, await current(log), "xgboost", CANDIDATE.hex())
    with pytest.raises(ValueError, match="0 verdicts"):
        await verdict_by(log, 1, "00")


async def decisions(log: Log, _: Path) -> None:
    async for _decision in Decisions(log, 1).newest(100):
        pass


async def scores(log: Log, _: Path) -> None:
    assert all(score.event is None for score in [score async for score in recorded_scores(log, 1)])


async def training_jobs(log: Log, _: Path) -> None:
    assert list(await TrainingWriter(log).read()) == []


async def training_data(log: Log, _: Path) -> None:
    await ends_now(log, 1)
    for stream in ("market", "features"):
        assert [each async for each in records(WholeHistory(log), StreamKey(stream))] == []


async def commands(log: Log, _: Path) -> None:
    assert (await current(log)).version == len(await history(log)) >= len(BEFORE)
    await refused(log)


async def guard(log: Log, _: Path) -> None:
    await issue(log, Promote("xgboost", CANDIDATE.hex(), forced=True, probation=3), actor="ada", reason="a test")
    assert await Guard(ControlWriter(log)).revert() == {}


READERS: Final = (
    trainer, watcher, commands_that_are_due, readiness, verdicts, decisions, scores, training_jobs, training_data,
    commands, guard, observatory,
)  # fmt: skip


@each_stream
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: str(reader.__name__))
async def test_no_other_reader_stops(
    stream: str, reader: Callable[[Log, Path], Awaitable[None]], tmp_path: Path
) -> None:
    log = await founded(MemoryLog())
    await spoil(log, stream)
    await reader(log, tmp_path)


@pytest.mark.parametrize("stream", ["gates", "training"])
async def test_the_trainer_writes_one_dead_letter_for_each_entry_and_goes_on(stream: str, tmp_path: Path) -> None:
    log = await founded(MemoryLog())
    count = await spoil(log, stream)
    for _ in range(3):
        await trainer(log, tmp_path)
    assert Counter(letter.service for letter in await letters(log)) == {"trainer": count}
    assert len({letter.source for letter in await letters(log)}) == count
    await spoil(log, stream)
    await trainer(log, tmp_path)
    assert len(await letters(log)) == 2 * count


async def test_a_request_after_unreadable_entries_becomes_a_job() -> None:
    log = await founded(MemoryLog())
    await spoil(log, "training")
    request = next(each for each in examples() if each.stream == "training")
    job = await TrainingWriter(log).request(request.envelope.event, (await current(log)).training)
    assert [each.id for each in await TrainingWriter(log).read()] == [job]


async def test_a_verdict_before_unreadable_entries_is_found(caplog: pytest.LogCaptureFixture) -> None:
    log = await founded(MemoryLog())
    state = await current(log)
    passed = verdict()
    await record(log, "gates", [passed])
    await spoil(log, "gates")
    verdicts = await read_verdicts(log, 1)
    assert [found.event for found in verdicts.newest().values()] == [passed]
    with caplog.at_level(logging.WARNING), pytest.raises(NoVerdict, match="passed under another gate policy"):
        await passing_verdict(log, state, passed.model, passed.artifact)
    assert f"{len(KINDS)} entries of conclave:{{p0}}:gates cannot be read" in caplog.text


async def test_readiness_before_unreadable_entries_is_found() -> None:
    log = await founded(MemoryLog())
    group = "model-worker.xgboost"
    await log.claim(group, ("features",), 0, owner(group))
    ready = ArtifactReady(
        model="xgboost",
        artifact=CANDIDATE.hex(),
        owner=str(owner(group)),
        life="6f1d09b2",
        control_version=7,
        took_ms=20,
        at=1,
    )
    await record(log, "readiness", [ready])
    await spoil(log, "readiness")
    assert (await evidence(log, 1, "xgboost", CANDIDATE.hex())).missing == ()


@pytest.mark.parametrize("stream", ["dead", "alarms"])
async def test_the_watcher_notifies_people_of_entries_that_no_service_refuses(stream: str, tmp_path: Path) -> None:
    log = await founded(MemoryLog())
    watcher = Watcher(log, 1, tmp_path / "watcher.json", Channels([]), [], Telemetry())
    await watcher.begin()
    await spoil(log, stream)
    await watcher.turn()
    assert watcher._kept.state.bursts[f"dead-letters watcher {stream}"].more == len(KINDS) - 1
    assert watcher._kept.positions[StreamKey(stream).key] == (await log.extent(StreamKey(stream))).last


async def test_an_entry_of_the_future_holds_back_no_notice(tmp_path: Path) -> None:
    log = await founded(MemoryLog())
    watcher = Watcher(log, 1, tmp_path / "watcher.json", Channels([]), [], Telemetry())
    await watcher.begin()
    await log.append_at(StreamKey("alarms"), f"{2**63}-0", b"x")
    await watcher.turn()
    assert watcher._kept.state.bursts["dead-letters watcher alarms"].until < now_ms() + 2 * BURST_MS


@pytest.mark.parametrize("fields", [{"x": b"1"}, {"a": b"1", "e": b"2"}, {"e": b""}], ids=str)
@each_stream
async def test_an_entry_with_other_fields_is_read_as_its_first_and_stops_nobody(
    stream: str, fields: Any, empty_redis_url: str, tmp_path: Path
) -> None:
    log = await founded(RedisLog(empty_redis_url))
    with redis.Redis.from_url(empty_redis_url) as client:
        client.xadd(StreamKey(stream).key, fields)
    [entry] = await log.tail(StreamKey(stream), 1)
    assert entry.data == next(iter(fields.values()))
    for service in services(tmp_path):
        if stream in (*service.reads, "control"):
            await hosted(log, service)
    await log.close()


async def test_whoever_may_write_what_the_trainer_may_cannot_stop_a_voter(empty_redis_url: str) -> None:
    """Neither by garbage, nor by the greatest id there is, after which a stream takes no entry."""
    log = await founded(RedisLog(empty_redis_url))
    greatest = f"{2**64 - 1}-{2**64 - 1}"
    with redis.Redis.from_url(empty_redis_url) as client:
        for stream, spec in STREAMS.items():
            if "trainer" in spec.writers:
                client.xadd(StreamKey(stream).key, {"e": b"x"})
                client.xadd(StreamKey(stream).key, {"e": b"x"}, id=greatest)
        client.xadd(StreamKey("predictions").key, {"e": b"x"})  # its dead letter is lost, its position moves on
        for _ in range(2):
            await hosted(log, voter())
        assert client.xlen(StreamKey("dead").key) == client.xlen(StreamKey("alarms").key) == 2
    await log.close()


ALLOWED: Final = {
    "shared.log.events": "decodes for all readers",
    "shared.audit.written": "names the writer of an entry, readable or not",
    "shared.commands.retrying": "asks whether one entry can be read now",
    "services.console.run.dead_letters": "shows one entry, readable or not",
}
"""The modules that may decode an entry themselves."""


def test_no_module_reads_a_stream_in_its_own_way() -> None:
    found = set()
    for path in [*(ROOT / "shared").rglob("*.py"), *(ROOT / "services").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "schemas.codec" in text else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            if "decode" in names and getattr(node, "module", "") == "schemas.codec":
                found.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert found == ALLOWED.keys()


def test_an_event_of_the_present_schema_is_still_read() -> None:
    for sealed in EXAMPLES.values():
        assert decode(sealed.stream, sealed.data) == sealed.envelope
        assert decode(sealed.stream, encode(sealed.stream, sealed.envelope.event).data).event == sealed.envelope.event
