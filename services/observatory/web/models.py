"""Routes of the screen Models."""

import time
from typing import Final

from anyio import to_thread
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from services.observatory.screens import models
from services.observatory.web.pages import missing, page, part
from services.observatory.web.site import Site, SiteOf
from shared.artifacts import ArtifactError, ManifestError
from shared.artifacts.card import card
from shared.report.drawing import ChartsMissingError
from shared.report.shadow import CandidateSection, section_of
from shared.report.summary import Candidate

SHORT: Final = 12
REDRAWN_S: Final = 30.0
"""A drawn section is shown for so long, however many scores there are since."""
KEPT: Final = 20


class Drawn(Struct, frozen=True):
    """A section with its charts: of how many scores, when it was drawn, and why it has no charts."""

    rows: int
    at: float
    section: CandidateSection
    fault: str = ""


class Drawings:
    """The sections that were drawn last. Drawing takes half a second, so it is done in a thread, one at a time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Drawn] = {}

    def kept(self, partition: int, one: Candidate) -> Drawn | None:
        """Return the section about an artifact, if it was drawn lately."""
        kept = self._kept.get((one.artifact, partition))
        return kept if kept is not None and (kept.rows == one.rows or time.monotonic() - kept.at < REDRAWN_S) else None

    async def of(self, site: Site, partition: int, one: Candidate) -> Drawn:
        """Return the section about an artifact."""
        if (kept := self.kept(partition, one)) is not None:
            return kept
        drawn = await to_thread.run_sync(_drawn, one, limiter=site.checking)
        key = one.artifact, partition
        self._kept.pop(key, None)
        self._kept[key] = drawn
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return drawn


def _drawn(one: Candidate) -> Drawn:
    try:
        return Drawn(one.rows, time.monotonic(), section_of(one))
    except ChartsMissingError as error:
        return Drawn(one.rows, time.monotonic(), section_of(one, drawn=False), str(error))


DRAWINGS: Final = Drawings()


@get("/models", include_in_schema=False)
async def models_page(site: SiteOf, partition: FromQuery[int] = 0) -> Response[str]:
    """Show champions and challengers, and the evidence about them."""
    live = f"screen=models&partition={partition}"
    return page(
        site, "models.html", here="models", live=live, screen=_screen(site, partition), proposals=site.proposals()
    )


@get("/api/v1/models", tags=["models"], summary="Who votes, who could, and on what evidence?")
async def models_answer(site: SiteOf, partition: FromQuery[int] = 0) -> models.ModelsScreen:
    """Return each model's champion and challengers with gates, e-values, latency and failures, for one partition."""
    return _screen(site, partition)


@get("/models/{artifact:str}", include_in_schema=False)
async def artifact_page(site: SiteOf, artifact: FromPath[str], partition: FromQuery[int] = 0) -> Response[str]:
    """Show all evidence about one artifact: the page of the shadow report, and its model card."""
    projection = site.projection
    registered = [digest for digest in projection.newest.artifacts if digest.startswith(artifact)]
    if len(registered) != 1 or len(artifact) < SHORT:
        return missing(site, f"There is no artifact {artifact}", "conclave artifacts list")
    digest = registered[0]
    candidate = models.candidate_of(projection.state, projection.newest, partition, digest)
    drawn = DRAWINGS.kept(partition, candidate) if candidate is not None else None
    without = section_of(candidate, drawn=False) if candidate is not None and drawn is None else None
    return page(
        site,
        "artifact.html",
        here="artifact",
        live="screen=artifact",
        digest=digest,
        registered=projection.newest.artifacts[digest],
        section=drawn.section if drawn is not None else without,
        loading=without is not None,
        fault=drawn.fault if drawn is not None else "",
        model_card=await to_thread.run_sync(_card, site, digest),
        partition=partition,
    )


@get("/models/{artifact:str}/evidence", include_in_schema=False)
async def evidence_part(site: SiteOf, artifact: FromPath[str], partition: FromQuery[int] = 0) -> Response[str]:
    """Draw the evidence about one artifact."""
    candidate = models.candidate_of(site.projection.state, site.projection.newest, partition, artifact)
    if candidate is None:
        raise NotFoundException
    drawn = await DRAWINGS.of(site, partition, candidate)
    values = {"section": drawn.section, "fault": drawn.fault, "loading": False}
    return part("parts/evidence.html", digest=artifact, partition=partition, **values)


@get(
    "/api/v1/models/{artifact:str}",
    tags=["models"],
    summary="All evidence about one artifact",
    raises=[NotFoundException],
)
async def artifact_answer(site: SiteOf, artifact: FromPath[str], partition: FromQuery[int] = 0) -> Candidate:
    """Return the fold of all scores of an artifact in one partition: skill, calibration, confidence, actions, e-values
    over time. `artifact`: the whole digest."""
    projection = site.projection
    found = models.candidate_of(projection.state, projection.newest, partition, artifact)
    if found is None:
        raise NotFoundException(f"no prediction of {artifact!r} was scored in partition {partition}")
    return found


def _screen(site: Site, partition: int) -> models.ModelsScreen:
    projection = site.projection
    return models.screen(projection.state, projection.newest, partition)


def _card(site: Site, digest: str) -> str:
    """Return the model card; why there is none, if the store of this machine does not have the artifact."""
    try:
        return card(digest, site.store.manifest(digest))
    except (ArtifactError, ManifestError, OSError) as error:
        return f"There is no card: {error}"
