"""Routes of the screen What if.

A what-if changes nothing, so that GET starts one; it takes processor time, so that a page of another site may not."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from litestar import Request, Response, get
from litestar.exceptions import ClientException, NotFoundException, PermissionDeniedException
from litestar.params import FromQuery
from litestar.response import Redirect

from services.observatory.computing import AskedWhatif, BusyError, Computation, asked_of
from services.observatory.screens import whatif
from services.observatory.web.pages import ComputingException, from_own_pages, missing, page, part
from services.observatory.web.site import Site, SiteOf, whatif_of
from shared.audit.whatif import WhatifResult
from shared.commands.words import pairs
from shared.report import whatif as drawn
from shared.report.drawing import ChartsMissingError
from shared.report.pages import PageFigure


@get("/whatif", include_in_schema=False)
async def whatif_page(site: SiteOf, request: "Request[Any, Any, Any]", name: FromQuery[str] = "") -> Response[Any]:
    """Show what can be chosen; start what is asked for. ``name``: a question that was asked lately."""
    trial = whatif_of(site, name) or _running(site)
    if not name and request.query_params:
        try:
            from_own_pages(request)
            trial = site.computations.start(_from_form(request))
        except BusyError:
            return Redirect("/whatif")
        except ValueError as error:
            return missing(site, f"This cannot be asked: {error}", "The form has what can be chosen.")
        return Redirect(f"/whatif?name={trial.asked.name}")
    screen = _screen(site, trial)
    live = f"screen=whatif&name={trial.asked.name}" if trial is not None else "screen=whatif"
    result = await _result(site, trial) if trial is not None and trial.result is not None else {}
    return page(site, "whatif-page.html", here="whatif", live=live, screen=screen, **{"answer": None, **result})


@get("/whatif/result", include_in_schema=False)
async def result_part(site: SiteOf, name: FromQuery[str]) -> Response[str]:
    """Show the result of a what-if."""
    trial = whatif_of(site, name)
    if trial is None or trial.result is None:
        raise NotFoundException
    return part("parts/whatif-result.html", **await _result(site, trial))


@get("/whatif/cancel", include_in_schema=False)
async def cancel_part(site: SiteOf, request: "Request[Any, Any, Any]") -> Response[Any]:
    """End the what-if that runs."""
    from_own_pages(request)
    running = _running(site)
    if running is None:
        return Redirect("/whatif")
    site.computations.cancel()
    return Redirect(f"/whatif?name={running.asked.name}")


@get(
    "/api/v1/whatif",
    tags=["whatif"],
    summary="What would have been decided?",
    raises=[PermissionDeniedException, ComputingException],
)
async def whatif_answer(
    site: SiteOf,
    request: "Request[Any, Any, Any]",
    champion: FromQuery[list[str] | None] = None,
    weight: FromQuery[list[str] | None] = None,
    without: FromQuery[list[str] | None] = None,
    policy: FromQuery[list[str] | None] = None,
    since: FromQuery[int] = 0,
    until: FromQuery[int] = 0,
    start: FromQuery[bool] = False,
) -> whatif.WhatifScreen:
    """Return what can be chosen, and how far the what-if of these parameters is; `start`: start it, if it was not
    asked before. `champion` is `MODEL=ARTIFACT`, `weight` is `MODEL=WEIGHT` (the others share the rest), `without` is a
    model whose ballots count for nothing, `policy` is `FIELD=VALUE`; each may be repeated. `since` and `until` are
    milliseconds since 1970. One thing is computed at a time: 409 while another is."""
    try:
        champions, weights, fields = (pairs(words or []).items() for words in (champion, weight, policy))
        asked = asked_of(champions, weights, without or [], fields, since, until)
        if start:
            from_own_pages(request)
        trial = site.computations.start(asked) if start else site.computations.find(asked.name)
    except BusyError as error:
        raise ComputingException(str(error)) from None
    except ValueError as error:
        raise ClientException(str(error)) from None
    return _screen(site, trial, asked)


@get(
    "/api/v1/whatif/cancel",
    tags=["whatif"],
    summary="End the what-if that runs",
    raises=[PermissionDeniedException],
)
async def cancel_answer(site: SiteOf, request: "Request[Any, Any, Any]") -> whatif.WhatifScreen:
    """End the what-if that runs, and return it; nothing happens if none does."""
    from_own_pages(request)
    running = _running(site)
    if running is not None:
        site.computations.cancel()
    return _screen(site, running)


def _running(site: Site) -> Computation | None:
    running = site.computations.running
    return running if running is not None and isinstance(running.asked, AskedWhatif) else None


def _from_form(request: "Request[Any, Any, Any]") -> AskedWhatif:
    """Return the question of a form. Raises ``ValueError``."""
    fields = list(request.query_params.multi_items())

    def pairs(prefix: str) -> Iterable[tuple[str, str]]:
        return [(name.removeprefix(prefix), value.strip()) for name, value in fields if name.startswith(prefix)]

    without = [value for name, value in fields if name == "without"]
    times = {name: value for name, value in fields if name in {"since", "until"} and value}
    since, until = (_moment(times[name]) if name in times else 0 for name in ("since", "until"))
    return asked_of(pairs("champion."), pairs("weight."), without, pairs("policy."), since, until)


def _moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _screen(site: Site, trial: Computation | None, asked: AskedWhatif | None = None) -> whatif.WhatifScreen:
    shown = asked or (trial.asked if trial is not None and isinstance(trial.asked, AskedWhatif) else AskedWhatif())
    return whatif.screen(site.projection.newest, shown, trial, site.computations.running)


async def _result(site: Site, trial: Computation) -> dict[str, Any]:
    """Return what the part with the result shows; charts are drawn in a thread."""
    assert isinstance(trial.asked, AskedWhatif)
    assert isinstance(trial.result, WhatifResult)
    figures, fault = await to_thread.run_sync(_figures, trial.result, limiter=site.checking)
    shown = drawn.shown(trial.result, drawn.words_of(trial.asked.changes))
    return {**shown, "figures_shown": figures, "fault": fault}


def _figures(result: WhatifResult) -> tuple[list[PageFigure], str]:
    try:
        return (drawn.figures_of(result), "") if result.rounds else ([], "")
    except ChartsMissingError as error:
        return [], str(error)
