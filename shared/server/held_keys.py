"""The private keys that this server holds on behalf of persons, and what each may sign.

A command that is confirmed in a chat cannot be signed there. So the bot signs it, with a key that is this person's
alone, and a file of the server: who can read the file can sign in the person's name. ``conclave doctor`` names each.
"""

from collections.abc import Iterable
from pathlib import Path

from schemas.control import Command
from shared.control import State, may
from shared.control.signing import KeyFileError, Signer, load_private
from shared.settings import Settings


def folder_of(settings: Settings) -> Path:
    """Return the folder of the keys."""
    return Path(settings.phone.keys or Path(settings.installation.state) / "phone")


class HeldKeys:
    """The keys of ``actors``, each in ``ACTOR.pem``. ``signers``: those that can be used. ``faults``: why the others
    cannot, in words."""

    def __init__(self, folder: Path, actors: Iterable[str]) -> None:
        self.signers: dict[str, Signer] = {}
        self.faults: dict[str, str] = {}
        for actor in sorted(set(actors)):
            file = folder / f"{actor}.pem"
            try:
                if file.exists():
                    self.signers[actor] = load_private(file)
                else:
                    self.faults[actor] = f"the server holds no key for {actor}: there is no {file}"
            except PermissionError:
                self.faults[actor] = f"this process may not read {folder}, where the server may hold a key for {actor}"
            except (KeyFileError, OSError) as error:
                self.faults[actor] = f"the key that the server holds for {actor} cannot be used: {error}"

    def why_not(self, control: State, actor: str, command: type[Command]) -> str:
        """Return why a person cannot issue a kind of command under a configuration, in words; '' if the person can."""
        signer = self.signers.get(actor)
        if signer is None:
            return self.faults.get(actor, f"the server holds no key for {actor}")
        if control.open:
            return "no key is trusted yet, and the phone issues nothing unsigned (`conclave keys trust`)"
        key = next((key for key in control.keys.values() if key.public_key == signer.public_key), None)
        if key is None:
            return f"the key that the server holds for {actor} is not trusted (`conclave keys trust`)"
        if not may(key, command):
            return f"key {key.key_id} may sign {', '.join(key.may)}, and not {command.__struct_config__.tag}"
        return ""
