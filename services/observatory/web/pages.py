"""What the routes share: a page, an error page, and what a route was asked for."""

from typing import Any, Final
from urllib.parse import quote

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    PermissionDeniedException,
    ValidationException,
)
from litestar.response import Redirect
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR

from services.observatory.web.faults import page_of, wants_page
from services.observatory.web.rendering import render
from services.observatory.web.site import Site
from shared.control import ControlError
from shared.control.drafting import OvertakenError
from shared.control.fence import FenceError
from shared.control.issuing import RefusedError
from shared.log import TruncatedLogError, UnavailableError


def page(site: Site, template: str, *, here: str, live: str = "", **values: Any) -> Response[str]:
    """Return a whole page. ``here``: which screen it is of. ``live``: the query of its updates."""
    shown = render(template, status=site.status(), here=here, live=live, patch=False, **values)
    return Response(shown, media_type=MediaType.HTML)


def part(template: str, **values: Any) -> Response[str]:
    """Return a part of a page."""
    return Response(render(template, patch=False, **values), media_type=MediaType.HTML)


def missing(site: Site, what: str, help_: str) -> Response[str]:
    """Return a page that says what was not found, and what helps."""
    found = page(site, "missing.html", here="", what=what, help=help_)
    found.status_code = 404
    return found


OWN: Final = ("same-origin", "none")
"""What a browser says of a request of this site's own pages, or of an address that a person typed."""


class ComputingException(HTTPException):
    """Something else is computed."""

    status_code = 409


def from_own_pages(request: "Request[Any, Any, Any]") -> None:
    """Refuse a request of a page of another site: GET starts a computation, which changes nothing but takes processor
    time."""
    if request.headers.get("sec-fetch-site", "none") not in OWN:
        raise PermissionDeniedException("a page of another site may not start or end a computation")


def failed(request: "Request[Any, Any, Any]", error: Exception) -> Response[Any]:
    """Answer an error: in JSON to a client of the API, by the form to sign in to a request for a page, by a page to a
    browser, in one line to any other client."""
    path = request.url.path
    if (
        isinstance(error, NotAuthorizedException)
        and request.method == "GET"
        and not path.startswith(("/api/", "/live"))
    ):
        query = f"?{request.url.query}" if request.url.query else ""
        go = f"/sign-in?go={quote(path + query)}"
        if "hx-request" in request.headers:
            return Response("", status_code=200, headers={"HX-Redirect": go}, media_type=MediaType.TEXT)
        return Redirect(go, status_code=303)
    status, detail = _told(error)
    if path.startswith("/api/") or "json" in request.headers.get("accept", ""):
        body: dict[str, Any] = {"status_code": status, "detail": detail}
        if isinstance(error, OvertakenError):
            body["overtaken"] = True
        return Response(body, status_code=status, media_type=MediaType.JSON)
    if wants_page(request.scope["headers"], path):
        return Response(page_of(status, detail, path), status_code=status, media_type=MediaType.HTML)
    return Response(f"{status}: {detail or 'not found'}\n", status_code=status, media_type=MediaType.TEXT)


def _told(error: Exception) -> tuple[int, str]:
    """Return the status and the words for an error. What went wrong inside is in the log alone."""
    match error:
        case HTTPException() if error.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
            found = error.extra if isinstance(error, ValidationException) and isinstance(error.extra, list) else []
            fields = "; ".join(f"{each.get('key', '')}: {each.get('message', '')}" for each in found)
            return error.status_code, f"{error.detail}. {fields}" if fields else error.detail
        case RefusedError():
            return 409, str(error)
        case msgspec.ValidationError():
            return 400, str(error)
        case FenceError() | UnavailableError() | TruncatedLogError() | ControlError():
            return 503, str(error)
        case _:
            return HTTP_500_INTERNAL_SERVER_ERROR, "the observatory failed; its log has why"
