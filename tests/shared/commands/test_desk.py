"""A command is shown before it is issued, with the evidence that the console would ask for."""

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.control import CommandRecorded, Found, Halt, Promote, Resume, SetVotingPolicy, TrustKey
from shared.commands.desk import CommandDesk, Done
from shared.control import canonical
from shared.control.drafting import OvertakenError
from shared.control.issuing import RefusedError, current, history, issue
from shared.control.signing import Signer, sign
from shared.log import Entry, Log, StreamKey
from shared.log.memory import MemoryLog
from tests.shared.control.test_issuing import A1, artifact

pytestmark = pytest.mark.anyio


async def opened(log: Log, *, names: tuple[str, ...] = ("a",)) -> CommandDesk:
    for command in (Found(1, "log-of-a-test"), SetVotingPolicy(quorum_count=1), artifact(A1)):
        await issue(log, command, actor="ada", reason="test")
    return CommandDesk(log, names)


async def test_a_preview_shows_what_would_change_and_appends_nothing(log: Log) -> None:
    desk = await opened(log)
    shown = await desk.preview(Promote("a", A1, forced=True, weight=1.0), "ada")
    assert (shown.before, shown.signed, shown.warning) == (3, False, "")
    assert [tuple(change) for change in shown.changes] == [
        ("a champion", "-", "a1a1a1a1a1a1"),
        ("a weight", "-", "100.00%"),
    ]
    assert (await current(log)).version == 3
    done = await desk.issue(shown.command, actor="ada", reason="test", expects=shown.before, command_id="once")
    assert (done.version, done.changes, done.repeated) == (4, shown.changes, False)
    assert (await desk.issue(shown.command, actor="ada", reason="test", command_id="once")).repeated


async def test_a_refusal_names_all_the_evidence_that_is_missing(log: Log) -> None:
    desk = await opened(log)
    for refused in (desk.preview(Promote("a", A1), "ada"), desk.issue(Promote("a", A1), actor="ada", reason="test")):
        with pytest.raises(RefusedError, match=r"(?s)no living worker.*there is no verdict on it"):
            await refused
    with pytest.raises(RefusedError, match="no worker serves the model 'a'"):
        await CommandDesk(log).preview(Promote("a", A1, forced=True, weight=1.0), "ada")
    with pytest.raises(RefusedError, match="not halted"):
        await desk.preview(Resume(), "ada")


async def test_a_command_on_another_configuration_than_the_shown_one_names_what_came_first(log: Log) -> None:
    desk = await opened(log)
    shown = await desk.preview(Promote("a", A1, forced=True, weight=1.0), "ada")
    await issue(log, Halt(), actor="bo", reason="an outage")
    with pytest.raises(RefusedError, match=r"expected version 3.*4 halt by bo .an outage"):
        await desk.issue(shown.command, actor="ada", reason="test", expects=shown.before)


class Searching(MemoryLog):
    """A log that is searched for evidence until ``found`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.searched, self.found = anyio.Event(), anyio.Event()

    async def tail(self, place: StreamKey, count: int) -> list[Entry]:
        self.searched.set()
        await self.found.wait()
        return await super().tail(place, count)


async def test_a_halt_waits_for_no_evidence_that_another_command_is_searched_for() -> None:
    log = Searching()
    desk = await opened(log)

    async def promote() -> None:
        with pytest.raises(RefusedError, match="there is no verdict on it"):
            await desk.issue(Promote("a", A1), actor="bo", reason="test")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(promote)
        await log.searched.wait()
        assert (await desk.issue(Halt(), actor="ada", reason="an outage")).version == 4
        log.found.set()


async def test_a_person_signs_where_the_key_is_and_the_desk_only_appends(log: Log) -> None:
    desk = await opened(log)
    ada = Signer("ada", Ed25519PrivateKey.generate())
    await issue(log, TrustKey("ada", ada.public_key, "Ada"), actor="ada", reason="test")
    assert (await desk.preview(Halt(), "ada")).signed
    with pytest.raises(RefusedError, match="accepts signed commands only"):
        await desk.issue(Halt(), actor="ada", reason="test")
    entry = await desk.draft(Halt(), actor="ada", reason="an outage", public_key=ada.public_key)
    assert isinstance(entry, CommandRecorded)
    done = await desk.submit(entry, sign(canonical(entry), ada))
    assert isinstance(done, Done)
    assert [tuple(change) for change in done.changes] == [("halted", "False", "True")]
    assert (await history(log))[-1].key == "ada"
    with pytest.raises(OvertakenError, match="another command was appended first"):
        await desk.submit(
            entry.__class__(
                version=entry.version, previous=entry.previous, command_id="other", at=1, actor="ada", reason="late",
                command=Resume(), key="ada",
            ),
            sign(b"", ada),
        )  # fmt: skip
