"""The ``access`` stream: who signed in to the observatory and out of it, who was refused, and who retried input."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import EventHex, Milliseconds

Person = Annotated[str, Meta(min_length=1, max_length=64)]
Address = Annotated[str, Meta(max_length=64)]
Role = Literal["viewer", "operator", "approver"]
"""What a person may do: look; also issue commands; also approve what another person proposed."""


class SignedIn(Struct, frozen=True, tag="access.granted"):
    """A person signed in, with a password or through the proxy of the settings. ``address``: where the request came
    from."""

    person: Person
    role: Role
    by: Literal["password", "proxy"]
    address: Address
    at: Milliseconds


class SignInRefused(Struct, frozen=True, tag="access.refused"):
    """A sign-in was refused. ``person`` is the name as it was given, shortened; it may be of no person. ``limit``:
    there were too many attempts from this address; at most one event a minute, and the name was not read."""

    person: Person
    reason: Literal["unknown", "password", "limit"]
    address: Address
    at: Milliseconds


class SignedOut(Struct, frozen=True, tag="access.ended"):
    """A person signed out."""

    person: Person
    address: Address
    at: Milliseconds


class InputRetried(Struct, frozen=True, tag="access.retried"):
    """A person who was signed in, or a program with a token, had the input of a dead letter appended again. ``letter``
    is the event id of the dead letter, ``entry`` the id under which its input was appended. The reason is in
    ``dead.retried`` on ``dead``, which services can write too; only the observatory writes here."""

    person: Person
    role: Role
    by: Literal["password", "proxy", "token"]
    address: Address
    letter: EventHex
    entry: Annotated[str, Meta(max_length=64)]
    at: Milliseconds


AccessEvent = SignedIn | SignInRefused | SignedOut | InputRetried
