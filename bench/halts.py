"""Measure a halt from the page and one from a phone: from what a person does to the last intent.

Server, voter and market are those of ``halt``: the voter decides BUY some hundred times a second. The observatory and
the bot run as processes of their own, and keys are trusted, so that each halt is signed.

Page: what its script does when Halt is confirmed. It asks for the entry, signs it (Ed25519), and sends both back.

Phone: the bot is a process, the server of the chat is one on loopback that holds requests for updates open, as
Telegram's does. A halt is a message, and a tap on the button of the answer, which is pressed as soon as it arrives.

The time of the last intent is that in its entry id, of the same machine. After the answer to the person, no intent may
be written. Each figure is the median of three runs.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import httpx
import numpy as np

from bench.halt import DECISIONS, INTENTS, TRIPS, added, trading, until
from bench.harness import Figure, medians
from bench.installation import free_port
from schemas.control import Resume, TrustKey
from services.console.run.processes import console_command
from shared.control.issuing import ControlWriter
from shared.control.signing import Signer, generate, load_private, sign
from shared.log import Log
from shared.log.leases import id_order
from shared.log.redis import RedisLog
from shared.people import FILE, Cause, PeopleFile
from shared.settings import PHONE_TOKEN
from tests.services.phone.bot_server import ADA, TOKEN, BotServer, serving

RUNS: Final = 3
WORK: Final = 10
"""Intents before a halt, and decisions after it, that are waited for."""


class Remote(NamedTuple):
    """A running observatory and a running bot. ``token``: of a program that may halt, with ``signer``'s key."""

    url: str
    port: int
    token: str
    owner: Signer
    signer: Signer
    server: BotServer


class Halted(NamedTuple):
    """One halt (ms since the person acted): until it was answered, until the last intent (0 if there was none), and,
    for a phone, until the last intent from the message on. ``after``: intents after the answer. ``floor_ms``: two
    requests that only read the same API, and as many plain round trips to the log as a halt makes, just before."""

    answered_ms: float
    last_ms: float
    asked_ms: float
    after: int
    floor_ms: float = 0.0


@contextmanager
def processes(folder: Path, url: str, port: int, chat: str) -> Iterator[None]:
    """Run the observatory and the bot."""
    persons, settings = json.dumps([f"{ADA} ada"]), folder / "remote.toml"
    settings.write_text(
        f'[redis]\nurl = "{url}"\nephemeral = true\n\n[installation]\nstate = "{folder / "remote"}"\n\n'
        f'[observatory]\nport = {port}\n\n[phone]\npersons = {persons}\napi = "{chat}"\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), PHONE_TOKEN: TOKEN}
    words = [console_command("--settings", str(settings), "run", name) for name in ("observatory", "phone")]
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in words]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


class Person:
    """Halts from afar, and resumes at the console."""

    def __init__(self, log: Log, remote: Remote, client: httpx.AsyncClient) -> None:
        self.log, self.remote, self.client = log, remote, client
        self.writer = ControlWriter(log, signer=remote.owner)
        self.count = 0

    async def from_page(self) -> Halted:
        """Halt as the page does."""
        await self._more(INTENTS)
        self.count += 1
        begun = time.perf_counter()
        for _ in range(2):
            await self.client.get("/api/v1/status")
        for _ in range(TRIPS):
            await self.log.fence(0)
        floor_ms = 1000 * (time.perf_counter() - begun)
        begun, at = time.perf_counter(), time.time()
        asked = {
            "command": {"type": "halt"},
            "reason": "a halt",
            "command_id": f"halt-{self.count}",
            "public_key": self.remote.signer.public_key,
        }
        entry = await self._posted("draft", asked)
        signed = {"entry": entry["entry"], "signature": sign(entry["entry"].encode(), self.remote.signer)}
        await self._posted("submit", signed)
        halted = await self._ended(1000 * (time.perf_counter() - begun), at, at)
        return halted._replace(floor_ms=floor_ms)

    async def from_phone(self) -> Halted:
        """Halt as a person with a phone does."""
        server = self.remote.server
        await self._more(INTENTS)
        asked, answers = time.time(), len(server.sent)
        server.message(ADA, "/halt a halt")
        await until(_condition(lambda: len(server.sent) > answers))
        begun, at = time.perf_counter(), time.time()
        server.tap(ADA, server.button("Halt now"))
        await until(_condition(lambda: any("HALTED" in each["text"] for each in server.sent[answers:])))
        return await self._ended(1000 * (time.perf_counter() - begun), at, asked)

    async def _ended(self, answered_ms: float, at: float, asked: float) -> Halted:
        accepted = await added(self.log, INTENTS)
        await self._more(DECISIONS)
        after = await added(self.log, INTENTS) - accepted
        last = id_order((await self.log.extent(INTENTS)).last)[0]
        await self.writer.issue(Resume(), actor="owner", reason="its end")
        return Halted(answered_ms, max(last + 1 - 1000 * at, 0.0), max(last + 1 - 1000 * asked, 0.0), after)

    async def _posted(self, path: str, body: Any) -> Any:
        answer = await self.client.post(f"/api/v1/acts/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def _more(self, place: Any) -> None:
        wanted = await added(self.log, place) + WORK
        await until(lambda: _reached(self.log, place, wanted))


async def _reached(log: Log, place: Any, wanted: int) -> bool:
    return await added(log, place) >= wanted


def _condition(holds: Any) -> Any:
    async def condition() -> bool:
        return bool(holds())

    return condition


async def prepare(log: Log, folder: Path) -> tuple[Signer, Signer]:
    """Trust the keys of an owner, of the page, and of the phone, whose key the server holds. Return the first two."""
    (folder / "remote" / "phone").mkdir(parents=True)
    files = {"owner": folder / "owner.pem", "page": folder / "page.pem", "phone": folder / "remote/phone/ada.pem"}
    public = {name: generate(file) for name, file in files.items()}
    owner, page = (load_private(files[name]) for name in ("owner", "page"))
    writer = ControlWriter(log)
    await writer.issue(TrustKey("owner", public["owner"], "owner"), actor="owner", reason="mine")
    writer.signer = owner
    for name in ("page", "phone"):
        trusted = TrustKey(name, public[name], "ada", ("halt", "resume"))
        await writer.issue(trusted, actor="owner", reason="ada may halt")
    return owner, page


async def measured(url: str, folder: Path, halts: int) -> tuple[list[Halted], list[Halted]]:
    """Return halts from the page, and halts from the phone."""
    log, port = RedisLog(url), free_port()
    owner, page = await prepare(log, folder)
    token = PeopleFile(folder / "remote" / FILE).add_token("robot", "operator", Cause("bench", "a bench"))
    address, headers = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {token}"}
    async with (
        serving() as server,
        httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=30) as client,
    ):
        with processes(folder, url, port, server.url):
            person = Person(log, Remote(url, port, token, owner, page, server), client)

            async def answers() -> bool:
                try:
                    return bool((await client.get("/api/v1/status")).json()["caught_up"]) and bool(server.offsets)
                except httpx.TransportError:
                    return False

            await until(answers)
            from_page = [await person.from_page() for _ in range(halts)]
            from_phone = [await person.from_phone() for _ in range(halts)]
    await log.close()
    return from_page, from_phone


def once(halts: int) -> dict[str, float]:
    """Return the figures of one run."""
    with tempfile.TemporaryDirectory() as name, trading(Path(name)) as floor:
        from_page, from_phone = anyio.run(measured, floor.url, Path(name), halts)

    def p99(values: list[float]) -> float:
        return float(np.percentile(values, 99))

    return {
        "page_p50": float(np.percentile([each.last_ms for each in from_page], 50)),
        "page_p99": p99([each.last_ms for each in from_page]),
        "floor_p50": float(np.percentile([each.floor_ms for each in from_page], 50)),
        "floor_p99": p99([each.floor_ms for each in from_page]),
        "page_answered_p99": p99([each.answered_ms for each in from_page]),
        "phone_p99": p99([each.last_ms for each in from_phone]),
        "phone_from_message_p99": p99([each.asked_ms for each in from_phone]),
        "phone_answered_p99": p99([each.answered_ms for each in from_phone]),
        "after": float(sum(each.after for each in (*from_page, *from_phone))),
    }


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    halts = 30 if quick else 200
    found = medians(RUNS, lambda: once(halts))
    of = f"{RUNS} runs of {halts} halts"
    return {
        "page_to_last_intent_p50": Figure(
            found["page_p50"], "ms", "", f"two requests and {TRIPS} trips {found['floor_p50']:.1f} ms"
        ),
        "page_to_last_intent_p99": Figure(found["page_p99"], "ms", "< 100", f"the same {found['floor_p99']:.1f} ms"),
        "page_to_answer_p99": Figure(found["page_answered_p99"], "ms"),
        "tap_to_last_intent_p99": Figure(found["phone_p99"], "ms", "< 3000", of),
        "message_to_last_intent_p99": Figure(found["phone_from_message_p99"], "ms", "< 3000", "button pressed at once"),
        "tap_to_answer_p99": Figure(found["phone_answered_p99"], "ms"),
        "intents_after_the_answer": Figure(found["after"], "intents", "<= 0"),
    }
