"""The private keys that this server holds on behalf of persons, and what each may sign."""

from collections.abc import Iterator
from typing import Final

from schemas.control import Approve, Halt, Refuse, Resume
from shared.control import State
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
