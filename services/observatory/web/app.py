"""The ASGI application: all routes, their description, and the shield in front of them."""

from collections.abc import Iterable
from typing import Final

from litestar import Litestar, Response, get
from litestar.config.compression import CompressionConfig
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Tag

from services.observatory.web import decision, health, history, models, now, symbol, training, whatif
from services.observatory.web.assets import serve_asset
from services.observatory.web.live import live
from services.observatory.web.pages import failed
from services.observatory.web.shield import ASGIApp, Shield
from services.observatory.web.site import Site, SiteOf
from shared.distribution import version

IDLE_S: Final = 15.0
"""The observatory is taken for ill if its loop did not turn for so long."""
ABOUT: Final = (
    "The screens of the observatory as JSON. It only shows: there is no method other than GET. Times are milliseconds "
    "since 1970, digests and event ids hexadecimal."
)
TAGS: Final = ("now", "symbol", "decision", "models", "history", "training", "whatif", "health")


@get("/healthz", include_in_schema=False)
async def healthz(site: SiteOf) -> Response[dict[str, object]]:
    """Return 200 while the streams are read, else 503."""
    projection = site.projection
    well = projection.idle_s < IDLE_S and not projection.error
    found = {"well": well, "idle_s": round(projection.idle_s, 1), "error": projection.error}
    return Response(found, status_code=200 if well else 503)


def application(site: Site, hosts: Iterable[str] = ()) -> ASGIApp:
    """Return the application of a site, which answers for loopback and ``hosts``."""
    routes = [
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
        history.history_page,
        history.version_part,
        history.history_answer,
        history.version_answer,
        history.version_at_answer,
        history.difference_answer,
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
    app = Litestar(
        routes,
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
    return Shield(app, hosts)  # type: ignore[arg-type]  # its own names of the same interface
