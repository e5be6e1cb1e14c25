"""Run the bot: ask a chat for updates, act and answer, in one process beside the projections that it shows.

Three tasks share the loop, and none waits for another: the projections are folded, updates are received and acted on
one after another, answers are sent. A chat that cannot be reached delays its own answers alone.
"""

import logging
import os
import secrets
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import anyio
import msgspec

from schemas.codec import UNDECODABLE, encode
from schemas.control import Command, Halt, Refuse, Resume
from schemas.operations import PhoneAnswers, PhoneSilent
from services.observatory.projection import Projection
from services.observatory.screens.now import Around
from services.phone import core
from services.phone.chat import Chat, TryLaterError, UndeliverableError
from services.phone.core import COMMANDS, OF_A_PROPOSAL, Act, ActName, Outcome, Person, Show
from services.phone.messages import Received, Reply
from services.phone.showing import Look, answer, proposal_lines
from services.phone.silence import ALARMS, Silence
from services.phone.telegram import Telegram, keep_out_of_logs
from shared.commands.desk import prepared
from shared.commands.forms import approving
from shared.control import ControlError, State
from shared.control.fence import FenceError
from shared.control.issuing import ControlWriter, RefusedError
from shared.log import TruncatedLogError, UnavailableError
from shared.log.appending import append_next
from shared.log.connection import ServerError
from shared.recovery.storage import Storage
from shared.runtime.loop import opened_loop
from shared.runtime.process import missing_by
from shared.runtime.reported import reported_of_phone
from shared.server.held_keys import HeldKeys, folder_of
from shared.settings import PHONE_TOKEN, Settings, SettingsError, persons_of, phone_token
from shared.telemetry.metrics import MetricReading
from shared.telemetry.reporting import Telemetry

GROUP: Final = "phone"
FILE: Final = "phone.bin"
PROJECTIONS: Final = "phone.projections.bin"
SHOWN: Final = ("orders", "gates", "training", "market", "decisions", "dead", "alarms", "venue")
"""The streams that the bot folds: what the observatory does, without the evidence about each model."""
DAYS: Final = 1
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event) -> None:
    """Answer until ``stop``. Raises ``SettingsError`` if no person or no token is given."""
    token, actors = phone_token(), persons_of(settings.phone)
    if why := not_configured(settings, token):
        raise SettingsError(why)
    keep_out_of_logs(token)
    folder = Path(settings.installation.state)
    held = HeldKeys(folder_of(settings), actors.values())
    for actor in held.signers:
        _log.info("this server holds a private key on behalf of %s, and signs with it what %s confirms", actor, actor)
    for fault in held.faults.values():
        _log.warning("%s; the person can look, and not act", fault)
    async with opened_loop(settings, GROUP) as loop, Telegram(token, settings.phone.api) as chat:
        projection = Projection(
            loop.log,
            settings.installation.partitions,
            folder / PROJECTIONS,
            streams=SHOWN,
            days=DAYS,
            clock=loop.clock,
            meter=loop.telemetry,
            storage=loop.storage,
        )
        await projection.begin()
        writer = ControlWriter(loop.log, missing=missing_by(settings, loop.storage))
        await writer.state()  # so that a halt reads only what is new
        bot = Bot(chat, projection, writer, held, actors, folder / FILE, loop.storage, settings.models.names)
        await bot.begin()

        async def turn() -> None:
            await projection.turn()
            await bot.report(loop.telemetry)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bot.receive)
            tasks.start_soon(bot.send)
            loop.ready()
            _log.info("the bot answers %d chats", len(actors))
            await loop.repeat(turn, 0.0, stop)
            tasks.cancel_scope.cancel()
        projection.save()


def not_configured(settings: Settings, token: str) -> str:
    """Return why the bot cannot run with these settings and this token; '' if it can."""
    if not settings.phone.persons:
        return 'persons in [phone] names none: add who may use the bot, as persons = ["123456789 ada"]'
    if not token:
        return f"the bot has no token: set ${PHONE_TOKEN}_FILE to the path of a file that holds the one of @BotFather"
    return ""


class Bot:
    """The bot of one installation, in one chat. ``names``: the models for which this machine starts workers."""

    def __init__(
        self,
        chat: Chat,
        projection: Projection,
        writer: ControlWriter,
        held: HeldKeys,
        actors: Mapping[str, str],
        file: Path,
        storage: Storage,
        names: Collection[str] = (),
    ) -> None:
        self._names = names
        self._chat = chat
        self._projection = projection
        self._writer = writer
        self._held = held
        self._actors = actors
        self._file = file
        self._clock = projection.clock
        self._storage = storage
        self._outgoing = anyio.Event()
        self._paused: dict[str, float] = {}
        self._faults = {"updates": "", "answers": ""}
        self.silence = Silence(self._clock.steady_ms())
        self.state = self._load()

    async def begin(self) -> None:
        """Go on from what an earlier process reported about the chat server. Raises ``UnavailableError``."""
        last = await reported_of_phone(self._projection.log)
        self.silence = Silence(self._clock.steady_ms(), reported=isinstance(last, PhoneSilent))

    async def report(self, meter: Telemetry) -> None:
        """Report for how long the chat server has not answered. An alarm that cannot be written now is written at the
        next call."""
        now = self._clock.steady_ms()
        meter.levels([MetricReading("conclave.phone.silence", (), self.silence.lasts_ms(now) / 1000)])
        event = self.silence.due(now, self._clock.now_ms())
        if event is None:
            return
        match event:
            case PhoneSilent():
                seconds = (event.at - event.began) // 1000
                _log.error("no answer of the chat for %d s, so no one can halt by phone: %s", seconds, event.detail)
            case PhoneAnswers():
                _log.warning("the chat answers, so that a halt by phone works again")
        try:
            if await append_next(self._projection.log, ALARMS, encode("alarms", event).data, event.at):
                self.silence.wrote(event)
        except (UnavailableError, ServerError) as error:
            _log.warning("not written to alarms yet: %s", error)

    async def receive(self) -> None:
        """Ask for updates and handle each, for ever. A chat that does not answer is asked again after a delay that
        doubles up to ``LAST_RETRY_S``."""
        retry_s = FIRST_RETRY_S
        while True:
            try:
                updates = await self._chat.updates(core.replay_from(self.state, self._clock.now_ms()))
            except TryLaterError as error:
                self._note("updates", str(error))
                self.silence.failed(str(error))
                await anyio.sleep(retry_s if error.wait_s is None else error.wait_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
                continue
            self._note("updates", "")
            self.silence.answered(self._clock.steady_ms())
            done = self.state.last
            for update in sorted(updates, key=lambda each: each.update):
                await self.handle(update)
            if updates and self.state.last == done:  # a server that sends what was handled, at once, again and again
                await anyio.sleep(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
            else:
                retry_s = FIRST_RETRY_S

    async def handle(self, received: Received) -> None:
        """Do what an update asks for. The state is saved when it is done, and not before."""
        refused = self.state.refused
        at = self._clock.now_ms()
        asked = core.handle(self.state, received, self._persons(), at, secrets.token_hex(8), self._proposals(at))
        match asked:
            case Show():
                core.reply(self.state, self._shown(asked))
            case Act():
                core.acted(self.state, asked, await self._issue(asked), self._clock.now_ms())
            case None:
                pass
        if self.state.refused != refused:
            _log.warning("update %d was refused: it was handled before", received.update)
            return
        self.save()
        self._outgoing.set()

    def _persons(self) -> Mapping[str, Person]:
        control = self._projection.newest
        return {
            chat: Person(actor, {act: self._why_not(control, actor, act) for act in COMMANDS})
            for chat, actor in self._actors.items()
        }

    def _why_not(self, control: State, actor: str, act: ActName) -> str:
        """Return why a person cannot do an act, in words; '' if the person can. Whether an act is about a proposal of
        this person is decided when it is issued."""
        if (why := self._held.why_not(control, actor, COMMANDS[act])) or act not in OF_A_PROPOSAL:
            return why
        rule = control.approval
        if not rule.commands:
            return "no command needs a second person here"
        public = self._held.signers[actor].public_key
        holder = next(key.holder for key in control.keys.values() if key.public_key == public)
        if act == "approve" and holder not in rule.approvers:
            return f"{holder} is no approver; approvers are {' or '.join(rule.approvers)}"
        return ""

    def _proposals(self, at: int) -> core.Proposals:
        control = self._projection.newest
        return {number: proposal_lines(control, number, at) for number in control.proposals}

    def _shown(self, show: Show) -> Reply:
        projection = self._projection
        around = Around(
            now=projection.now, views=projection.views, error=projection.error, caught_up=projection.caught_up
        )
        try:
            return answer(show, Look(projection.state, projection.newest, around))
        except Exception:  # an error here must not end the process that halts
            _log.exception("%s cannot be shown", show.topic)
            return Reply(show.received.chat, f"The {show.topic} cannot be shown; the log of the bot has the reason")

    async def _issue(self, act: Act) -> Outcome:
        """Issue a command with the key of its person, and return what became of it."""
        self._writer.signer = self._held.signers.get(act.actor)
        command: Command
        missing: tuple[str, ...] = ()
        try:
            match act.act:
                case "halt":
                    command = Halt()
                case "resume":
                    command = Resume()
                case "approve" | "refuse":
                    state = await self._writer.state()
                    if (recorded := state.past.version_of(act.command_id)) is not None:
                        return Outcome("repeated", "", recorded)
                    chosen = approving(state, act.proposal) if act.act == "approve" else Refuse(act.proposal)
                    command, missing = await prepared(self._writer.log, state, chosen, self._names)
            issued = await self._writer.issue(command, actor=act.actor, reason=act.reason, command_id=act.command_id)
        except (RefusedError, ControlError, TruncatedLogError, msgspec.ValidationError) as error:
            _log.warning("%s of %s was refused: %s", act.act, act.actor, error)
            return Outcome("refused", "; ".join([str(error), *missing]))
        except FenceError as error:
            _log.error("%s", error)
            return Outcome("unfenced", str(error))
        except (UnavailableError, ServerError) as error:
            _log.error("%s of %s: %s", act.act, act.actor, error)
            return Outcome("unknown", f"{error}. Press the button again: it is recorded once")
        if issued.repeated:
            where = ", ".join(str(partition) for partition in issued.repaired)
            return Outcome("repeated", f"The fences of partitions {where} were set." if where else "", issued.version)
        _log.warning("%s of %s is version %d: %s", act.act, act.actor, issued.version, act.reason)
        return Outcome("recorded", f"head {issued.state.head[:12]}", issued.version)

    async def send(self) -> None:
        """Send the answers that wait, for ever."""
        retry_s = FIRST_RETRY_S
        while True:
            self._outgoing = anyio.Event()
            due = [reply for reply in self.state.waiting if time.monotonic() >= self._paused.get(reply.chat, 0.0)]
            for reply in due:
                if time.monotonic() >= self._paused.get(reply.chat, 0.0):
                    retry_s = await self._send(reply, retry_s)
            with anyio.move_on_after(FIRST_RETRY_S if self.state.waiting else None):
                await self._outgoing.wait()

    async def _send(self, reply: Reply, retry_s: float) -> float:
        """Send one answer, and return the next delay. The answers of a chat keep their order."""
        try:
            await self._chat.send(reply)
        except TryLaterError as error:
            self._paused[reply.chat] = time.monotonic() + (retry_s if error.wait_s is None else error.wait_s)
            self._note("answers", str(error))
            return min(2 * retry_s, LAST_RETRY_S)
        except UndeliverableError as error:
            _log.warning("an answer cannot be delivered, and is dropped: %s", error)
        self._note("answers", "")
        core.sent(self.state, reply)
        self._paused.pop(reply.chat, None)
        self.save()
        return FIRST_RETRY_S

    def _note(self, what: str, why: str) -> None:
        """Log when the chat begins or ceases to answer."""
        before, self._faults[what] = self._faults[what], why
        if why and not before:
            _log.warning("the chat does not answer (%s): %s", what, why)
        elif before and not why:
            _log.info("the chat answers again (%s)", what)

    def _load(self) -> core.State:
        try:
            return core.initial(self._file.read_bytes())
        except FileNotFoundError:
            return core.initial()
        except (OSError, *UNDECODABLE) as error:
            _log.warning("%s cannot be read, so questions that wait are dropped: %s", self._file, error)
            return core.initial()

    def save(self) -> None:
        """Replace the file atomically. A disk that fails is logged, and the state stays in memory."""
        self._storage.attempt(self._file, self._replace)

    def _replace(self) -> None:
        new = self._file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it holds what can confirm an act
        with open(descriptor, "wb") as file:
            file.write(core.snapshot(self.state))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._file)
