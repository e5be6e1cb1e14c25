"""Routes of the screen Health."""

import re
from contextlib import suppress
from typing import Any, Final

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from msgspec import Struct

from schemas.codec import Envelope, UnreadableError, opened
from services.observatory.doctor import DoctorNow
from services.observatory.journal import Letter
from services.observatory.screens import health
from services.observatory.web.pages import page, part
from services.observatory.web.site import Site, SiteOf
from shared.log import StreamKey, preceding

DIGITS: Final = re.compile(r"[0-9a-f]{6,32}")


class LetterScreen(Struct, frozen=True):
    """One dead letter as it was written. ``raw``: the refused input, cut at 2,000 characters; bytes are in
    hexadecimal."""

    id: str
    at: int
    partition: int
    entry: str
    service: str
    source: str
    reason: str
    detail: str
    raw: str
    retried: str


@get("/health", include_in_schema=False)
async def health_page(site: SiteOf) -> Response[str]:
    """Show whether the services run, and what was refused."""
    return page(site, "health.html", here="health", live="screen=health", screen=site.health(), doctor=site.doctor.last)


@get("/health/doctor", include_in_schema=False)
async def doctor_part(site: SiteOf) -> Response[str]:
    """Make the checks, and show them."""
    return part("parts/doctor.html", doctor=await site.doctor.examine())


@get("/health/letters/{name:str}", include_in_schema=False)
async def letter_part(site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Show one dead letter with its input."""
    return part("parts/letter.html", letter=await _letter(site, name))


@get("/api/v1/health", tags=["health"], summary="Do the services run?")
async def health_answer(site: SiteOf) -> health.HealthScreen:
    """Return every consumer group with its lease, positions and lag, the exchanges, the clock of this machine, the
    alerts, and the last 20 dead letters."""
    return site.health()


@get("/api/v1/doctor", tags=["health"], summary="Is what it depends on in order?")
async def doctor_answer(site: SiteOf) -> DoctorNow:
    """Make the checks of `conclave doctor` and return them, with how far each stream is archived. A result is used for
    five seconds. What the user of the observatory may not read has the verdict `unknown`."""
    return await site.doctor.examine()


@get("/api/v1/letters/{name:str}", tags=["health"], summary="Why was this input refused?", raises=[NotFoundException])
async def letter_answer(site: SiteOf, name: FromPath[str]) -> LetterScreen:
    """Return one of the last 20 dead letters with its input. `name`: its event id, or the first six or more digits."""
    return await _letter(site, name)


def kept_letter(site: Site, name: str) -> Letter:
    """Return a letter that is kept, by its event id or the beginning of it. Raises ``NotFoundException``."""
    letters = site.projection.state.letters.recent if DIGITS.fullmatch(name) else []
    kept = next((letter for letter in reversed(letters) if letter.id.startswith(name)), None)
    if kept is None:
        raise NotFoundException(f"no dead letter that is kept begins with {name!r}; `conclave dead-letters list`")
    return kept


async def written_letter(site: Site, kept: Letter) -> Envelope[Any] | None:
    """Return a letter as it was written; None if it is no longer on the log, or cannot be read."""
    place = StreamKey("dead", kept.partition)
    entries = await site.projection.log.scan(place, after=preceding(kept.entry), until=kept.entry, count=1)
    with suppress(UnreadableError):
        return opened("dead", entries[0].data).envelope if entries else None
    return None


async def _letter(site: Site, name: str) -> LetterScreen:
    """Read a letter that is kept at its place. Raises ``NotFoundException``."""
    kept = kept_letter(site, name)
    written = await written_letter(site, kept)
    event: Any = written.event if written is not None else None
    shown = event or kept  # what is kept of it is shown then
    return LetterScreen(
        id=kept.id,
        at=kept.at,
        partition=kept.partition,
        entry=kept.entry,
        service=shown.service,
        source=shown.source,
        reason=shown.reason,
        detail=shown.detail,
        raw=event.raw if event is not None else "",
        retried=kept.retried,
    )
