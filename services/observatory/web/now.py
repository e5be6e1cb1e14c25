"""Routes of the screen Now."""

from urllib.parse import urlencode

from litestar import Response, get
from litestar.params import FromQuery

from services.observatory.screens import now
from services.observatory.web.pages import page as whole
from services.observatory.web.site import SiteOf, View


@get("/", include_in_schema=False)
async def now_page(site: SiteOf, search: FromQuery[str] = "", page: FromQuery[int] = 1) -> Response[str]:
    """Show whether all is well."""
    view = View("now", search=search[:64], page=page)
    screen = site.now(view)
    cards = "".join(site.card(one) for one in screen.series)
    return whole(site, "now.html", here="now", live=query(view), screen=screen, search=view.search, cards=cards)


def query(view: View) -> str:
    """Return the query of the updates of a page of Now."""
    return urlencode({"screen": "now", "search": view.search, "page": view.page})


@get("/api/v1/now", tags=["now"], summary="Is it well?")
async def now_answer(site: SiteOf, search: FromQuery[str] = "", page: FromQuery[int] = 1) -> now.Now:
    """Return the last decision of each series, groups, alerts, money and exchanges. 48 series are on one page."""
    return site.now(View("now", search=search[:64], page=page))


@get("/api/v1/status", tags=["now"], summary="What stands at the top of every page")
async def status_answer(site: SiteOf) -> now.StatusNow:
    """Return whether it is halted, the version in force, and the alerts that are active."""
    return site.status()
