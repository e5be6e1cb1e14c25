"""What the routes share: a page, an error page, and what a route was asked for."""

from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR

from services.observatory.web.rendering import render
from services.observatory.web.site import Site


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


def failed(request: "Request[Any, Any, Any]", error: Exception) -> Response[Any]:
    """Answer an error: in JSON to a client of the API, in one line to any other client."""
    status = error.status_code if isinstance(error, HTTPException) else HTTP_500_INTERNAL_SERVER_ERROR
    known = isinstance(error, HTTPException) and status < HTTP_500_INTERNAL_SERVER_ERROR
    detail = error.detail if isinstance(error, HTTPException) and known else "the observatory failed; its log has why"
    if request.url.path.startswith("/api/"):
        return Response({"status_code": status, "detail": detail}, status_code=status, media_type=MediaType.JSON)
    return Response(f"{status}: {detail or 'not found'}\n", status_code=status, media_type=MediaType.TEXT)
