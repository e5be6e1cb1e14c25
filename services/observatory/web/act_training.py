"""Routes to ask the trainer for a new artifact, with the recipe of a model's champion."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import ValidationException
from litestar.params import JSONBody
from msgspec import Meta, Struct, structs

from schemas.common import Name
from schemas.training import TrainingRequested
from services.observatory.web.act_api import FAULTS
from services.observatory.web.acting import desk_of
from services.observatory.web.pages import page
from services.observatory.web.sessions import Caller, operator, program
from services.observatory.web.signing_in import FORM_BYTES, Fields
from services.observatory.web.site import Site, SiteOf
from shared.commands.forms import FormError
from shared.control.issuing import RefusedError
from shared.control.readiness import require_worker
from shared.training.ledger import TrainingWriter
from shared.training.requesting import NoRecipeError, champion_recipe, request_of

Asked = Request[Caller, str, Any]


class TrainingAsked(Struct, frozen=True):
    """What to train, why, on how many days of data (null: those of the training policy). `forced`: whatever the
    budget says."""

    model: Name
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    days: Annotated[int, Meta(ge=1, le=3650)] | None = None
    forced: bool = False


class Job(Struct, frozen=True):
    """The job that a request made: its id, which is that of the request."""

    job: str


@get("/act-training", include_in_schema=False, guards=[operator])
async def training_page(request: Asked, site: SiteOf) -> Response[str]:
    """Show the form, with the values that the address gives it."""
    return _form(site, dict(request.query_params.items()))


@post("/act-training", include_in_schema=False, status_code=200, guards=[operator], request_max_body_size=FORM_BYTES)
async def training_preview(request: Asked, site: SiteOf, data: Fields) -> Response[str]:
    """Show what would be trained."""
    try:
        made = await _made(site, _asked(data), request.user.name)
    except RefusedError as error:
        return _form(site, data, fault=str(error))
    return page(site, "act-training.html", here="act", values=data, fault="", made=made, job="", models=())


@post(
    "/act-training/request",
    include_in_schema=False,
    status_code=200,
    guards=[operator],
    request_max_body_size=FORM_BYTES,
)
async def training_request(request: Asked, site: SiteOf, data: Fields) -> Response[str]:
    """Append the request."""
    try:
        job = await _requested(site, _asked(data), request.user.name)
    except RefusedError as error:
        return _form(site, data, fault=str(error))
    return page(site, "act-training.html", here="act", values=data, fault="", made=None, job=job, models=())


@post(
    "/api/v1/training",
    tags=["acts"],
    summary="Ask for a new artifact of a model",
    status_code=200,
    guards=[program, operator],
    responses=FAULTS,
    request_max_body_size=FORM_BYTES,
)
async def request_answer(request: Asked, site: SiteOf, data: JSONBody[TrainingAsked]) -> Job:
    """Ask the trainer for a new artifact, with the recipe of the champion. 409: why it is refused."""
    return Job(await _requested(site, data, request.user.name))


def _asked(data: Mapping[str, Any]) -> TrainingAsked:
    """Return what a form asks for. Raises ``FormError``."""
    model, days, reason = (str(data.get(name, "")).strip() for name in ("model", "days", "reason"))
    if days and not days.isdecimal():
        raise FormError(f"Days: expected a whole number, got {days!r}")
    if not reason:
        raise FormError("Reason: expected why, got nothing. It is recorded.")
    asked = {
        "model": model,
        "reason": reason,
        "days": int(days) if days else None,
        "forced": data.get("forced") == "yes",
    }
    try:
        return msgspec.convert(asked, TrainingAsked)
    except msgspec.ValidationError as error:
        raise FormError(str(error)) from None


async def _made(site: Site, asked: TrainingAsked, actor: str) -> TrainingRequested:
    """Return the request. Raises ``RefusedError``."""
    desk = desk_of(site)
    state = await desk.state()
    await require_worker(desk.log, state, desk.names, asked.model)
    try:
        recipe = champion_recipe(site.store, state, asked.model)
        at = await desk.log.time()
        return request_of(
            state, asked.model, recipe, actor=actor, reason=asked.reason, at=at, days=asked.days, forced=asked.forced
        )
    except NoRecipeError as error:
        raise RefusedError(f"{error}; the first artifact of a model: conclave train request --family NAME") from None
    except ValueError as error:
        raise ValidationException(str(error)) from None


async def _requested(site: Site, asked: TrainingAsked, actor: str) -> str:
    """Append the request, and return the id of its job. Raises ``RefusedError``."""
    desk = desk_of(site)
    made = structs.replace(await _made(site, asked, actor), at=await desk.log.time())
    return await TrainingWriter(desk.log).request(made, (await desk.state()).training)


def _form(site: Site, values: Mapping[str, Any], fault: str = "") -> Response[str]:
    shown = page(
        site,
        "act-training.html",
        here="act",
        values=values,
        fault=fault,
        made=None,
        job="",
        models=site.projection.newest.voting,
    )
    shown.status_code = 409 if fault else 200
    return shown
