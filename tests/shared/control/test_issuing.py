"""The control writer: one of two racing operators wins, the other is told; what came past it does not stop it."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.codec import decode
from schemas.common import ACTIONS
from schemas.control import (
    Command,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    RevokeKey,
    Rollback,
    SetVotingPolicy,
    TrustKey,
)
from schemas.decisions import FenceClosed, FenceOpened
from shared.control import ControlError, issuing
from shared.control.fence import Authority, FenceError
from shared.control.issuing import (
    ControlWriter,
    Issued,
    RefusedError,
    current,
    history,
    issue,
    refused,
)
from shared.control.signing import Signer
from shared.control.stream import CONTROL
from shared.log import Log, ReadMark, StreamKey, TruncatedLogError, UnavailableError
from shared.log.memory import MemoryLog

pytestmark = pytest.mark.anyio
FOUNDED = Found(1, "log-of-a-test")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No halt of these tests takes long."""
    monkeypatch.setattr(issuing, "UNDER_WAY_S", 0.1)


A1, A2 = "a1" * 32, "a2" * 32


def artifact(digest: str) -> RegisterArtifact:
    return RegisterArtifact(
        model="a",
        artifact=digest,
        family="prior",
        feature_set="f" * 64,
        feature_set_name="core",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=(-1.1,) * 3,
        prior=(0.3, 0.4, 0.3),
    )


async def issued(log: Log, *commands: Command) -> None:
    for command in commands:
        await issue(log, command, actor="ada", reason="test")


async def test_the_id_of_an_entry_is_its_version(log: Log) -> None:
    await issued(log, FOUNDED, Halt(), Resume())
    assert [entry.id for entry in await log.scan(CONTROL)] == ["1-0", "2-0", "3-0"]
    assert [entry.version for entry in await history(log)] == [1, 2, 3]
    assert (await current(log, 2)).halted
    assert not (await current(log)).halted


async def test_a_command_issued_twice_is_done_once(log: Log) -> None:
    await issued(log, FOUNDED)
    first = await issue(log, Halt(), actor="ada", reason="test", command_id="once")
    second = await issue(log, Halt(), actor="ada", reason="test", command_id="once")
    assert (first.version, first.repeated) == (2, False)
    assert (second.version, second.repeated) == (2, True)
    assert len(await history(log)) == 2


async def test_the_id_of_another_command_is_refused(log: Log) -> None:
    await issued(log, FOUNDED)
    await issue(log, Halt(), actor="ada", reason="test", command_id="once")
    with pytest.raises(RefusedError, match="stands at version 2 for halt, not for this resume"):
        await issue(log, Resume(), actor="ada", reason="test", command_id="once")


async def test_a_dry_run_decides_and_appends_nothing(log: Log) -> None:
    await issued(log, FOUNDED)
    would = await issue(log, Halt(), actor="ada", reason="test", dry_run=True)
    assert would.state.halted
    assert len(await history(log)) == 1


async def test_of_many_racing_operators_all_make_versions_of_their_own(log: Log) -> None:
    await issued(log, FOUNDED)
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            policy = SetVotingPolicy(deadline_ms=number)

            async def operate(policy: SetVotingPolicy = policy, name: str = f"operator-{number}") -> None:
                await issue(log, policy, actor=name, reason="race")

            tasks.start_soon(operate)
    entries = await history(log)
    assert [entry.version for entry in entries] == list(range(1, 12))
    assert len({entry.actor for entry in entries}) == 11


class Overtaken(MemoryLog):
    """A log on which somebody else is always faster, once."""

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.faster: Command | None = command

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        faster, self.faster = self.faster, None
        if faster is not None and entry_id != "1-0":
            await issue(self, faster, actor="bo", reason="was faster")
        else:
            self.faster = faster
        return await super().append_at(place, entry_id, data, marks=marks)


async def test_the_loser_of_a_race_is_told_what_changed() -> None:
    log = Overtaken(Halt())
    await issued(log, FOUNDED)
    with pytest.raises(RefusedError, match=r"halted already\. Meanwhile: 2 halt by bo \(was faster\)"):
        await issue(log, Halt(), actor="ada", reason="test")


async def test_a_lost_race_that_changes_nothing_for_the_loser_is_run_again() -> None:
    log = Overtaken(Halt())
    await issued(log, FOUNDED)
    made = await issue(log, SetVotingPolicy(deadline_ms=7), actor="ada", reason="test")
    assert made.version == 3
    assert made.state.halted


async def test_who_expects_another_version_is_told_what_came_since(log: Log) -> None:
    await issued(log, FOUNDED, Halt(), Resume())
    with pytest.raises(RefusedError, match=r"expected version 1, .* Meanwhile: 2 halt by ada \(test\); 3 resume"):
        await issue(log, Halt(), actor="bo", reason="test", expects=1)


@pytest.mark.parametrize("entry", ["2-0", "2-7", "1760000000000-0", f"{2**64 - 2}-0"])
@pytest.mark.parametrize("data", [b"{}", b"\xff\xfe", b'{"halt":true}'])
async def test_the_log_goes_on_behind_what_was_written_past_the_door(log: Log, entry: str, data: bytes) -> None:
    await issued(log, FOUNDED)
    assert await log.append_at(CONTROL, entry, data)
    made = await issue(log, Halt(), actor="ada", reason="test")
    assert made.version == 2
    assert (await current(log)).halted
    assert [held.entry for held in await refused(log)] == [entry]


async def test_a_right_entry_again_is_not_applied_again(log: Log) -> None:
    await issued(log, FOUNDED, Halt())
    [_, halted] = await log.scan(CONTROL)
    await issued(log, Resume())
    await log.append_at(CONTROL, "4-0", halted.data)
    assert not (await current(log)).halted
    assert len(await refused(log)) == 1


async def test_an_id_that_nothing_can_follow_is_named() -> None:
    log = MemoryLog()
    await issued(log, FOUNDED)
    await log.append_at(CONTROL, f"{2**64 - 1}-0", b"{}")
    with pytest.raises(RefusedError, match="the greatest id there is"):
        await issue(log, Halt(), actor="ada", reason="test")


async def test_an_end_that_was_deleted_is_named(log: Log) -> None:
    await issued(log, FOUNDED)

    class Cut(ControlWriter):
        def _next(self) -> str:
            return "1-0"

    with pytest.raises(RefusedError, match="takes no entry 1-0"):
        await Cut(log).issue(Halt(), actor="ada", reason="test")


async def test_a_log_with_a_hole_takes_no_command() -> None:
    log = MemoryLog()
    await issued(log, FOUNDED, Halt(), Resume())
    entries = await log.scan(CONTROL)
    cut = MemoryLog()
    for entry in (entries[0], entries[2]):
        await cut.append_at(CONTROL, entry.id, entry.data)
    with pytest.raises(ControlError, match="versions 2 to 2 are gone"):
        await issue(cut, Halt(), actor="ada", reason="test")


async def test_from_the_first_key_on_every_command_is_signed(log: Log) -> None:
    ada, eve = (Signer(name, Ed25519PrivateKey.generate()) for name in ("ada", "eve"))
    assert (await issue(log, FOUNDED, actor="ada", reason="test", signer=ada)).state.open
    trusted = await issue(log, TrustKey("ada", ada.public_key, "Ada"), actor="ada", reason="test", signer=ada)
    assert not trusted.state.open
    with pytest.raises(RefusedError, match="not signed"):
        await issue(log, Halt(), actor="ada", reason="test")
    with pytest.raises(RefusedError, match="'eve' is not trusted"):
        await issue(log, Halt(), actor="ada", reason="test", signer=eve)
    with pytest.raises(RefusedError, match="signature is not that of key 'ada'"):
        await issue(log, Halt(), actor="ada", reason="test", signer=Signer("ada", eve.private))
    made = await issue(log, Halt(), actor="ada", reason="test", signer=ada)
    assert (made.version, made.state.halted) == (3, True)
    assert (await history(log))[-1].key == "ada"


async def test_a_key_that_took_anothers_place_signs_under_its_own_id(log: Log) -> None:
    """A service looks for its key in one file, and ids of keys never come back."""
    ada, old, new = (Signer(name, Ed25519PrivateKey.generate()) for name in ("ada", "guard", "guard"))
    await issued(log, FOUNDED, TrustKey("ada", ada.public_key, "Ada"))
    for key_id, key in (("guard", old), ("guard-2", new)):
        trusted = TrustKey(key_id, key.public_key, "the guard", ("halt", "resume"))
        await issue(log, trusted, actor="ada", reason="test", signer=ada)
    assert (await issue(log, Halt(), actor="guard", reason="test", signer=new)).state.halted
    assert (await history(log))[-1].key == "guard-2"
    await issue(log, RevokeKey("guard"), actor="ada", reason="test", signer=ada)
    assert not (await issue(log, Resume(), actor="guard", reason="test", signer=new)).state.halted
    with pytest.raises(RefusedError, match="'guard' was revoked"):
        await issue(log, Halt(), actor="guard", reason="test", signer=old)


# Fences


FENCES = (FenceClosed, FenceOpened)


async def marks(log: Log, partitions: int = 1) -> list[str]:
    return [await log.fence(partition) for partition in range(partitions)]


async def notes(log: Log, partition: int = 0) -> list[tuple[str, str]]:
    """What is recorded of a fence: what happened, and under which command."""
    events = [decode("decisions", entry.data).event for entry in await log.scan(StreamKey("decisions", partition))]
    return [(str(type(event).__struct_config__.tag), event.command_id) for event in events if isinstance(event, FENCES)]


async def order(log: Log, command: Command, name: str, **options: Any) -> Issued:
    return await issue(log, command, actor="ada", reason="test", command_id=name, **options)


async def test_founding_opens_a_halt_closes_and_a_resume_opens_the_fence_of_every_partition(log: Log) -> None:
    await order(log, Found(3, "log-of-a-test"), "f")
    assert await marks(log, 3) == ["open f"] * 3
    await order(log, Halt(), "h")
    assert await marks(log, 3) == ["closed h"] * 3
    await order(log, Resume(), "r")
    assert await marks(log, 3) == ["open r"] * 3
    for partition in range(3):
        assert await notes(log, partition) == [("fence.opened", "f"), ("fence.closed", "h"), ("fence.opened", "r")]


async def test_what_is_recorded_of_a_fence_says_who_moved_it_and_why(log: Log) -> None:
    await order(log, FOUNDED, "f")
    await issue(log, Halt(), actor="bo", reason="exchange outage", command_id="h")
    [_, entry] = await log.scan(StreamKey("decisions"))
    note = decode("decisions", entry.data).event
    recorded = (await history(log))[-1]
    assert (note.by, note.reason, note.command_id) == ("bo", "exchange outage", recorded.command_id)
    assert 0 <= note.at - recorded.at < 60_000


async def test_other_commands_and_dry_runs_move_no_fence(log: Log) -> None:
    await order(log, FOUNDED, "f")
    await order(log, artifact(A1), "a")
    await order(log, SetVotingPolicy(quorum_count=1), "v")
    await order(log, Promote("a", A1, forced=True, weight=1.0), "p")
    await order(log, SetVotingPolicy(quorum_count=1, edge=0.3), "w")
    await order(log, Rollback(to=4), "b")
    await order(log, Halt(), "h", dry_run=True)
    assert await notes(log) == [("fence.opened", "f")]
    await order(log, Halt(), "h")
    await order(log, Rollback(to=5), "c")
    await order(log, Resume(), "r", dry_run=True)
    assert await notes(log) == [("fence.opened", "f"), ("fence.closed", "h")]


class Slow(MemoryLog):
    """A log on which things happen just before an entry is appended, and just after."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[Callable[[], Awaitable[object]]] = []
        self.then: list[Callable[[], Awaitable[object]]] = []

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        while self.first:
            await self.first.pop(0)()
        appended = await super().append_at(place, entry_id, data, marks=marks)
        while self.then:
            await self.then.pop(0)()
        return appended


async def test_a_fence_is_closed_before_the_halt_stands_and_opened_after_the_resume_does() -> None:
    log, seen = Slow(), list[str]()
    await order(log, FOUNDED, "f")

    async def look() -> None:
        seen.append(await log.fence(0))

    for command, name in ((Halt(), "h"), (Resume(), "r")):
        log.first, log.then = [look], [look]
        await order(log, command, name)
    assert seen == ["closed h", "closed h", "closed h", "closed h"]


async def test_a_halt_that_lost_to_another_halt_leaves_the_fence_closed() -> None:
    log = Slow()
    await order(log, FOUNDED, "f")
    log.first = [partial(order, log, Halt(), "theirs")]
    with pytest.raises(RefusedError, match="halted already"):
        await order(log, Halt(), "mine")
    assert [mark.partition(" ")[0] for mark in await marks(log)] == ["closed"]
    await order(log, Resume(), "r")
    assert await marks(log) == ["open r"]


async def test_a_halt_that_is_refused_after_it_closed_the_fence_opens_it_again() -> None:
    log = Slow()
    await order(log, FOUNDED, "f")
    log.first = [partial(order, log, SetVotingPolicy(edge=0.1), "faster")]
    with pytest.raises(RefusedError, match="expected version 1"):
        await order(log, Halt(), "h", expects=1)
    assert await notes(log) == [("fence.opened", "f"), ("fence.closed", "h"), ("fence.opened", "h")]


async def test_a_refused_halt_does_not_open_a_fence_that_was_closed_before_it_or_moved_since() -> None:
    log = Slow()
    await order(log, FOUNDED, "f")
    await log.set_fence(0, "closed x", Authority("x", "ada", "crashed").note("closed x"))
    log.first = [partial(order, log, SetVotingPolicy(edge=0.1), "faster")]
    with pytest.raises(RefusedError, match="expected version 1"):
        await order(log, Halt(), "h", expects=1)
    assert await marks(log) == ["closed h"]
    log.first = [
        partial(order, log, SetVotingPolicy(edge=0.2), "faster still"),
        partial(log.set_fence, 0, "closed y", Authority("y", "bo", "another halt").note("closed y")),
    ]
    await log.set_fence(0, "open z", Authority("z", "ada", "opened").note("open z"))
    with pytest.raises(RefusedError, match="expected version 2"):
        await order(log, Halt(), "i", expects=2)
    assert await marks(log) == ["closed y"]


async def test_a_resume_that_was_overtaken_by_a_halt_does_not_open_its_fence() -> None:
    log = Slow()
    await order(log, FOUNDED, "f")
    await order(log, Halt(), "h")
    log.then = [partial(order, log, Halt(), "again")]
    await order(log, Resume(), "r")
    assert (await current(log)).halted
    assert await marks(log) == ["closed again"]


async def test_a_halt_closes_again_what_was_opened_while_it_was_appended() -> None:
    log = Slow()
    await order(log, FOUNDED, "f")
    log.first = [partial(order, log, Resume(), "hasty")]
    made = await order(log, Halt(), "h")
    assert made.state.halted
    assert await marks(log) == ["closed h"]
    assert await notes(log) == [
        ("fence.opened", "f"),
        ("fence.closed", "h"),
        ("fence.opened", "f"),
        ("fence.closed", "h"),
    ]


async def test_a_halt_that_crashed_before_its_entry_is_ended_by_a_resume(log: Log) -> None:
    await order(log, FOUNDED, "f")
    await log.set_fence(0, "closed crashed", Authority("crashed", "ada", "test").note("closed crashed"))
    made = await order(log, Resume(), "r")
    assert (made.version, made.repeated, made.repaired) == (1, True, (0,))
    assert await marks(log) == ["open f"]
    with pytest.raises(RefusedError, match="not halted"):
        await order(log, Resume(), "s")


async def test_a_resume_does_not_open_the_fences_of_a_halt_that_is_being_issued(log: Log) -> None:
    """A halt closes fences before its entry is appended: an intent between the two would be one too many."""
    await order(log, FOUNDED, "f")
    await log.set_fence(0, "closed h", Authority("h", "ada", "test").note("closed h"))
    async with anyio.create_task_group() as tasks:

        async def hasty() -> None:
            with pytest.raises(RefusedError, match="not halted"):
                await order(log, Resume(), "r")

        tasks.start_soon(hasty)
        await order(log, Halt(), "h")
    assert await notes(log) == [("fence.opened", "f"), ("fence.closed", "h")]


async def test_a_fence_that_is_open_in_a_halt_is_closed_by_a_halt(log: Log) -> None:
    await order(log, FOUNDED, "f")
    await order(log, Halt(), "h")
    await log.set_fence(0, "open crashed", Authority("crashed", "ada", "test").note("open crashed"))
    made = await order(log, Halt(), "i")
    assert (made.version, made.repeated, made.repaired) == (2, True, (0,))
    assert await marks(log) == ["closed h"]
    with pytest.raises(RefusedError, match="halted already"):
        await order(log, Halt(), "j")


@pytest.mark.parametrize("options", [{"dry_run": True}, {"expects": 7}])
async def test_a_fence_is_not_repaired_by_a_dry_run_or_for_another_version(log: Log, options: Any) -> None:
    await order(log, FOUNDED, "f")
    await log.set_fence(0, "closed crashed", Authority("crashed", "ada", "test").note("closed crashed"))
    with pytest.raises(RefusedError):
        await order(log, Resume(), "r", **options)
    assert await marks(log) == ["closed crashed"]


async def test_a_fence_is_not_repaired_for_one_who_may_not_resume(log: Log) -> None:
    ada, bo = (Signer(name, Ed25519PrivateKey.generate()) for name in ("ada", "bo"))
    await order(log, FOUNDED, "f")
    await order(log, TrustKey("ada", ada.public_key, "Ada"), "t")
    await order(log, TrustKey("bo", bo.public_key, "Bo", ("halt",)), "u", signer=ada)
    await log.set_fence(0, "closed crashed", Authority("crashed", "ada", "test").note("closed crashed"))
    for signer in (None, bo, Signer("ada", bo.private)):
        with pytest.raises(RefusedError, match="not halted"):
            await order(log, Resume(), "r", signer=signer)
    assert await marks(log) == ["closed crashed"]
    assert (await order(log, Resume(), "r", signer=ada)).repaired == (0,)


async def test_who_may_not_halt_closes_no_fence(log: Log) -> None:
    ada = Signer("ada", Ed25519PrivateKey.generate())
    await order(log, FOUNDED, "f")
    await order(log, TrustKey("ada", ada.public_key, "Ada"), "t")
    with pytest.raises(RefusedError, match="not signed"):
        await order(log, Halt(), "h")
    assert await notes(log) == [("fence.opened", "f")]


class Parted(MemoryLog):
    """A log of which one partition's server does not answer."""

    away: int | None = None

    async def fence(self, partition: int) -> str:
        if partition == self.away:
            raise UnavailableError("no server at p1")
        return await super().fence(partition)


async def test_a_partition_that_is_not_reached_is_named_and_the_others_are_closed() -> None:
    log = Parted()
    await order(log, Found(3, "log-of-a-test"), "f")
    log.away = 1
    with pytest.raises(FenceError, match=r"halt is version 2, .* could be closed .*partition 1: no server at p1"):
        await order(log, Halt(), "h")
    assert (await current(log)).halted
    log.away = None
    assert await marks(log, 3) == ["closed h", "open f", "closed h"]
    assert (await order(log, Halt(), "i")).repaired == (1,)
    assert await marks(log, 3) == ["closed h"] * 3


async def test_a_partition_that_is_not_reached_stays_closed_after_a_resume_and_is_named() -> None:
    log = Parted()
    await order(log, Found(2, "log-of-a-test"), "f")
    await order(log, Halt(), "h")
    log.away = 1
    with pytest.raises(FenceError, match=r"resume is version 3, .* could be opened .*partition 1: no server at p1"):
        await order(log, Resume(), "r")
    log.away = None
    assert await marks(log, 2) == ["open r", "closed h"]
    assert (await order(log, Resume(), "s")).repaired == (1,)
    assert await marks(log, 2) == ["open r"] * 2


async def test_a_halt_whose_entry_the_stream_does_not_take_leaves_the_fence_closed_and_says_so(log: Log) -> None:
    await order(log, FOUNDED, "f")

    class Cut(ControlWriter):
        def _next(self) -> str:
            return "1-0"

    with pytest.raises(RefusedError, match="fences were closed and stay so"):
        await Cut(log).issue(Halt(), actor="ada", reason="test", command_id="h")
    assert await marks(log) == ["closed h"]


# A log that lost its tail


async def test_a_door_notices_that_the_log_it_read_lost_its_tail_and_begins_again_with_what_is_there() -> None:
    log = MemoryLog()
    await issued(log, FOUNDED)
    image, writer = log.image(), ControlWriter(log)
    await writer.issue(Halt(), actor="ada", reason="test")
    log.restore(image)
    with pytest.raises(TruncatedLogError, match="entry 2-0 is gone"):
        await writer.state()
    assert (await writer.state()).version == 1
    assert (await writer.issue(Halt(), actor="ada", reason="test")).version == 2


async def test_a_door_notices_that_another_command_took_the_place_of_the_one_it_read() -> None:
    log = MemoryLog()
    await issued(log, FOUNDED)
    image, writer = log.image(), ControlWriter(log)
    await writer.issue(Halt(), actor="ada", reason="test")
    log.restore(image)
    await issue(log, SetVotingPolicy(quorum_count=2), actor="bo", reason="after the loss")
    with pytest.raises(TruncatedLogError, match="another entry has the id 2-0"):
        await writer.state()
    assert not (await writer.state()).halted


class Cut(MemoryLog):
    """Loses its tail between the moment a writer decided and the moment it appends."""

    def __init__(self) -> None:
        super().__init__()
        self.before: object = None

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        before, self.before = self.before, None
        if before is not None:
            self.restore(before)
        return await super().append_at(place, entry_id, data, marks=marks)


async def test_nothing_is_appended_to_a_log_that_lost_its_tail_meanwhile() -> None:
    log = Cut()
    await issued(log, FOUNDED)
    image = log.image()
    await issued(log, Halt())
    writer = ControlWriter(log)
    await writer.state()
    log.before = image
    with pytest.raises(TruncatedLogError):
        await writer.issue(Resume(), actor="ada", reason="test")
    assert [entry.id for entry in await log.scan(CONTROL)] == ["1-0"]


async def test_while_commands_are_missing_only_a_halt_is_appended() -> None:
    log = MemoryLog()
    await issued(log, FOUNDED)
    writer = ControlWriter(log, missing=lambda state: f"version {state.version + 1} is missing")
    with pytest.raises(RefusedError, match="version 2 is missing"):
        await writer.issue(SetVotingPolicy(quorum_count=2), actor="ada", reason="test")
    assert (await writer.issue(Halt(), actor="ada", reason="test")).version == 2
