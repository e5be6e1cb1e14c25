"""Routes of the screen Decision."""

import re
import time
from typing import Final

from anyio import to_thread
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from services.observatory.gathering import find, gather
from services.observatory.screens import decision
from services.observatory.web.pages import missing, page, part
from services.observatory.web.site import Site, SiteOf

DIGITS: Final = re.compile(r"[0-9a-f]{6,32}")


@get("/decision/{name:str}", include_in_schema=False)
async def decision_page(site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Show what a decision was made from."""
    found = await _screen(site, name)
    if found is None:
        return missing(site, f"No decision that is kept begins with {name}", f"conclave blame {name[:32]}")
    return page(site, "decision.html", here="decision", live="screen=decision", screen=found)


@get("/decision/{name:str}/check", include_in_schema=False)
async def check_part(site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Check the decision again, and show the chain."""
    found = await _screen(site, name)
    if found is None:
        raise NotFoundException
    return part("parts/chain.html", screen=found)


@get("/api/v1/decisions/{name:str}", tags=["decision"], summary="Why, and does it follow?", raises=[NotFoundException])
async def decision_answer(site: SiteOf, name: FromPath[str]) -> decision.DecisionScreen:
    """Return what a decision was made from, link by link; each link is checked now. `name`: the event id, or its first
    six or more digits. Only decisions that are kept are found: the last 300 of each series."""
    found = await _screen(site, name)
    if found is None:
        raise NotFoundException(f"no decision that is kept begins with {name!r}; `conclave blame` reads the whole log")
    return found


async def _screen(site: Site, name: str) -> decision.DecisionScreen | None:
    """Gather the entries of a decision and check its links, in a thread: it reads and digests files of artifacts."""
    projection = site.projection
    kept = find(projection.state, name) if DIGITS.fullmatch(name) else None
    if kept is None:
        return None
    series, point = kept
    begun = time.perf_counter()
    gathered = await gather(projection.log, projection.state, projection.control, series, point)
    if gathered is None:
        return None
    links = await to_thread.run_sync(
        decision.chain, gathered, projection.control, site.store, limiter=site.checking, abandon_on_cancel=True
    )
    took_ms = round(1000 * (time.perf_counter() - begun))
    return decision.screen(gathered, projection.control, series, links, checked_at=projection.now, took_ms=took_ms)
