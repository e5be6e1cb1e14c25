"""Routes of the screen Money.

It reads all predictions and bars that were recorded, so it is counted when asked for, in a process of its own."""

from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.exceptions import PermissionDeniedException
from litestar.params import FromQuery
from litestar.response import Redirect

from services.observatory.computing import AskedMoney, BusyError
from services.observatory.screens import money
from services.observatory.web.pages import ComputingException, from_own_pages, page
from services.observatory.web.site import Site, SiteOf, View, money_part


@get("/money", include_in_schema=False)
async def money_page(
    site: SiteOf,
    request: "Request[Any, Any, Any]",
    line: FromQuery[str] = "",
    symbol: FromQuery[str] = "",
    count: FromQuery[bool] = False,
) -> Response[Any]:
    """Show the money that was counted last. ``line``: whose symbols are shown; or all lines of one ``symbol``.
    ``count``: count it now."""
    if count:
        from_own_pages(request)
        if not money.screen(site.computations).busy:
            site.computations.start(AskedMoney(), again=True)
        return Redirect("/money", query_params={"symbol": symbol} if symbol else {})
    view = View("money", line, symbol)
    return page(site, "money-page.html", here="models", live=live_of(view), symbol=symbol, part=money_part(site, view))


def live_of(view: View) -> str:
    """Return the query of the updates of a view."""
    return urlencode({"screen": "money", "name": view.name, "search": view.search})


@get("/money/cancel", include_in_schema=False)
async def cancel_page(site: SiteOf, request: "Request[Any, Any, Any]") -> Redirect:
    """Stop counting."""
    from_own_pages(request)
    _cancel(site)
    return Redirect("/money")


@get(
    "/api/v1/money",
    tags=["models"],
    summary="What did each line gain?",
    raises=[PermissionDeniedException, ComputingException],
)
async def money_answer(
    site: SiteOf, request: "Request[Any, Any, Any]", start: FromQuery[bool] = False
) -> money.MoneyScreen:
    """Return the money of the ensemble and of every model and shadow alone, in all and by symbol, as
    `conclave money -o json` has it, and when it was counted; `start`: count it again. One thing is computed at a time:
    409 while another is."""
    if start:
        from_own_pages(request)
        try:
            site.computations.start(AskedMoney(), again=True)
        except BusyError as error:
            raise ComputingException(str(error)) from None
    return money.screen(site.computations)


@get("/api/v1/money/cancel", tags=["models"], summary="Stop counting the money", raises=[PermissionDeniedException])
async def cancel_answer(site: SiteOf, request: "Request[Any, Any, Any]") -> money.MoneyScreen:
    """Stop counting; nothing happens if it is not being counted."""
    from_own_pages(request)
    _cancel(site)
    return money.screen(site.computations)


def _cancel(site: Site) -> None:
    running = site.computations.running
    if running is not None and isinstance(running.asked, AskedMoney):
        site.computations.cancel()
