"""Routes of the screen Training."""

from typing import Final

from anyio import to_thread
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery

from schemas.training import Recipe
from services.observatory.jobs import ObservedJob, TrainingStep
from services.observatory.screens import training
from services.observatory.web.pages import missing, part
from services.observatory.web.pages import page as whole
from services.observatory.web.site import Site, SiteOf
from shared.artifacts import ArtifactError, ManifestError
from shared.report import charts
from shared.report.charts import Curve
from shared.report.drawing import Chart, ChartsMissingError
from shared.report.pages import PageFigure
from shared.report.tables import symbols
from shared.report.training import gains, sanity
from shared.training.recipe import recipe_of

FEWEST: Final = 4
"""Digits of a job's id that name it."""


@get("/training", include_in_schema=False)
async def training_page(site: SiteOf, page: FromQuery[int] = 1) -> Response[str]:
    """Show what is trained, why, and with what result."""
    screen = training.screen(site.projection.state, site.projection.newest, page=page)
    live = f"screen=training&page={screen.page}"
    return whole(site, "training-jobs.html", here="training", live=live, screen=screen)


@get("/training/{name:str}", include_in_schema=False)
async def job_page(site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Show one job compared with the champion of its model."""
    observed = _find(site, name)
    if observed is None:
        return missing(site, f"No training job that is kept begins with {name}", "conclave train status")
    screen = await _screen(site, observed)
    tables = {
        "gains": gains(screen.job.end.gains) if screen.job.end is not None and screen.job.end.gains else None,
        "sanity": sanity(screen.job.end.sanity) if screen.job.end is not None and screen.job.end.sanity else None,
        "symbols": symbols(screen.report) if screen.report is not None else None,
    }
    live = f"screen=job&name={screen.job.id}"
    figure = await _drawn(site, screen.job.curve)
    return whole(site, "training-job.html", here="job", live=live, screen=screen, figure=figure, **tables)


@get("/training/{name:str}/curve", include_in_schema=False)
async def curve_part(site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Draw the losses of a job."""
    observed = _find(site, name)
    if observed is None:
        raise NotFoundException
    job = training.shown(observed)
    return part("parts/curve.html", job=job, figure=await _drawn(site, job.curve))


@get("/api/v1/training", tags=["training"], summary="What is trained, why, and with what result?")
async def training_answer(site: SiteOf, page: FromQuery[int] = 1) -> training.TrainingScreen:
    """Return the newest 60 training jobs with cause, progress, losses and result: 15 on a page, those that run first;
    and the newest 10 fits of a stacker."""
    return training.screen(site.projection.state, site.projection.newest, page=page)


@get(
    "/api/v1/training/{name:str}",
    tags=["training"],
    summary="One training job, compared with the champion",
    raises=[NotFoundException],
)
async def job_answer(site: SiteOf, name: FromPath[str]) -> training.JobScreen:
    """Return a job with its data, and how its recipe differs from that of the champion. `name`: its id, or the first
    four or more digits."""
    observed = _find(site, name)
    if observed is None:
        raise NotFoundException(f"no training job that is kept begins with {name!r}; /api/v1/training lists them")
    return await _screen(site, observed)


def _find(site: Site, name: str) -> ObservedJob | None:
    jobs = site.projection.state.jobs
    matching = [job for job in jobs if job.startswith(name)] if len(name) >= FEWEST else []
    return jobs[matching[0]] if len(matching) == 1 else None


async def _screen(site: Site, observed: ObservedJob) -> training.JobScreen:
    model = site.projection.newest.models.get(observed.job.request.model)
    champion = (model.champion if model is not None else None) or ""
    recipe = await to_thread.run_sync(_recipe, site, champion) if champion else "no champion votes for this model"
    return training.job_screen(observed, champion, recipe)


def _recipe(site: Site, artifact: str) -> Recipe | str:
    try:
        return recipe_of(site.store.manifest(artifact))
    except (ArtifactError, ManifestError, OSError) as error:
        return str(error)


async def _drawn(site: Site, steps: tuple[TrainingStep, ...]) -> PageFigure:
    return await to_thread.run_sync(_figure, steps, limiter=site.checking)


def _figure(steps: tuple[TrainingStep, ...]) -> PageFigure:
    curves = [
        Curve("training", "sell", [(step.number, step.train) for step in steps]),
        Curve("held out", "buy", [(step.number, step.held) for step in steps]),
    ]
    try:
        chart = charts.losses(curves, steps[-1].prior) if steps else Chart("No step of the fit was reported yet.")
    except ChartsMissingError as error:
        chart = Chart(str(error))
    reading = "Mean log loss in nats: training rows, held-out rows, class prior."
    return PageFigure("Loss by step", reading, chart, (("sell", "training"), ("buy", "held out")))
