"""Speak to Telegram (Bot API, https://core.telegram.org/bots/api), by python-telegram-bot.

Updates are asked for (``getUpdates``). A web hook would need an address that the outside reaches, and then everyone
could send forged updates to it.

The token is part of every address that is asked, and the client's library logs addresses. So no error of the library
leaves this module as it is, and ``RedactingFilter`` removes the token from log lines of all modules.
"""

import html
import json
import logging
import os
import traceback
import unicodedata
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, Message, Update
from telegram.constants import ChatType, ParseMode
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from services.phone.chat import TryLaterError, UndeliverableError
from services.phone.messages import Line, Received, Reply

T = TypeVar("T")
POLL_S: Final = 25
"""How long the server keeps a request for updates open when there are none."""
TIMEOUT_S: Final = 10.0
BAD_TOKEN_S: Final = 60.0
KINDS: Final = ("message", "callback_query")
TITLE: Final = 200
LINES: Final = 3_500
"""Characters of an answer; Telegram takes 4096."""
VALUE: Final = 600
UNSEEN: Final = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
"""Categories of characters that are invisible, break lines, or change the direction of others."""


os.environ.setdefault("PTB_TIMEDELTA", "1")  # spans as the library will have them; without it, it warns of each


class Telegram:
    """A bot of Telegram (``services.phone.chat.Chat``). ``api``: the server that speaks its protocol."""

    def __init__(self, token: str, api: str) -> None:
        self._token = token
        self._polling, self._sending = (
            HTTPXRequest(
                connection_pool_size=4, read_timeout=TIMEOUT_S, write_timeout=TIMEOUT_S, connect_timeout=TIMEOUT_S
            )
            for _ in range(2)
        )
        base = f"{api.rstrip('/')}/bot"
        self._updates = f"{base}{token}/getUpdates"
        self._bot = Bot(token, base_url=base, get_updates_request=self._polling, request=self._sending)

    async def __aenter__(self) -> Self:
        """Open the connections; nothing is asked yet, so a server that is away hinders no start."""
        for request in (self._polling, self._sending):
            await request.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        for request in (self._polling, self._sending):
            await request.shutdown()

    async def updates(self, after: int | None) -> Sequence[Received]:
        """See ``Chat.updates``."""
        asked = {"timeout": POLL_S, "allowed_updates": json.dumps(KINDS)}
        query = urlencode(asked if after is None else {**asked, "offset": after + 1})
        # Not Bot.get_updates: one update that the library cannot read would hide all others, again and again.
        try:
            rows = await self._asked(self._polling.post(f"{self._updates}?{query}", read_timeout=TIMEOUT_S + POLL_S))
        except UndeliverableError as error:  # of a request for updates: nothing is lost by asking again
            raise TryLaterError(str(error)) from None
        return list(received(rows))

    async def send(self, reply: Reply) -> None:
        """See ``Chat.send``."""
        if reply.tap:
            with suppress(UndeliverableError):  # a tap that is too old cannot be answered, a message can
                await self._asked(self._bot.answer_callback_query(reply.tap))
        keys = [[InlineKeyboardButton(button.words, callback_data=button.data) for button in reply.buttons]]
        await self._asked(
            self._bot.send_message(
                chat_id=reply.chat,
                text=text_of(reply),
                parse_mode=ParseMode.HTML,
                reply_markup=InlineKeyboardMarkup(keys) if reply.buttons else None,
                link_preview_options=LinkPreviewOptions(is_disabled=True),
            )
        )

    async def _asked(self, answer: Awaitable[T]) -> T:
        """Await an answer of the server. Raises ``TryLaterError``, ``UndeliverableError``, without the token."""
        try:
            return await answer
        except RetryAfter as error:
            wait = error.retry_after
            wait_s = float(wait) if isinstance(wait, int) else wait.total_seconds()
            raise TryLaterError("Telegram accepts no more now", wait_s) from None
        except InvalidToken:
            raise TryLaterError(
                "Telegram does not know the token of the bot: ask @BotFather for the present one", BAD_TOKEN_S
            ) from None
        except (BadRequest, Forbidden, ChatMigrated) as error:
            raise UndeliverableError(redacted(str(error), self._token)) from None
        except (TelegramError, OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
            raise TryLaterError(redacted(f"{type(error).__name__}: {error}", self._token)) from None


def received(rows: Any) -> Iterable[Received]:
    """Yield the updates in an answer of the server. One that cannot be read is yielded without a sender."""
    for row in rows if isinstance(rows, list | tuple) else ():
        number = row.get("update_id") if isinstance(row, Mapping) else None
        if not isinstance(number, int) or isinstance(number, bool):
            continue
        try:
            yield _received(Update.de_json(dict(row), None))
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, OSError):
            yield Received(number)  # garbage from the server: it is passed over, not read again and again


def _received(update: Update) -> Received:
    tap, message = update.callback_query, update.message
    if tap is not None:
        of = tap.message
        chat, sender = (of.chat if of is not None else None), tap.from_user
        own = not sender.is_bot
    elif message is not None and message.from_user is not None:
        chat, sender = message.chat, message.from_user
        own = not sender.is_bot and _typed(message)
    else:
        return Received(update.update_id)
    if chat is None:
        return Received(update.update_id)
    return Received(
        update=update.update_id,
        sender=str(sender.id),
        chat=str(chat.id),
        # A private chat has the id of its person; anything else is no private chat, whatever its type says.
        private=chat.type == ChatType.PRIVATE and chat.id == sender.id and not sender.is_bot,
        own=own,
        text=(message.text or "") if message is not None and tap is None else "",
        data=(tap.data or "") if tap is not None else "",
        tap=tap.id if tap is not None else "",
    )


def _typed(message: Message) -> bool:
    return message.forward_origin is None and message.via_bot is None and message.sender_chat is None


def text_of(reply: Reply) -> str:
    """Return the text of an answer as HTML in which everything that is shown is escaped. Lines that do not fit are
    counted."""
    parts, left = [f"<b>{_escaped(reply.title, TITLE)}</b>"], LINES
    for number, line in enumerate(reply.lines):
        left -= len(line.words) + min(len(line.value), VALUE)
        if left < 0:
            parts.append(f"and {len(reply.lines) - number} more lines")
            break
        parts.append(_line(line))
    return "\n".join(parts)


def _line(line: Line) -> str:
    words = _escaped(line.words, VALUE)
    return f"{words}: <code>{_escaped(line.value, VALUE)}</code>" if line.value else words


def _escaped(text: str, most: int) -> str:
    """Return a text as it is to be shown: nothing in it is markup, and no character is invisible or changes the
    direction of the others."""
    shown = "".join(" " if unicodedata.category(each) in UNSEEN else each for each in text)
    return html.escape(shown if len(shown) <= most else f"{shown[: most - 1]}…")


def redacted(text: str, token: str) -> str:
    """Return a text without the token, and without its secret half."""
    for secret in (token, token.partition(":")[2]):
        if secret:
            text = text.replace(secret, "<token>")
    return text


class RedactingFilter(logging.Filter):
    """Removes the token from log lines and from their tracebacks."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def filter(self, record: logging.LogRecord) -> bool:
        """Return true: every line passes."""
        text = record.getMessage()
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        if redacted(f"{text} {trace}", self._token) != f"{text} {trace}":
            record.msg, record.args = redacted(f"{text}\n{trace}".strip(), self._token), None
            record.exc_info = record.exc_text = None
        return True


def keep_out_of_logs(token: str) -> None:
    """Keep the token out of what this process logs."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every address that is asked
    for handler in logging.getLogger().handlers:
        handler.filters.insert(0, RedactingFilter(token))
