"""The people who may sign in to the observatory, and the tokens of programs: one file in the state folder.

``conclave observatory user`` and ``conclave observatory token`` write it; the observatory reads it again whenever it
changes. Passwords are hashed by argon2-cffi (Argon2id with the library's parameters). A token is 256 random bits, so
its SHA-256 is kept. Without the file there is no sign-in: all who reach the pages can read them,
and the pages change nothing.
"""

import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct, structs

from schemas.access import Role
from schemas.codec import UNDECODABLE
from shared.settings import SettingsError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

FILE: Final = "observatory-users.json"
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "approver")
"""Each may do what those before it may."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
SHORTEST: Final = 10
"""Characters of a password."""
TOKEN: Final = "conclave_"  # noqa: S105  # what every token begins with
KEPT: Final = 1_000
"""Changes that the file keeps."""
PersonName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$(?!\n)")]


class Person(Struct, frozen=True):
    """A person who may sign in. ``password``: the hash; '' for one who comes through the proxy alone."""

    name: PersonName
    role: Role
    password: str = ""

    @property
    def stamp(self) -> str:
        """What a session of this person carries. It changes with the password, which ends the session."""
        return sha256(f"{self.name}\n{self.password}".encode()).hexdigest()[:32]


class Token(Struct, frozen=True):
    """What a program signs in with. ``digest``: the SHA-256 of the token."""

    name: PersonName
    role: Role
    digest: str


class Cause(NamedTuple):
    """Who changes the file, and why."""

    actor: str
    reason: str


class PeopleChange(Struct, frozen=True):
    """A change of the file. ``what``: in words; ``at``: when, by the clock of the machine (ms since 1970)."""

    at: int
    what: str
    actor: str
    reason: str


class People(Struct, frozen=True):
    """The content of the file. ``changes``: the newest ``KEPT``, oldest first; none of earlier releases."""

    persons: tuple[Person, ...] = ()
    tokens: tuple[Token, ...] = ()
    changes: tuple[PeopleChange, ...] = ()

    def person(self, name: str) -> Person | None:
        """Return a person by name."""
        return next((person for person in self.persons if person.name == name), None)

    def of_token(self, token: str) -> Token | None:
        """Return whose token this is. The time that it takes does not depend on how much of it is right."""
        digest = sha256(token.encode()).hexdigest()
        return next((each for each in self.tokens if secrets.compare_digest(each.digest, digest)), None)


class PeopleFile:
    """The file at ``path``, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, int, int] | None, People] = None, People()

    def people(self) -> People:
        """Return who is in the file; no one if there is none. Raises ``SettingsError``."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return People()
        seen = status.st_mtime_ns, status.st_size, status.st_ino
        if self._read[0] != seen:
            self._read = seen, self._decoded()
        return self._read[1]

    def exists(self) -> bool:
        """Return whether there is the file. If it names no one, nothing is shown at all."""
        return self.path.exists()

    def add(self, person: Person, cause: Cause) -> None:
        """Add a person, or replace the one of this name."""
        with self._locked() as people:
            kept = [each for each in people.persons if each.name != person.name]
            added = structs.replace(people, persons=(*kept, person))
            self._write(added, f"{person.name} may sign in as {person.role}", cause)

    def add_token(self, name: str, role: Role, cause: Cause) -> str:
        """Make a token and return it; the file has only its digest. It replaces the one of this name."""
        token = TOKEN + secrets.token_urlsafe(32)
        made = Token(name, role, sha256(token.encode()).hexdigest())
        with self._locked() as people:
            kept = [each for each in people.tokens if each.name != name]
            added = structs.replace(people, tokens=(*kept, made))
            self._write(added, f"{name} has a token as {role}", cause)
        return token

    def remove(self, name: str, cause: Cause) -> bool:
        """Remove the person and the token of a name; return whether there was one. Their sessions end."""
        with self._locked() as people:
            left = structs.replace(
                people,
                persons=tuple(each for each in people.persons if each.name != name),
                tokens=tuple(each for each in people.tokens if each.name != name),
            )
            if left != people:
                self._write(left, f"{name} may not sign in any more", cause)
        return left != people

    @contextmanager
    def _locked(self) -> Iterator[People]:
        """Yield who is in the file, while no other command changes it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._decoded() if self.path.exists() else People()

    def _decoded(self) -> People:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=People)
        except (*UNDECODABLE, OSError) as error:
            raise SettingsError(
                f"{self.path}: expected what `conclave observatory user add` writes: {error}. Restore it from a "
                "backup, or delete it and add the people again"
            ) from None

    def _write(self, people: People, what: str, cause: Cause) -> None:
        change = PeopleChange(time.time_ns() // 1_000_000, what, *cause)
        people = structs.replace(people, changes=(*people.changes, change)[-KEPT:])
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(people)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def hashed(password: str) -> str:
    """Return the Argon2id hash of a password, with its salt and parameters. Raises ``ValueError`` for a short one."""
    if len(password) < SHORTEST:
        raise ValueError(f"a password has at least {SHORTEST} characters")
    return _hasher().hash(password)


def matches(person: Person | None, password: str) -> bool:
    """Return whether this is a person's password. It takes as long for a person who does not exist."""
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415  # for those who sign in

    known = person.password if person is not None else ""
    try:
        _hasher().verify(known or _any_hash(), password)
    except (VerificationError, InvalidHashError):
        return False
    return bool(known)


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher  # noqa: PLC0415  # the extra `observatory`

    return PasswordHasher()


@cache
def _any_hash() -> str:
    return _hasher().hash(secrets.token_hex())
