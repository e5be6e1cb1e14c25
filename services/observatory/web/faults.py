"""The page that a browser is answered with when a request is refused or fails: what happened, and what to do.

It needs neither the projections nor a sign-in, so that it is shown whatever else fails."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import quote

from services.observatory.web.rendering import render
from services.observatory.web.sessions import SHOWS


class Advice(NamedTuple):
    """What a page says for a status: its title, what to do, and a link (path and words) that helps."""

    title: str
    do: str
    path: str = "/"
    words: str = "Back to Now"


OTHER: Final = Advice("That did not work", "Nothing was changed.")
ADVICE: Final = {
    400: Advice("The request cannot be read", "Nothing was done. Correct what is named above, and try once more."),
    403: Advice("You may not do that here", "Nothing was done. Ask a person who may, or who runs this server."),
    404: Advice("There is nothing at this address", "It may be of another installation, or no longer kept."),
    405: Advice("Nothing can be changed at this address", "Nothing was done."),
    409: Advice("That is not possible now", "Nothing was done. Look again, and try once more."),
    413: Advice("That is too long", "Nothing was done. Shorten the text, and send it again."),
    429: Advice("Too many attempts to sign in", "Wait a minute, then sign in again.", "/sign-in", "Sign in"),
    500: Advice("The observatory failed", "Its log has the cause. No service depends on this page: decisions go on."),
    503: Advice("The server of the log does not answer", "Look again before you try once more: it may be recorded."),
}  # fmt: skip
CSRF: Final = "CSRF"
"""What the framework's words for a request without the token of its page begin with."""


def advice(status: int, detail: str, path: str) -> Advice:
    """Return what to say for a status. ``path``: what was asked for."""
    back = "/act" if path.startswith(("/act", "/key")) else "/"
    if status == 401:
        return Advice(
            "You are not signed in",
            "Your session has ended, or there was none. Nothing was done. Sign in, and send it again.",
            f"/sign-in?go={quote(back)}",
            "Sign in",
        )
    if detail == SHOWS:
        return Advice(
            "This observatory only shows",
            "Nothing was done. Who runs this server adds the people who may sign in. From then on, nothing is shown "
            "without a sign-in.",
        )
    if status == 403 and detail.startswith(CSRF):
        return Advice(
            "This page is older than your sign-in",
            "Nothing was done. Load the page again, and send it once more. If that does not help, allow cookies here.",
            "/sign-in" if path == "/sign-in" else back,
            "Load it again",
        )
    return ADVICE.get(status, OTHER)


def page_of(status: int, detail: str, path: str) -> str:
    """Return the page for a status."""
    shown = "" if detail.rstrip(".").casefold() in _phrases() else detail
    return render("fault.html", status=status, detail=shown, advice=advice(status, detail, path))


def wants_page(headers: Iterable[tuple[bytes, bytes]], path: str) -> bool:
    """Return whether an answer is for a person's browser: not for a program, and not for a part of a page."""
    given = {name.lower(): value for name, value in headers}
    if path.startswith(("/api/", "/live", "/healthz")) or b"hx-request" in given:
        return False
    return b"text/html" in given.get(b"accept", b"")


def _phrases() -> set[str]:
    """Return the words that say no more than a status does."""
    return {phrase.phrase.casefold() for phrase in HTTPStatus}
