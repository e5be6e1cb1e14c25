"""Who makes a request: a person with a session, a person whom the proxy of the settings names, or a program with a
token.

Sessions are the framework's: an encrypted cookie that scripts cannot read and other sites cannot send. A session ends
after its hours, when its person signs out, and when the person's password changes or the person is removed."""

import logging
import os
import secrets
import time
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from anyio import CapacityLimiter
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException, TooManyRequestsException
from litestar.handlers import BaseRouteHandler
from litestar.middleware.authentication import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState
from msgspec import Struct

from schemas.access import Role, SignedIn, SignInRefused
from schemas.codec import UNDECODABLE
from services.observatory.signins import SignIns
from shared.people import FILE, NAME, ROLES, People, PeopleFile, Person
from shared.settings import ObservatorySettings

SECRET: Final = "observatory-secret"  # noqa: S105  # the name of a file
SECRET_BYTES: Final = 32
ENDED: Final = "observatory-ended.json"
SIGN_INS: Final = 10
"""How often a minute one address may try to sign in."""
AGAIN_S: Final = 60.0
"""For so long a name that the proxy gives and that is not in the file is not recorded again, nor an address that tries
to sign in too often."""
REMEMBERED: Final = 1_000
SHOWS: Final = (
    "the observatory only shows until a person may sign in: `conclave observatory user add NAME --role operator "
    "--reason ...`"
)
_log = logging.getLogger("observatory")

By = Literal["password", "proxy", "token"]


class Caller(Struct, frozen=True):
    """Who makes a request, and how it is known. Where there is no sign-in, it has no name and no rights."""

    name: str = ""
    role: Role = "viewer"
    by: By = "password"

    def is_at_least(self, role: Role) -> bool:
        """Return whether the caller has this role, or one with more rights."""
        return bool(self.name) and ROLES.index(self.role) >= ROLES.index(role)


class Viewer(NamedTuple):
    """What a page shows of its caller. ``signs_in``: whether people sign in here at all."""

    caller: Caller = Caller()
    signs_in: bool = False
    scope: Scope | None = None

    @property
    def csrf(self) -> str:
        """What forms of the page send back. The framework makes it after the caller is known."""
        return "" if self.scope is None else csrf_of(self.scope)


NOBODY: Final = Viewer()
VIEWER: Final[ContextVar[Viewer]] = ContextVar("viewer", default=NOBODY)


class Access:
    """The people of one observatory, and its secret. ``hashing``: passwords are compared in a few threads, since each
    comparison takes 64 MiB."""

    def __init__(self, state: Path, settings: ObservatorySettings, signins: SignIns) -> None:
        self.file = PeopleFile(state / FILE)
        self.settings = settings
        self.signins = signins
        self.hashing = CapacityLimiter(2)
        self._secret = _secret(state / SECRET)
        self._ended = EndedSessions(state / ENDED, settings.session_hours * 3600)
        self._refused: dict[str, float] = {}

    @property
    def people(self) -> People:
        """Who may sign in now."""
        return self.file.people()

    @property
    def signs_in(self) -> bool:
        """Whether people sign in: there is a file of them. Otherwise the pages only show, and to all."""
        return self.file.exists()

    @property
    def sessions(self) -> CookieBackendConfig:
        """The framework's sessions."""
        return CookieBackendConfig(
            secret=self._derived("sessions"),
            key="conclave_session",
            max_age=self.settings.session_hours * 3600,
            httponly=True,
            samesite="strict",
            secure=bool(self.settings.proxy),
        )

    @property
    def csrf(self) -> CSRFConfig:
        """The framework's protection of forms. A program with a token sends no cookie, so it needs none."""
        return CSRFConfig(
            secret=self._derived("forms").hex(),
            cookie_name="conclave_csrf",
            cookie_httponly=True,
            cookie_samesite="strict",
            cookie_secure=bool(self.settings.proxy),
            exclude=["^/api/"],
        )

    @property
    def limits(self) -> RateLimitConfig:
        """The framework's limit of sign-ins."""
        return RateLimitConfig(rate_limit=("minute", SIGN_INS), set_rate_limit_headers=False)

    def session_of(self, person: Person, by: By = "password") -> dict[str, str]:
        """Return a new session of a person. One of the proxy notes that the sign-in is recorded, and opens nothing
        without the proxy."""
        return {"id": secrets.token_hex(16), "name": person.name, "stamp": person.stamp, "by": by}

    def end(self, session: dict[str, str]) -> None:
        """End a session, also for those who copied its cookie, and after a restart too."""
        self._ended.add(session.get("id", ""))

    def of_session(self, session: Any) -> Caller | None:
        """Return whose session this is; None if it has ended."""
        if not isinstance(session, dict) or session.get("id", "") in self._ended or session.get("by") != "password":
            return None
        person = self.people.person(str(session.get("name", "")))
        if person is None or not secrets.compare_digest(person.stamp, str(session.get("stamp", ""))):
            return None
        return Caller(person.name, person.role, "password")

    def of_token(self, authorization: str) -> Caller:
        """Return whose token this is. Raises ``NotAuthorizedException``."""
        kind, _, token = authorization.partition(" ")
        found = self.people.of_token(token.strip()) if kind.casefold() == "bearer" else None
        if found is None:
            raise NotAuthorizedException("expected `Authorization: Bearer TOKEN`, from `conclave observatory token`")
        return Caller(found.name, found.role, "token")

    async def of_proxy(self, connection: "ASGIConnection[Any, Any, Any, Any]") -> Caller | None:
        """Return whom the proxy names; None for a request that did not come through it. Raises
        ``PermissionDeniedException`` for a name that is not in the file."""
        settings = self.settings
        if not settings.proxy or connection.client is None or connection.client.host != settings.proxy:
            return None
        name = connection.headers.get(settings.proxy_header, "")
        if not name:
            return None
        person = self.people.person(name)
        if person is None:
            shown = name[:64] if NAME.fullmatch(name[:64]) else "(not a name)"
            await self._refuse(shown, address_of(connection))
            raise PermissionDeniedException(
                f"{shown} may not look here: `conclave observatory user add {shown} --role viewer --proxy --reason ...`"
            )
        if connection.session.get("stamp") != person.stamp:
            connection.session.update(self.session_of(person, "proxy"))
            event = SignedIn(person=name, role=person.role, by="proxy", address=address_of(connection), at=0)
            await self.signins.record(event)
        return Caller(person.name, person.role, "proxy")

    async def limited(self, connection: "ASGIConnection[Any, Any, Any, Any]") -> None:
        """Record that an address tries to sign in too often, once a minute."""
        address = address_of(connection)
        if self._is_due(f"limit {address}"):
            await self.signins.record(SignInRefused(person="(not read)", reason="limit", address=address, at=0))

    async def _refuse(self, name: str, address: str) -> None:
        if self._is_due(name):
            await self.signins.record(SignInRefused(person=name, reason="unknown", address=address, at=0))

    def _is_due(self, what: str) -> bool:
        """Return whether a refusal is recorded: it was not in the last minute."""
        now = time.monotonic()
        if now - self._refused.get(what, -AGAIN_S) < AGAIN_S:
            return False
        self._refused[what] = now
        while len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        return True

    def _derived(self, purpose: str) -> bytes:
        return blake2b(purpose.encode(), key=self._secret, digest_size=SECRET_BYTES).digest()


class EndedSessions:
    """The sessions that ended before their hours were over, in a file, so that a restart does not open them again.
    ``hours_s``: how long a session lasts. A disk that fails is logged, and they stay in memory."""

    def __init__(self, file: Path, hours_s: float) -> None:
        self._file, self._hours_s = file, hours_s
        self._until: dict[str, float] = {}
        try:
            self._until = msgspec.json.decode(file.read_bytes(), type=dict[str, float])
        except FileNotFoundError:
            pass
        except (OSError, *UNDECODABLE) as error:
            _log.warning("%s cannot be read, so sessions that ended may be good again: %s", file, error)

    def __contains__(self, session: object) -> bool:
        return session in self._until

    def add(self, session: str) -> None:
        """End a session."""
        now = time.time()
        self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[session] = now + self._hours_s
        new = self._file.with_suffix(".new")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
                opened.write(msgspec.json.encode(self._until))
            new.replace(self._file)
        except OSError as error:
            _log.warning("%s cannot be written, so a restart forgets that a session ended: %s", self._file, error)


class RecordedLimit:
    """Records which addresses the limit of sign-ins refuses: a middleware in front of that of the framework."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self._app(scope, receive, send)
        except TooManyRequestsException:
            await self._access.limited(ASGIConnection(scope))
            raise


class Authentication(AbstractAuthenticationMiddleware):
    """Finds out who makes a request. Where people sign in, nothing is shown to others."""

    def __init__(self, app: ASGIApp, access: Access, exclude: str | list[str] | None = None) -> None:
        super().__init__(app, exclude=exclude)
        self._access = access

    async def authenticate_request(self, connection: "ASGIConnection[Any, Any, Any, Any]") -> AuthenticationResult:
        """Return the caller. Raises ``NotAuthorizedException``."""
        access = self._access
        caller = Caller()
        if access.signs_in:
            found = await self._found(connection)
            if found is None:
                raise NotAuthorizedException("sign in first")
            caller = found
        VIEWER.set(Viewer(caller, access.signs_in, connection.scope))
        return AuthenticationResult(user=caller, auth=caller.by)

    async def _found(self, connection: "ASGIConnection[Any, Any, Any, Any]") -> Caller | None:
        authorization = connection.headers.get("authorization")
        if authorization is not None and connection.scope["path"].startswith("/api/"):
            return self._access.of_token(authorization)
        return await self._access.of_proxy(connection) or self._access.of_session(connection.session)


def operator(connection: "ASGIConnection[Any, Any, Any, Any]", _: BaseRouteHandler) -> None:
    """Let operators through: a guard of routes. Raises ``PermissionDeniedException``."""
    require(connection.user, "operator")


def require(caller: Caller, role: Role) -> None:
    """Raise ``PermissionDeniedException`` unless a caller has a role, or one with more rights."""
    if caller.is_at_least(role):
        return
    if not caller.name:
        raise PermissionDeniedException(SHOWS)
    may = "may only look" if caller.role == "viewer" else "may not approve"
    raise PermissionDeniedException(
        f"{caller.name} is {'an' if caller.role == 'operator' else 'a'} {caller.role} and {may}: "
        f"`conclave observatory user add NAME --role {role} --reason ...`"
    )


def program(connection: "ASGIConnection[Any, Any, Any, Any]", _: BaseRouteHandler) -> None:
    """Let programs with a token through: what changes something in the API takes no cookie, which a browser would
    send for any page."""
    if connection.auth != "token":
        raise NotAuthorizedException("expected `Authorization: Bearer TOKEN`, from `conclave observatory token`")


def csrf_of(scope: Scope) -> str:
    """Return what a form of this request's page sends back."""
    token = ScopeState.from_scope(scope).csrf_token
    return token if isinstance(token, str) else ""


def address_of(connection: "ASGIConnection[Any, Any, Any, Any]") -> str:
    """Return where a request came from."""
    return connection.client.host[:64] if connection.client is not None else ""


def _secret(file: Path) -> bytes:
    """Return the secret of this observatory, made when it is first needed. A new one ends all sessions."""
    try:
        data = file.read_bytes()
    except OSError:
        data = b""
    if len(data) == SECRET_BYTES:
        return data
    data = secrets.token_bytes(SECRET_BYTES)
    try:
        file.unlink(missing_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(data)
    except OSError as error:
        _log.warning("%s cannot be written, so sessions end with this process: %s", file, error)
    return data


def local(path: str) -> str:
    """Return a path of these pages to go on to; ``/`` for anything else, such as the address of another site."""
    good = path.startswith("/") and not path.startswith(("//", "/\\", "/sign-"))
    return path if good and path.isprintable() else "/"
