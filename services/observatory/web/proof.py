"""Routes of proof packs: made by the console's code in a process of its own, and downloaded.

A pack changes nothing, so that GET makes one; it takes processor time, so that a page of another site may not."""

from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import FromPath, FromQuery
from litestar.response import File, Redirect

from services.observatory.computing import AskedPack, BusyError
from services.observatory.screens import proof
from services.observatory.web.pages import ComputingException, from_own_pages, missing, page
from services.observatory.web.site import Site, SiteOf

TYPES: Final = {"json": "application/json", "html": "text/html"}


@get("/history/{version:int}/proof", include_in_schema=False)
async def proof_page(
    site: SiteOf, request: "Request[Any, Any, Any]", version: FromPath[int], make: FromQuery[bool] = False
) -> Response[Any]:
    """Show the proof pack of a promotion. ``make``: make it, also if there is one."""
    screen = proof.screen(site.projection.control, version, site.computations)
    if screen is None:
        return missing(site, f"Version {version} is no promotion", "A proof pack proves a promotion: see History.")
    if make:
        from_own_pages(request)
        if not screen.busy:
            site.computations.start(AskedPack(version), again=True)
        return Redirect(f"/history/{version}/proof")
    return page(site, "proof-page.html", here="history", live=f"screen=proof&page={version}", screen=screen)


@get("/history/{version:int}/proof/cancel", include_in_schema=False)
async def cancel_page(site: SiteOf, request: "Request[Any, Any, Any]", version: FromPath[int]) -> Redirect:
    """End the making of a pack."""
    from_own_pages(request)
    _cancel(site, version)
    return Redirect(f"/history/{version}/proof")


@get("/history/{version:int}/proof/file", include_in_schema=False)
async def file_page(site: SiteOf, version: FromPath[int], form: FromQuery[str] = "json") -> File:
    """Download a pack, as JSON or as a page."""
    return _file(site, version, form)


@get(
    "/api/v1/versions/{version:int}/proof",
    tags=["history"],
    summary="What proves a promotion?",
    raises=[NotFoundException, PermissionDeniedException, ComputingException],
)
async def proof_answer(
    site: SiteOf, request: "Request[Any, Any, Any]", version: FromPath[int], start: FromQuery[bool] = False
) -> proof.ProofScreen:
    """Return how far the proof pack of a promotion is, and what `conclave proof check` finds in it; `start`: make it,
    if it is not made. One thing is computed at a time: 409 while another is. The pack is not signed, since the server
    holds no person's key."""
    _screen(site, version)
    if start:
        from_own_pages(request)
        try:
            site.computations.start(AskedPack(version))
        except BusyError as error:
            raise ComputingException(str(error)) from None
    return _screen(site, version)


@get(
    "/api/v1/versions/{version:int}/proof/file",
    tags=["history"],
    summary="The file of a proof pack",
    raises=[NotFoundException],
    media_type="application/json",
)
async def file_answer(site: SiteOf, version: FromPath[int]) -> File:
    """Return the pack as the file that `conclave proof make` writes without a key. 404 until it is made."""
    return _file(site, version, "json")


@get(
    "/api/v1/versions/{version:int}/proof/cancel",
    tags=["history"],
    summary="End the making of a proof pack",
    raises=[NotFoundException, PermissionDeniedException],
)
async def cancel_answer(site: SiteOf, request: "Request[Any, Any, Any]", version: FromPath[int]) -> proof.ProofScreen:
    """End the making of the pack; nothing happens if it is not being made."""
    from_own_pages(request)
    _cancel(site, version)
    return _screen(site, version)


def _screen(site: Site, version: int) -> proof.ProofScreen:
    screen = proof.screen(site.projection.control, version, site.computations)
    if screen is None:
        raise NotFoundException(f"version {version} is no promotion; /api/v1/history has the promotions")
    return screen


def _file(site: Site, version: int, form: str) -> File:
    name = AskedPack(version).name
    file = site.computations.file(name, form) if form in TYPES else None
    if file is None:
        raise NotFoundException(f"the pack of version {version} is not made: /history/{version}/proof makes it")
    return File(file, filename=f"{name}.{form}", media_type=TYPES[form])


def _cancel(site: Site, version: int) -> None:
    running = site.computations.running
    if running is not None and running.asked == AskedPack(version):
        site.computations.cancel()
