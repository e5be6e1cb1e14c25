"""Routes to sign in and out."""

from typing import Annotated, Any

from anyio import to_thread
from litestar import MediaType, Request, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromQuery
from litestar.response import Redirect

from schemas.access import SignedIn, SignedOut, SignInRefused
from services.observatory.web.rendering import render
from services.observatory.web.sessions import Caller, address_of, csrf_of, local
from services.observatory.web.site import SiteOf
from shared.people import NAME, matches

FORM_BYTES = 16_384
Fields = Annotated[dict[str, Any], Body(media_type=RequestEncodingType.URL_ENCODED)]


@get("/sign-in", include_in_schema=False)
async def sign_in_page(request: Request[Any, Any, Any], go: FromQuery[str] = "/") -> Response[str]:
    """Show the form to sign in."""
    return _page(request, go)


@post("/sign-in", include_in_schema=False, status_code=303, request_max_body_size=FORM_BYTES)
async def sign_in(request: Request[Any, Any, Any], site: SiteOf, data: Fields) -> Response[Any]:
    """Sign a person in, or say that name and password do not fit."""
    access = site.access
    assert access is not None
    name, password, go = (str(data.get(field, ""))[:256] for field in ("name", "password", "go"))
    person = access.people.person(name)
    good = await to_thread.run_sync(matches, person, password, limiter=access.hashing)
    shown = name if NAME.fullmatch(name) else "(not a name)"
    address = address_of(request)
    if person is None or not good:
        refusal = SignInRefused(person=shown, reason="unknown" if person is None else "password", address=address, at=0)
        await access.signins.record(refusal)
        return _page(request, go, fault="Name and password do not fit.", status=403)
    request.set_session(access.session_of(person))
    event = SignedIn(person=shown, role=person.role, by="password", address=address, at=0)
    await access.signins.record(event)
    return Redirect(local(go), status_code=303)


@post("/sign-out", include_in_schema=False, status_code=303, request_max_body_size=FORM_BYTES)
async def sign_out(request: Request[Caller, str, Any], site: SiteOf) -> Redirect:
    """End the session."""
    assert site.access is not None
    site.access.end(request.session)
    request.clear_session()
    event = SignedOut(person=request.user.name, address=address_of(request), at=0)
    await site.access.signins.record(event)
    return Redirect("/sign-in", status_code=303)


def _page(request: Request[Any, Any, Any], go: str, fault: str = "", status: int = 200) -> Response[str]:
    shown = render("sign-in.html", csrf=csrf_of(request.scope), go=local(go), fault=fault)
    return Response(shown, media_type=MediaType.HTML, status_code=status)
