"""An entry that is signed elsewhere: it fits one place of the log, and nothing but the signature may be added."""

from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    Found,
    Halt,
    Propose,
    Resume,
    SetApprovalRule,
    TrustKey,
)
from shared.control import canonical
from shared.control.chain import unsigned
from shared.control.drafting import OvertakenError, draft, submit
from shared.control.issuing import ControlWriter, Issued, RefusedError, current, history, issue
from shared.control.signing import Signer, sign
from shared.log import CLOSED, Log

pytestmark = pytest.mark.anyio
ADA = Signer("ada", Ed25519PrivateKey.generate())
BO = Signer("bo", Ed25519PrivateKey.generate())
CY = Signer("cy", Ed25519PrivateKey.generate())


async def founded(log: Log) -> ControlWriter:
    """A log where Ada may do all, and Bo may halt."""
    for command in (Found(1, "log-of-a-test"), TrustKey("ada", ADA.public_key, "Ada")):
        await issue(log, command, actor="ada", reason="test")
    await issue(log, TrustKey("bo", BO.public_key, "Bo", ("halt",)), actor="ada", reason="test", signer=ADA)
    return ControlWriter(log)


async def drafted(writer: ControlWriter, command: Command, signer: Signer = ADA, **options: Any) -> CommandRecorded:
    entry = await draft(writer, command, actor="ada", reason="test", public_key=signer.public_key, **options)
    assert isinstance(entry, CommandRecorded)
    return entry


def signed(entry: CommandRecorded, signer: Signer = ADA) -> CommandRecorded:
    return structs.replace(entry, signature=sign(canonical(entry), signer))


async def test_what_its_person_signs_is_appended_as_it_was_signed(log: Log) -> None:
    writer = await founded(log)
    entry = signed(await drafted(writer, Halt()))
    assert (await submit(writer, entry)).version == 4
    assert (await history(log))[-1] == entry
    assert (await current(log)).halted
    assert await log.fence(0) == CLOSED + entry.command_id


async def test_of_two_who_sign_the_same_place_one_is_told_who_was_faster(log: Log) -> None:
    writer = await founded(log)
    mine = signed(await drafted(writer, Halt()))
    await issue(log, Halt(), actor="bo", reason="I saw it first", signer=BO)
    await issue(log, Resume(), actor="ada", reason="over", signer=ADA)
    with pytest.raises(OvertakenError, match=r"not version 4.*4 halt by bo .I saw it first.; 5 resume by ada"):
        await submit(writer, mine)
    assert await log.fence(0) != CLOSED + mine.command_id
    again = signed(await drafted(writer, Halt(), command_id=mine.command_id))
    assert (await submit(writer, again)).version == 6


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"reason": "another"}, "signature is not that of key 'ada'"),
        ({"command": Resume()}, "signature is not that of key 'ada'"),
        ({"signature": None}, "not signed"),
        ({"key": "bo"}, "signature is not that of key 'bo'"),
    ],
)
async def test_an_entry_that_differs_from_the_signed_one_is_refused_and_moves_no_fence(
    log: Log, change: dict[str, Any], why: str
) -> None:
    writer = await founded(log)
    entry, before = signed(await drafted(writer, Halt())), await log.fence(0)
    with pytest.raises(RefusedError, match=why):
        await submit(writer, structs.replace(entry, **change))
    assert (await current(log)).version == 3
    assert await log.fence(0) == before


async def test_a_key_that_is_unknown_or_may_not_is_refused_before_anything_is_signed(log: Log) -> None:
    writer = await founded(log)
    eve = Signer("ada", Ed25519PrivateKey.generate())
    with pytest.raises(RefusedError, match=f"conclave keys trust NAME {eve.public_key}"):
        await drafted(writer, Halt(), eve)
    await submit(writer, signed(await drafted(writer, Halt(), BO), BO))
    with pytest.raises(RefusedError, match="'bo' of Bo may not resume; it may halt"):
        await drafted(writer, Resume(), BO)


async def test_an_entry_that_is_sent_twice_is_recorded_once(log: Log) -> None:
    writer = await founded(log)
    entry = signed(await drafted(writer, Halt(), command_id="once"))
    assert not (await submit(writer, entry)).repeated
    assert (await submit(writer, entry)).repeated
    assert isinstance(
        await draft(
            writer, Halt(), actor="ada", reason="test", public_key=ADA.public_key, command_id="once"
        ),
        Issued,
    )  # fmt: skip
    assert len(await history(log)) == 4


async def test_an_approval_that_is_sent_after_its_proposal_expired_is_refused_whatever_its_time_says(log: Log) -> None:
    writer = await founded(log)
    await issue(log, TrustKey("cy", CY.public_key, "Cy"), actor="ada", reason="test", signer=ADA)
    await issue(log, SetApprovalRule(("promote",), ("Cy",)), actor="ada", reason="test", signer=ADA)
    proposed = await issue(log, Propose(SetApprovalRule(), valid_ms=1), actor="ada", reason="test", signer=ADA)
    state = await writer.state()
    entry = unsigned(
        state,
        Approve(proposed.version, SetApprovalRule()),
        command_id="late",
        actor="cy",
        reason="test",
        at=state.proposals[proposed.version].at,
        key="cy",
    )
    assert isinstance(entry, CommandRecorded)
    while await log.time() < state.proposals[proposed.version].until:
        await anyio.sleep(0.001)
    with pytest.raises(RefusedError, match="has expired"):
        await submit(writer, signed(entry, CY))


async def test_a_halt_in_force_sets_a_fence_that_does_not_show_it_and_needs_no_signature(log: Log) -> None:
    writer = await founded(log)
    await submit(writer, signed(await drafted(writer, Halt())))
    with pytest.raises(RefusedError, match="halted already"):
        await drafted(writer, Halt())
    await log.set_fence(0, "open lost", _note())
    answer = await draft(writer, Halt(), actor="ada", reason="test", public_key=ADA.public_key)
    assert isinstance(answer, Issued)
    assert answer.repaired == (0,)


def _note() -> Any:
    from schemas.codec import encode
    from schemas.decisions import FenceOpened

    return encode("decisions", FenceOpened("lost", "nobody", "test", 1))
