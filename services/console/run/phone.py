"""What ``conclave doctor`` checks about the bot for a phone: whether it can run, and the keys that it holds."""

from collections.abc import Iterator
from typing import Final

from services.console.run.service import missing_phone
from services.phone.core import COMMANDS
from shared.control import State
from shared.server.held_keys import HeldKeys, folder_of
from shared.server.security import SecurityCheck
from shared.settings import Settings, persons_of

TRUST: Final = "`conclave keys trust` (docs/how-to/use-the-phone.md)"


def phone_checks(settings: Settings, control: State) -> Iterator[SecurityCheck]:
    """Yield whether the bot can run, and for each of its persons who holds the key and what it may sign. Nothing, if
    the settings name no person."""
    actors = sorted(set(persons_of(settings.phone).values()))
    if actors and (why := missing_phone(settings)) is not None:
        yield SecurityCheck("phone", "good", f"{why}. So in this environment; that of the bot may differ")
    folder = folder_of(settings)
    held = HeldKeys(folder, actors)
    for actor in actors:
        what = f"phone of {actor}"
        if actor in held.faults:
            yield SecurityCheck(what, "good", f"{held.faults[actor]}. So {actor} looks, and does not act")
            continue
        refusals = {act: held.why_not(control, actor, command) for act, command in COMMANDS.items()}
        allowed = " and ".join(act for act, refusal in refusals.items() if not refusal)
        found = f"this server holds a private key on behalf of {actor}: who can read {folder} can sign as {actor}"
        if allowed:
            yield SecurityCheck(what, "good", f"{found}: {allowed}")
        else:
            yield SecurityCheck(what, "unknown", f"{found}. {refusals['halt']}", TRUST)
