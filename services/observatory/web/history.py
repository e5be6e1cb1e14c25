"""Routes of the screen History."""

from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery

from services.observatory.screens import history
from services.observatory.web.pages import missing, part
from services.observatory.web.pages import page as whole
from services.observatory.web.site import Site, SiteOf


@get("/history", include_in_schema=False)
async def history_page(
    site: SiteOf,
    page: FromQuery[int] = 1,
    version: FromQuery[int] = 0,
    against: FromQuery[str] = "",
    at: FromQuery[str] = "",
) -> Response[str]:
    """Show who changed what, when and why, and the configuration of one version (0: the newest), or of the time ``at``,
    compared with version ``against``."""
    if at:
        try:
            moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
        except ValueError:
            return missing(site, f"{at!r} is no time", "Expected a date and a time, such as 2026-01-31T12:00 (UTC).")
        version = history.version_at(site.projection.control, int(moment.timestamp() * 1000))
        if not version:
            return missing(site, f"Nothing was in force at {moment:%Y-%m-%d %H:%M}", "Version 1 is later.")
    if against and not against.isdecimal():
        return missing(site, f"{against!r} is no version", "conclave history")
    return _page(site, page, version, int(against or 0))


def _page(site: Site, page: int, version: int, against: int = 0) -> Response[str]:
    projection = site.projection
    number = version or len(projection.control.states)
    shown = history.version(projection.state, projection.control, number, against)
    if shown is None:
        newest = len(projection.control.states)
        return missing(site, f"There is no version {max(number, against)}", f"The newest is {newest}: conclave history")
    timeline = history.screen(projection.state, projection.control, page=page)
    live = f"screen=history&page={timeline.page}"
    return whole(site, "history.html", here="history", live=live, screen=timeline, version=shown)


@get("/history/version", include_in_schema=False)
async def version_part(
    site: SiteOf, request: "Request[Any, Any, Any]", version: FromQuery[int], against: FromQuery[int] = 0
) -> Response[str]:
    """Show one version: a part for a page that shows the timeline, else the whole page."""
    if "hx-request" not in request.headers:
        return _page(site, 1, version, against)
    projection = site.projection
    shown = history.version(projection.state, projection.control, version, against)
    if shown is None:
        raise NotFoundException
    return part("parts/version.html", version=shown)


@get("/api/v1/history", tags=["history"], summary="Who changed what, when and why?")
async def history_answer(site: SiteOf, page: FromQuery[int] = 1) -> history.HistoryScreen:
    """Return the commands on control, the newest first, 40 on a page, and the state of the chain."""
    return history.screen(site.projection.state, site.projection.control, page=page)


@get("/api/v1/versions/{number:int}", tags=["history"], summary="What was in force?", raises=[NotFoundException])
async def version_answer(site: SiteOf, number: FromPath[int]) -> history.VersionScreen:
    """Return the configuration of a version, how it differs from the one before and from the present one, and how many
    decisions were made under it."""
    return _version(site, number)


def _version(site: Site, number: int) -> history.VersionScreen:
    shown = history.version(site.projection.state, site.projection.control, number)
    if shown is None:
        raise NotFoundException(f"there is no version {number}; the newest is {len(site.projection.control.states)}")
    return shown


@get("/api/v1/versions", tags=["history"], summary="What was in force at a time?", raises=[NotFoundException])
async def version_at_answer(site: SiteOf, at: FromQuery[int]) -> history.VersionScreen:
    """Return the last version that was issued until `at` (ms since 1970), by the clocks of the issuers."""
    return _version(site, history.version_at(site.projection.control, at))


@get("/api/v1/difference", tags=["history"], summary="How do two versions differ?", raises=[NotFoundException])
async def difference_answer(
    site: SiteOf, before: FromQuery[int], after: FromQuery[int]
) -> tuple[history.ChangeShown, ...]:
    """Return every difference between two versions: models, weights, policies, features by name."""
    states = site.projection.control.states
    for number in (before, after):
        if not 1 <= number <= len(states):
            raise NotFoundException(f"there is no version {number}; the newest is {len(states)}")
    return history.differences(states[before - 1], states[after - 1])
