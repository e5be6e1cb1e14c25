"""A server on loopback that speaks Telegram's bot protocol as far as the bot asks it, with faults.

As Telegram does, it keeps an update until a request for updates names a later offset, and holds a request open until
there is one."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

TOKEN = "123456:a-secret-of-the-bot"
ADA, BEN, EVE = 1001, 1002, 6666


class BotServer:
    """``sent``: the messages that it accepted. ``tapped``: the taps that were answered. ``faults``: answers for the
    next requests of a method, each a status and a body. ``disorder``: changes the updates of an answer. ``offsets``:
    those that were asked for."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.tapped: list[str] = []
        self.faults: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.offsets: list[int | None] = []
        self.disorder: Callable[[list[Any]], list[Any]] = lambda updates: updates
        self.number = 700
        self.url = ""
        self._changed = asyncio.Event()

    def message(self, sender: int, text: str, **fields: Any) -> int:
        """A person sends a message; return the number of the update."""
        chat = {"id": sender, "type": "private", "first_name": "x"}
        body = {"message_id": 1, "date": 1_700_000_000, "chat": chat, "from": _user(sender), "text": text}
        return self.put({"message": {**body, **fields}})

    def tap(self, sender: int, data: str, chat: int | None = None) -> int:
        """A person taps a button; return the number of the update."""
        where = {"id": chat or sender, "type": "private", "first_name": "x"}
        of = {"message_id": 2, "date": 1_700_000_000, "chat": where, "text": "?"}
        tap = {"id": f"tap-{self.number + 1}", "from": _user(sender), "chat_instance": "1", "data": data, "message": of}
        return self.put({"callback_query": tap})

    def put(self, update: dict[str, Any]) -> int:
        """An update of any kind."""
        self.number += 1
        self.updates.append({"update_id": self.number, **update})
        self.wake()
        return self.number

    def wake(self) -> None:
        """Answer the request that is held open."""
        self._changed.set()
        self._changed = asyncio.Event()

    def texts(self, chat: int) -> list[str]:
        """The messages to a chat."""
        return [each["text"] for each in self.sent if each["chat_id"] == str(chat)]

    def button(self, words: str) -> str:
        """What the newest button with these words sends."""
        for message in reversed(self.sent):
            for row in json.loads(message.get("reply_markup", "{}")).get("inline_keyboard", ()):
                for button in row:
                    if button["text"] == words:
                        return str(button["callback_data"])
        raise AssertionError(f"no button {words}: {self.sent}")

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(60):
            while not true():
                await asyncio.sleep(0.005)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any request."""
        method, form = request.match_info["method"], {**request.query, **await request.post()}
        if request.match_info["token"] != TOKEN:
            return _fault(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
        if self.faults[method]:
            return _fault(*self.faults[method].pop(0))
        match method:
            case "getUpdates":
                return await self._updates(form)
            case "sendMessage":
                self.sent.append(form)
                chat = {"id": int(str(form["chat_id"])), "type": "private"}
                return _result({"message_id": len(self.sent), "date": 1_700_000_000, "chat": chat})
            case "answerCallbackQuery":
                self.tapped.append(str(form["callback_query_id"]))
                return _result(True)
            case _:
                return _fault(404, {"ok": False, "error_code": 404, "description": "Not Found"})

    async def _updates(self, form: dict[str, Any]) -> web.Response:
        offset = int(form["offset"]) if "offset" in form else None
        self.offsets.append(offset)
        assert json.loads(form["allowed_updates"]) == ["message", "callback_query"]
        if offset is not None:
            self.updates = [each for each in self.updates if each["update_id"] >= offset]
        if not (found := self.disorder(list(self.updates))):
            try:
                async with asyncio.timeout(float(form["timeout"])):
                    await self._changed.wait()
            except TimeoutError:
                pass
            found = self.disorder(list(self.updates))
        return _result(found)


def _user(number: int) -> dict[str, Any]:
    return {"id": number, "is_bot": False, "first_name": "x"}


def _result(result: Any) -> web.Response:
    return web.json_response({"ok": True, "result": result})


def _fault(status: int, body: Any) -> web.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return web.Response(status=status, text=text, content_type="application/json")


def too_many(seconds: int) -> tuple[int, Any]:
    """The answer to a bot that sends too much."""
    return 429, {
        "ok": False,
        "error_code": 429,
        "description": f"Too Many Requests: retry after {seconds}",
        "parameters": {"retry_after": seconds},
    }


BAD_GATEWAY = (502, "<html><body>502 Bad Gateway</body></html>")


@asynccontextmanager
async def serving() -> AsyncIterator[BotServer]:
    """A server that answers on loopback."""
    server = BotServer()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.wake()
        await runner.cleanup()
