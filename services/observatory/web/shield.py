"""What every request and answer passes: only this host, only reading where there is no sign-in, and strict headers."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from services.observatory.web.faults import page_of, wants_page
from services.observatory.web.sessions import SHOWS
from shared.settings import LOOPBACK

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

READING: Final = frozenset({"GET", "HEAD"})
ACTING: Final = READING | {"POST"}
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
"""Nothing from outside, nothing inline, no frame around it."""
REPLACED: Final = frozenset({*(name for name, _ in HEADERS), b"server"})


class Shield:
    """An ASGI application in front of another one. ``hosts``: the names under which it is reached; a page of another
    site that resolves its own name to this address is refused (DNS rebinding). ``signs_in``: whether people sign in, so
    that they can change something; otherwise no cookie is set either."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], signs_in: Callable[[], bool] = lambda: False) -> None:
        self._app = app
        self._signs_in = signs_in
        self._hosts = frozenset(host.casefold() for host in (*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        signs_in = self._signs_in()
        replaced = REPLACED if signs_in else {*REPLACED, b"set-cookie"}

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in replaced]
                stored = [] if any(name.lower() == b"cache-control" for name, _ in kept) else [NOT_STORED]
                message = {**message, "headers": [*kept, *stored, *HEADERS]}
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if hostname(host) not in self._hosts:
            await _refuse(hardened, 421, f"this is not the host {host!r}: add it to names in [observatory]")
        elif scope["method"] not in (ACTING if signs_in else READING):
            reason = SHOWS if not signs_in else "expected GET, HEAD or POST"
            shown = page_of(405, reason, scope["path"]) if wants_page(scope["headers"], scope["path"]) else ""
            await _refuse(hardened, 405, reason, shown)
        else:
            await self._app(scope, receive, hardened)


NOT_STORED: Final = (b"cache-control", b"no-store")


def hostname(host: str) -> str:
    """Return the name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].casefold()
    return host.partition(":")[0].casefold()


async def _refuse(send: Send, status: int, reason: str, page: str = "") -> None:
    """Answer with a page, or with one line. To another host it is a line alone, since no style is loaded from there."""
    kind = b"text/html; charset=utf-8" if page else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), *([(b"allow", b"GET, HEAD")] if status == 405 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": (page or f"{reason}\n").encode()})
