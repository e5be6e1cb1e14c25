"""Routes of the screen Symbol."""

from urllib.parse import urlencode

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromQuery

from services.observatory.screens import symbol
from services.observatory.web.pages import missing, page
from services.observatory.web.site import Site, SiteOf


@get("/symbol", include_in_schema=False)
async def symbol_page(site: SiteOf, name: FromQuery[str]) -> Response[str]:
    """Show the bars of a series with what was decided and traded."""
    found = _screen(site, name)
    if found is None:
        return missing(site, f"There is no series {name}", "It has the form BTCUSDT.60000: symbol, interval in ms.")
    live = urlencode({"screen": "symbol", "name": name})
    return page(site, "symbol.html", here="symbol", live=live, screen=found)


@get("/api/v1/symbol", tags=["symbol"], summary="What happened on this series?", raises=[NotFoundException])
async def symbol_answer(site: SiteOf, name: FromQuery[str], after: FromQuery[int] = -1) -> symbol.SymbolScreen:
    """Return the bars, decisions, orders and holes that are kept of a series (`BTCUSDT.60000`): at most 300 of each.
    `after`: only those of bars that opened later (ms)."""
    found = _screen(site, name, after)
    if found is None:
        raise NotFoundException(f"there is no series {name!r}; /api/v1/now lists them")
    return found


def _screen(site: Site, name: str, after: int = -1) -> symbol.SymbolScreen | None:
    projection = site.projection
    return symbol.screen(projection.state, projection.newest, site.around, name, after=after)
