"""The bot on a log and in a chat: a halt is recorded once, whatever the chat and the process do."""

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from schemas.control import (
    Command,
    Halt,
    Promote,
    PromotePolicy,
    Propose,
    Resume,
    RevokeKey,
    SetApprovalRule,
    SetVotingPolicy,
    StartPolicyShadow,
    TrustKey,
)
from services.phone import main
from services.phone.messages import Received
from shared.control.issuing import ControlWriter, Issued, current, history, issue
from shared.control.policies import policy_digest
from shared.control.signing import Signer, generate, load_private
from shared.log import Log, UnavailableError
from shared.log.leases import is_open
from tests.services.phone.bot_server import ADA, BAD_GATEWAY, BEN, EVE, BotServer, too_many
from tests.services.phone.conftest import Started
from tests.shared.control.test_issuing import A1, A2, artifact

pytestmark = pytest.mark.anyio


async def halts(log: Log) -> list[tuple[str, str, str | None]]:
    return [(each.actor, each.reason, each.key) for each in await history(log) if isinstance(each.command, Halt)]


async def confirmed(server: BotServer, words: str = "Halt now") -> None:
    """Ada asks, and presses the button."""
    answered = len(server.sent)
    server.message(ADA, "/halt <exchange> outage" if words == "Halt now" else "/resume it is over")
    await server.until(lambda: len(server.sent) > answered)
    server.tap(ADA, server.button(words))


async def test_a_halt_is_signed_by_the_key_of_its_person_and_closes_the_fence(
    log: Log, server: BotServer, started: Started
) -> None:
    async with started():
        await confirmed(server)
        await server.until(lambda: any("HALTED" in text for text in server.texts(ADA)))
        state = await current(log)
        assert (state.halted, is_open(await log.fence(0))) == (True, False)
        assert await halts(log) == [("ada", "<exchange> outage", "phone-ada")]
        [*_, recorded] = await history(log)
        assert recorded.signature
        assert recorded.command_id.startswith("phone-701-")
        assert "&lt;exchange&gt; outage" in server.texts(ADA)[-1]
        await confirmed(server, "Resume now")
        await server.until(lambda: any("Resumed as version 5" in text for text in server.texts(ADA)))
        assert is_open(await log.fence(0))
        assert [type(each.command) for each in await history(log)][-2:] == [Halt, Resume]
    assert len(server.tapped) == 2


async def test_updates_that_arrive_twice_or_out_of_order_or_again_do_nothing_more(
    log: Log, server: BotServer, started: Started
) -> None:
    seen: list[Any] = []

    def disorder(updates: list[Any]) -> list[Any]:
        seen.extend(update for update in updates if update not in seen)
        return [] if not updates else [*reversed(updates), *seen, *seen]

    server.disorder = disorder
    async with started():
        await confirmed(server)
        await server.until(lambda: any("HALTED" in text for text in server.texts(ADA)))
        server.message(BEN, "/help")
        server.message(ADA, "/help")
        await server.until(lambda: any("You are ada" in text for text in server.texts(ADA)))
    assert len(await halts(log)) == 1
    assert sum("Halt?" in text for text in server.texts(ADA)) == 1
    assert sum("HALTED" in text for text in server.texts(ADA)) == 1


async def test_a_bot_that_was_killed_after_its_halt_records_it_once(
    log: Log, server: BotServer, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the entry is on the log, and the state is not saved. The update arrives again."""
    real = ControlWriter.issue

    async def killed(self: ControlWriter, *args: Any, **kwargs: Any) -> Issued:
        await real(self, *args, **kwargs)
        await anyio.sleep_forever()
        raise AssertionError

    with monkeypatch.context() as dying:
        dying.setattr(ControlWriter, "issue", killed)
        async with started():
            await confirmed(server)
            while not await halts(log):
                await anyio.sleep(0.005)
    assert not any("HALTED" in text for text in server.texts(ADA))
    async with started():
        await server.until(lambda: any("HALTED already, as version 4" in text for text in server.texts(ADA)))
    assert len(await halts(log)) == 1


async def test_an_answer_that_the_chat_did_not_take_is_sent_after_a_restart(
    log: Log, server: BotServer, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started():
        await confirmed(server)
        server.faults["sendMessage"] = [BAD_GATEWAY] * 1000
        while not await halts(log):
            await anyio.sleep(0.005)
        await server.until(lambda: len(server.faults["sendMessage"]) < 1000)
    server.faults.clear()
    async with started():
        await server.until(lambda: any("HALTED as version 4" in text for text in server.texts(ADA)))


async def test_a_chat_that_is_away_blocks_nothing_and_is_asked_again(
    log: Log, server: BotServer, started: Started, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(main, "FIRST_RETRY_S", 0.001)
    caplog.set_level(logging.INFO)
    server.faults["getUpdates"] = [BAD_GATEWAY, BAD_GATEWAY, (500, "{}")]
    async with started() as bot:
        await server.until(lambda: not server.faults["getUpdates"])
        server.faults["sendMessage"] = [BAD_GATEWAY, BAD_GATEWAY]
        await confirmed(server)
        await server.until(lambda: any("HALTED" in text for text in server.texts(ADA)))
        await bot._projection.turn()
    told = [record.getMessage() for record in caplog.records if record.name == "phone"]
    assert sum("does not answer" in line for line in told) <= 2
    assert any("answers again" in line for line in told)


async def test_one_chat_that_must_wait_does_not_hold_up_another(server: BotServer, started: Started) -> None:
    server.faults["sendMessage"] = [too_many(600)]
    async with started() as bot:
        server.message(BEN, "/help")
        await server.until(lambda: not server.faults["sendMessage"])
        await confirmed(server)
        await server.until(lambda: any("HALTED" in text for text in server.texts(ADA)))
        await server.until(lambda: [reply.chat for reply in bot.state.waiting] == [str(BEN)])
        assert server.texts(BEN) == []


async def test_who_may_not_is_refused_in_words_and_nothing_is_recorded(
    log: Log, owner: Signer, server: BotServer, started: Started
) -> None:
    async with started() as bot:
        server.message(BEN, "/halt")
        await server.until(lambda: len(server.texts(BEN)) == 1)
        assert "the server holds no key for ben" in server.texts(BEN)[0]
        server.message(EVE, "/halt")
        await server.until(lambda: len(server.texts(EVE)) == 1)
        server.message(ADA, "/halt")
        await server.until(lambda: len(server.texts(ADA)) == 1)
        server.tap(BEN, server.button("Halt now"))
        await server.until(lambda: len(server.texts(BEN)) == 2)
        assert "no effect" in server.texts(BEN)[1]
        await issue(log, RevokeKey("phone-ada"), actor="owner", reason="lost", signer=owner)
        await bot._projection.turn()
        server.tap(ADA, server.button("Halt now"))
        await server.until(lambda: len(server.texts(ADA)) == 2)
        assert "is not trusted" in server.texts(ADA)[1]
    assert await halts(log) == []


async def test_a_log_that_does_not_answer_is_said_so_and_the_same_button_tries_again(
    log: Log, server: BotServer, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(self: ControlWriter, *args: Any, **kwargs: Any) -> Issued:
        raise UnavailableError("no answer for 30 s")

    async with started():
        with monkeypatch.context() as away:
            away.setattr(ControlWriter, "issue", unavailable)
            await confirmed(server)
            await server.until(lambda: any("not known" in text for text in server.texts(ADA)))
        server.tap(ADA, server.button("Halt now"))
        await server.until(lambda: any("HALTED as version 4" in text for text in server.texts(ADA)))
    assert len(await halts(log)) == 1


async def test_a_state_that_cannot_be_read_or_written_stops_nothing(
    server: BotServer, started: Started, tmp_path: Path
) -> None:
    (tmp_path / "phone.bin").write_bytes(b"\xc1")
    (tmp_path / "phone.new").mkdir()
    async with started():
        await confirmed(server)
        await server.until(lambda: any("HALTED" in text for text in server.texts(ADA)))


async def test_the_file_of_the_bot_is_for_its_owner_alone(server: BotServer, started: Started, tmp_path: Path) -> None:
    async with started() as bot:
        await bot.handle(Received(701, str(ADA), str(ADA), private=True, own=True, text="/halt"))
    assert (tmp_path / "phone.bin").stat().st_mode & 0o077 == 0


async def test_an_error_in_what_is_shown_does_not_end_the_bot(
    server: BotServer, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "answer", broken)
    async with started():
        server.message(ADA, "/status")
        await server.until(lambda: any("cannot be shown" in text for text in server.texts(ADA)))


async def ruled(log: Log, owner: Signer, *held: Path) -> int:
    """Ben and cy approve promotions, ben with a key that the server holds; return the owner's proposal."""
    commands: tuple[Command, ...] = (
        artifact(A1),
        artifact(A2),
        Promote("a", A1, forced=True, weight=1.0),
        *(TrustKey(f"phone-{file.stem}", generate(file), file.stem, ("approve", "refuse")) for file in held),
        SetApprovalRule(("promote",), ("ben",)),
        Propose(Promote("a", A2, forced=True, accept_changes=True)),
    )
    for command in commands:
        await issue(log, command, actor="owner", reason="better in <shadow>", signer=owner)
    return (await current(log)).version


@pytest.mark.parametrize(("word", "champion"), [("approve", A2), ("refuse", A1)])
async def test_a_proposal_is_listed_shown_and_ended_by_an_approver_with_a_signed_entry(
    log: Log, owner: Signer, server: BotServer, started: Started, tmp_path: Path, word: str, champion: str
) -> None:
    number = await ruled(log, owner, tmp_path / "ben.pem")
    async with started():
        server.message(BEN, "/proposals")
        await server.until(lambda: len(server.texts(BEN)) == 1)
        assert f"proposal {number}" in server.texts(BEN)[0]
        assert "better in &lt;shadow&gt;" in server.texts(BEN)[0]
        server.message(BEN, f"/{word} {number} I read its gates")
        await server.until(lambda: len(server.texts(BEN)) == 2)
        assert f"{A1[:12]} -&gt; {A2[:12]}" in server.texts(BEN)[1]
        assert (await current(log)).models["a"].champion == A1
        server.tap(BEN, server.button(f"{word.capitalize()} now"))
        await server.until(lambda: len(server.texts(BEN)) == 3)
        assert f"as version {number + 1}" in server.texts(BEN)[2]
    state = await current(log)
    assert (state.models["a"].champion, list(state.proposals)) == (champion, [])
    [*_, newest] = await history(log)
    assert (newest.actor, newest.key, newest.reason) == ("ben", "phone-ben", "I read its gates")


@pytest.mark.parametrize(("word", "edge"), [("approve", 0.05), ("refuse", 0.1)])
async def test_a_proposed_voting_policy_is_listed_shown_and_ended_by_an_approver(
    log: Log, owner: Signer, server: BotServer, started: Started, tmp_path: Path, word: str, edge: float
) -> None:
    policy = SetVotingPolicy(edge=0.05, quorum_count=1)
    commands: tuple[Command, ...] = (
        structs.replace(artifact(A1), horizon=12, kappa=0.75),
        Promote("a", A1, forced=True, weight=1.0),
        SetVotingPolicy(quorum_count=1),
        StartPolicyShadow(policy),
        TrustKey("phone-ben", generate(tmp_path / "ben.pem"), "ben", ("approve", "refuse")),
        SetApprovalRule(("promote_policy",), ("ben",)),
        Propose(PromotePolicy(policy_digest(policy), forced=True)),
    )
    for command in commands:
        await issue(log, command, actor="owner", reason="it acts too seldom", signer=owner)
    number = (await current(log)).version
    async with started():
        server.message(BEN, "/proposals")
        await server.until(lambda: len(server.texts(BEN)) == 1)
        assert f"proposal {number}" in server.texts(BEN)[0]
        assert f"promote_policy policy={policy_digest(policy)[:12]}" in server.texts(BEN)[0]
        server.message(BEN, f"/{word} {number} I read its gates")
        await server.until(lambda: len(server.texts(BEN)) == 2)
        assert "policy edge" in server.texts(BEN)[1]
        assert "0.1 -&gt; 0.05" in server.texts(BEN)[1]
        server.tap(BEN, server.button(f"{word.capitalize()} now"))
        await server.until(lambda: len(server.texts(BEN)) == 3)
        assert f"as version {number + 1}" in server.texts(BEN)[2]
    state = await current(log)
    assert (state.policy.edge, list(state.proposals)) == (edge, [])


async def test_who_may_not_approve_is_refused_in_words(
    log: Log, owner: Signer, server: BotServer, started: Started, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    number = await ruled(log, owner, tmp_path / "elsewhere" / "ben.pem")
    async with started() as bot:
        server.message(BEN, f"/approve {number} yes")
        await server.until(lambda: len(server.texts(BEN)) == 1)
        assert "the server holds no key for ben" in server.texts(BEN)[0]
        server.message(ADA, f"/approve {number} yes")
        await server.until(lambda: len(server.texts(ADA)) == 1)
        assert "may sign halt, resume, and not approve" in server.texts(ADA)[0]
        both = TrustKey("ada-2", generate(tmp_path / "ada-2.pem"), "ada", ("approve", "refuse"))
        await issue(log, both, actor="owner", reason="why", signer=owner)
        bot._held.signers["ada"] = load_private(tmp_path / "ada-2.pem")
        await bot._projection.turn()
        server.message(ADA, f"/approve {number} yes")
        await server.until(lambda: len(server.texts(ADA)) == 2)
        assert "ada is no approver; approvers are ben" in server.texts(ADA)[1]
        server.message(ADA, f"/refuse {number} no")
        await server.until(lambda: len(server.texts(ADA)) == 3)
        server.tap(ADA, server.button("Refuse now"))
        await server.until(lambda: len(server.texts(ADA)) == 4)
        assert "ada can neither refuse nor withdraw" in server.texts(ADA)[3]
    assert list((await current(log)).proposals) == [number]


async def test_a_bot_that_was_killed_after_an_approval_records_it_once(
    log: Log, owner: Signer, server: BotServer, started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await ruled(log, owner, tmp_path / "ben.pem")
    real = ControlWriter.issue

    async def killed(self: ControlWriter, *args: Any, **kwargs: Any) -> Issued:
        await real(self, *args, **kwargs)
        await anyio.sleep_forever()
        raise AssertionError

    with monkeypatch.context() as dying:
        dying.setattr(ControlWriter, "issue", killed)
        async with started():
            server.message(BEN, f"/approve {number} yes")
            await server.until(lambda: len(server.texts(BEN)) == 1)
            server.tap(BEN, server.button("Approve now"))
            while (await current(log)).proposals:
                await anyio.sleep(0.005)
    async with started():
        await server.until(lambda: any("Approved already, as version" in text for text in server.texts(BEN)))
    assert (await current(log)).version == number + 1
