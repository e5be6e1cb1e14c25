"""The bot for a phone: whether its chat server answers it, and the private keys that this server holds on behalf of
persons, with what each may sign."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from schemas.control import Approve, Halt, Refuse, Resume
from schemas.operations import PhoneSilent
from shared.control import State
from shared.log import Log
from shared.runtime.reported import reported_of_phone
from shared.server.held_keys import HeldKeys, folder_of
from shared.server.security import SecurityCheck
from shared.settings import Settings, persons_of

TRUST: Final = "`conclave keys trust` (docs/how-to/use-the-phone.md)"


def phone_checks(settings: Settings, control: State) -> Iterator[SecurityCheck]:
    """Yield, for each person of the bot for a phone, who holds the key and what it may sign. Nothing, if the settings
    name no person."""
    actors = sorted(set(persons_of(settings.phone).values()))
    folder = folder_of(settings)
    held = HeldKeys(folder, actors)
    for actor in actors:
        what = f"phone of {actor}"
        if actor in held.faults:
            yield SecurityCheck(what, "good", held.faults[actor])
            continue
        refusals = {command: held.why_not(control, actor, command) for command in (Halt, Resume, Approve, Refuse)}
        tags = [str(command.__struct_config__.tag) for command, refusal in refusals.items() if not refusal]
        found = f"this server holds a private key on behalf of {actor}: who can read {folder} can sign as {actor}"
        if tags:
            yield SecurityCheck(what, "good", f"{found}: {', '.join(tags)}")
        else:
            yield SecurityCheck(what, "unknown", f"{found}. {refusals[Halt]}", TRUST)


async def chat_checks(settings: Settings, log: Log) -> list[SecurityCheck]:
    """Return whether the chat server answers the bot, as far as the bot reported. Nothing, if there is no bot: no
    person in the settings, and no report."""
    last = await reported_of_phone(log)
    match last:
        case PhoneSilent(host=host, began=began, detail=detail):
            since = f"{datetime.fromtimestamp(began / 1000, UTC):%Y-%m-%d %H:%M} UTC"
            found = f"the chat server has not answered the bot on {host} since {since}: {detail}"
            return [SecurityCheck("phone", "wrong", found, "docs/how-to/runbooks/phone-silent.md")]
        case _ if settings.phone.persons:
            found = "the bot does not report that its chat server is silent; send /status to see that it runs"
            return [SecurityCheck("phone", "good", found)]
        case _:
            return []
