"""Telegram's protocol, against a server on loopback: what arrives, what is sent, and what becomes of its faults."""

import html
import logging
import re
import traceback
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.phone.chat import TryLaterError, UndeliverableError
from services.phone.messages import Button, Line, Reply
from services.phone.telegram import RedactingFilter, Telegram, keep_out_of_logs, received, text_of
from shared.telemetry.logs import LogHandler
from tests.services.phone.bot_server import ADA, BAD_GATEWAY, EVE, TOKEN, BotServer, serving, too_many

SECRET = TOKEN.partition(":")[2]


@pytest.fixture
async def server() -> AsyncIterator[BotServer]:
    async with serving() as started:
        yield started


@pytest.fixture
async def chat(server: BotServer) -> AsyncIterator[Telegram]:
    async with Telegram(TOKEN, server.url) as opened:
        yield opened


@pytest.mark.anyio
async def test_messages_and_taps_arrive_with_who_sent_them_and_where(server: BotServer, chat: Telegram) -> None:
    server.message(ADA, "/status")
    server.tap(ADA, "yes x")
    server.message(ADA, "in a group", chat={"id": -5, "type": "group", "title": "g"})
    server.message(ADA, "of a group", chat={"id": ADA, "type": "supergroup", "title": "g"})
    server.message(EVE, "in another's chat", chat={"id": ADA, "type": "private", "first_name": "x"})
    server.message(ADA, "forwarded", forward_origin={"type": "hidden_user", "date": 1, "sender_user_name": "x"})
    server.message(ADA, "by a bot", via_bot={"id": 9, "is_bot": True, "first_name": "b"})
    server.message(ADA, "of a bot", **{"from": {"id": ADA, "is_bot": True, "first_name": "b"}})
    server.tap(EVE, "yes x", chat=ADA)
    server.put({"edited_message": {"message_id": 1}})
    found = await chat.updates(None)
    assert [(each.text or each.data, each.private, each.own) for each in found] == [
        ("/status", True, True),
        ("yes x", True, True),
        ("in a group", False, True),
        ("of a group", False, True),
        ("in another's chat", False, True),
        ("forwarded", True, False),
        ("by a bot", True, False),
        ("of a bot", False, False),
        ("yes x", False, True),
        ("", False, False),
    ]
    assert [each.update for each in found] == list(range(701, 711))
    assert (found[1].tap, found[1].chat, found[1].sender) == ("tap-702", str(ADA), str(ADA))
    assert await chat.updates(709) == found[9:]
    assert server.offsets == [None, 710]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "update_id",
                    "message",
                    "from",
                    "chat",
                    "id",
                    "date",
                    "type",
                    "text",
                    "data",
                    "callback_query",
                    "is_bot",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON | st.fixed_dictionaries({"update_id": st.integers(1, 9), "message": JSON}), max_size=4) | JSON)
def test_garbage_from_the_server_is_passed_over(rows: object) -> None:
    for each in received(rows):
        assert not each.private or each.chat == each.sender


@pytest.mark.anyio
async def test_an_answer_is_escaped_and_its_buttons_carry_their_data(server: BotServer, chat: Telegram) -> None:
    reply = Reply(
        str(ADA),
        "A <b>title</b>",
        (Line("reason", "</code><a href='http://evil'>x</a> /halt @eve & \u202egnol\u0000"), Line("plain <i>&")),
        (Button("Halt now", "yes x"),),
        tap="tap-1",
    )
    await chat.send(reply)
    [sent] = server.sent
    assert sent["text"] == (
        "<b>A &lt;b&gt;title&lt;/b&gt;</b>\n"
        "reason: <code>&lt;/code&gt;&lt;a href=&#x27;http://evil&#x27;&gt;x&lt;/a&gt; /halt @eve &amp;  gnol </code>\n"
        "plain &lt;i&gt;&amp;"
    )
    assert sent["parse_mode"] == "HTML"
    assert "true" in sent["link_preview_options"]
    assert (server.button("Halt now"), server.tapped) == ("yes x", ["tap-1"])


LINES = st.lists(st.builds(Line, words=st.text(max_size=900), value=st.text(max_size=900)), max_size=40)


@given(st.text(max_size=400), LINES)
def test_no_word_of_anyone_becomes_markup_and_every_answer_fits(title: str, lines: list[Line]) -> None:
    text = text_of(Reply("1", title, tuple(lines)))
    assert set(re.findall(r"<[^>]*>", text)) <= {"<b>", "</b>", "<code>", "</code>"}
    assert text.count("<code>") == text.count("</code>") == len(re.findall(r"<code>[^<>]*</code>", text))
    assert len(html.unescape(re.sub(r"<[^>]*>", "", text))) <= 4096


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["getUpdates", "sendMessage"])
async def test_a_server_that_accepts_no_more_says_how_long_to_wait(
    server: BotServer, chat: Telegram, method: str
) -> None:
    server.faults[method] = [too_many(7)]
    with pytest.raises(TryLaterError) as refused:
        await (chat.updates(None) if method == "getUpdates" else chat.send(Reply("1", "x")))
    assert refused.value.wait_s == 7


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault", [BAD_GATEWAY, (500, "{}"), (200, "no json"), (200, '{"ok": true}'), (409, '{"ok": 0}')]
)
async def test_a_server_with_a_fault_is_asked_again_later(
    server: BotServer, chat: Telegram, fault: tuple[int, str]
) -> None:
    server.faults["getUpdates"] = [fault]
    with pytest.raises(TryLaterError):
        await chat.updates(None)


@pytest.mark.anyio
async def test_a_person_who_blocked_the_bot_gets_no_answer_and_an_old_tap_does(
    server: BotServer, chat: Telegram
) -> None:
    server.faults["sendMessage"] = [(403, {"ok": False, "description": "Forbidden: bot was blocked by the user"})]
    with pytest.raises(UndeliverableError, match="blocked"):
        await chat.send(Reply("1", "x"))
    server.faults["answerCallbackQuery"] = [(400, {"ok": False, "description": "Bad Request: query is too old"})]
    await chat.send(Reply("1", "x", tap="old"))
    assert server.texts(1) == ["<b>x</b>"]


@pytest.mark.anyio
async def test_the_token_is_in_no_error_and_in_no_log_line(caplog: pytest.LogCaptureFixture, server: BotServer) -> None:
    keep_out_of_logs(TOKEN)  # before the level, so that the library logs all it can
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "telegram"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.handler.addFilter(RedactingFilter(TOKEN))
    errors: list[BaseException] = []
    wrong, away, none = (server.url, f"1:{SECRET}"), ("http://127.0.0.1:1", TOKEN), ("http://h:x", TOKEN)
    for api, token in ((server.url, TOKEN), wrong, away, none):
        async with Telegram(token, api) as chat:
            server.faults["getUpdates"] = [(418, {"ok": False, "description": f"bad {TOKEN}"})]
            server.faults["sendMessage"] = [(400, {"ok": False, "description": f"bad {TOKEN}"})]
            for attempt in (chat.updates(None), chat.send(Reply("1", "x"))):
                with pytest.raises((TryLaterError, UndeliverableError)) as failed:
                    await attempt
                errors.append(failed.value)
    assert [error for error in errors if SECRET in "".join(traceback.format_exception(error))] == []
    assert any("<token>" in str(error) for error in errors)
    assert any("<token>" in record.getMessage() for record in caplog.records)  # the library logged addresses
    assert SECRET not in caplog.text


def test_a_log_line_and_its_traceback_are_written_without_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    logger, handler = logging.getLogger("a-library"), LogHandler("phone")
    handler.filters.insert(0, RedactingFilter(TOKEN))
    logger.addHandler(handler)
    try:
        logger.warning("asked %s, 100 %%", f"https://host/bot{TOKEN}/getMe")
        try:
            raise ValueError(f"no host in /bot{TOKEN}/")
        except ValueError:
            logger.exception("failed")
        logger.warning("plain %s", "line")
    finally:
        logger.removeHandler(handler)
    written = capsys.readouterr().err
    assert SECRET not in written
    assert "asked https://host/bot<token>/getMe, 100 %" in written
    assert "ValueError: no host in /bot<token>/" in written
    assert "plain line" in written
