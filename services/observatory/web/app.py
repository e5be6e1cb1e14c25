"""The ASGI application: all routes, their description, and the shield in front of them."""

from collections.abc import Iterable
from typing import Final

from litestar import Litestar, Response, Router, get
from litestar.config.compression import CompressionConfig
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Tag
from litestar.types import ASGIApp as InnerApp
from litestar.types import ControllerRouterHandler

from services.observatory.web import (
    act_api,
    act_training,
    acting,
    decision,
    health,
    history,
    models,
    money,
    now,
    proof,
    retrying,
    signing_in,
    symbol,
    training,
    whatif,
)
from services.observatory.web.assets import serve_asset
from services.observatory.web.live import live
from services.observatory.web.pages import failed
from services.observatory.web.sessions import Access, Authentication, RecordedLimit
from services.observatory.web.shield import ASGIApp, Shield
from services.observatory.web.site import Site, SiteOf
from shared.distribution import version

IDLE_S: Final = 15.0
"""The observatory is taken for ill if its loop did not turn for so long."""
ABOUT: Final = (
    "The screens of the observatory as JSON, and what operators do. Where people sign in, a program sends the token of "
    "`conclave observatory token`, as `Authorization: Bearer TOKEN`. Times are milliseconds since 1970, digests and "
    "event ids hexadecimal."
)
TAGS: Final = ("now", "symbol", "decision", "models", "history", "training", "whatif", "health", "acts")
OPEN: Final = ["^/healthz$", "^/assets/", "^/sign-in$"]
"""What is answered without a sign-in."""


@get("/healthz", include_in_schema=False)
async def healthz(site: SiteOf) -> Response[dict[str, object]]:
    """Return 200 while the streams are read, else 503."""
    projection = site.projection
    well = projection.idle_s < IDLE_S and not projection.error
    found = {"well": well, "idle_s": round(projection.idle_s, 1), "error": projection.error}
    return Response(found, status_code=200 if well else 503)


def application(site: Site, hosts: Iterable[str] = ()) -> ASGIApp:
    """Return the application of a site, which answers for loopback and ``hosts``."""
    routes: list[ControllerRouterHandler] = [
        now.now_page,
        now.now_answer,
        now.status_answer,
        symbol.symbol_page,
        symbol.symbol_answer,
        decision.decision_page,
        decision.check_part,
        decision.decision_answer,
        models.models_page,
        models.models_answer,
        models.artifact_page,
        models.evidence_part,
        models.artifact_answer,
        money.money_page,
        money.cancel_page,
        money.money_answer,
        money.cancel_answer,
        history.history_page,
        history.version_part,
        history.history_answer,
        history.version_answer,
        history.version_at_answer,
        history.difference_answer,
        proof.proof_page,
        proof.cancel_page,
        proof.file_page,
        proof.proof_answer,
        proof.file_answer,
        proof.cancel_answer,
        health.health_page,
        health.doctor_part,
        health.letter_part,
        health.health_answer,
        health.doctor_answer,
        health.letter_answer,
        training.training_page,
        training.job_page,
        training.curve_part,
        training.training_answer,
        training.job_answer,
        whatif.whatif_page,
        whatif.result_part,
        whatif.cancel_part,
        whatif.whatif_answer,
        whatif.cancel_answer,
        live,
        healthz,
        serve_asset,
    ]
    access = site.access
    if access is not None:
        routes += acting_routes(access)
    app = Litestar(
        routes,
        middleware=[*_signed_in(access)] if access is not None else [],
        csrf_config=access.csrf if access is not None else None,
        dependencies={"site": Provide(lambda: site, sync_to_thread=False)},
        exception_handlers={Exception: failed},
        compression_config=CompressionConfig(backend="gzip", gzip_compress_level=5, exclude=["^/live"]),
        openapi_config=OpenAPIConfig(
            title="Conclave observatory",
            version=version(),
            description=ABOUT,
            path="/api",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            tags=[Tag(name=name) for name in TAGS],
            use_handler_docstrings=True,
        ),
        logging_config=None,
        request_max_body_size=0,
    )
    signs_in = (lambda: access.signs_in) if access is not None else (lambda: False)
    return Shield(app, hosts, signs_in)  # type: ignore[arg-type]  # its own names of the same interface


def acting_routes(access: Access) -> list[ControllerRouterHandler]:
    """Return the routes by which people sign in, and change something."""

    def recorded(app: InnerApp) -> InnerApp:  # a function: what a router is given is copied, and ``access`` is one
        return RecordedLimit(app, access)

    limited = Router("/", route_handlers=[signing_in.sign_in], middleware=[recorded, access.limits.middleware])
    return [
        limited,
        signing_in.sign_in_page,
        signing_in.sign_out,
        acting.act_page,
        acting.key_page,
        acting.form_page,
        acting.preview_page,
        acting.issue_page,
        acting.draft_answer,
        acting.submit_answer,
        act_training.training_page,
        act_training.training_preview,
        act_training.training_request,
        act_training.request_answer,
        retrying.retry_page,
        retrying.retry_done,
        retrying.retry_answer,
        act_api.forms_answer,
        act_api.proposals_answer,
        act_api.preview_answer,
        act_api.issue_answer,
        act_api.draft_answer,
        act_api.submit_answer,
    ]


def _signed_in(access: Access) -> tuple[DefineMiddleware, DefineMiddleware]:
    return access.sessions.middleware, DefineMiddleware(Authentication, access=access, exclude=OPEN)
