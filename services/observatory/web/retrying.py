"""Routes to append the input of a dead letter again: what would be done, why it may not be, and one confirmation.

``shared.commands.retrying`` decides what is sound, as for the console. Only the archive is not looked into: it may be
slow, and a halt must not wait for it."""

from typing import Any, NamedTuple

from litestar import Request, Response, get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from schemas.access import InputRetried
from schemas.catalogue import STREAMS
from schemas.codec import UnwritableError
from services.observatory.journal import Letter as KeptLetter
from services.observatory.web.act_api import FAULTS, Reason
from services.observatory.web.acting import REASON, desk_of
from services.observatory.web.health import kept_letter, written_letter
from services.observatory.web.pages import page
from services.observatory.web.sessions import Caller, address_of, operator, program
from services.observatory.web.signing_in import FORM_BYTES, Fields
from services.observatory.web.site import Site, SiteOf
from shared.commands.retrying import RETRIED, Letter, Retry, copy_of, may_append, original, retry, unsound
from shared.control.issuing import RefusedError
from shared.log.address import parse_address
from shared.settings.environment import redis_url_with_password

Asked = Request[Caller, str, Any]


class RetryAsked(Struct, frozen=True):
    """Why the input is appended again. It is recorded."""

    reason: Reason


class Retried(Struct, frozen=True):
    """The stream and the id under which the input was appended. `before`: an earlier retry had appended it."""

    stream: str
    entry: str
    before: bool


class Chance(NamedTuple):
    """What a retry would append: so many bytes to ``stream``, or why it may not (``why_not``; '' if it may).
    ``before``: the entry that an earlier retry appended and did not record; '' if none did."""

    stream: str = ""
    size: int = 0
    why_not: str = ""
    before: str = ""


@get("/health/letters/{name:str}/retry", include_in_schema=False, guards=[operator])
async def retry_page(site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Show what a retry would append, or why it may not."""
    kept = kept_letter(site, name)
    return page(site, "letter-retry.html", here="health", letter=kept, chance=await _chance(site, kept), fault="")


@post(
    "/health/letters/{name:str}/retry",
    include_in_schema=False,
    status_code=200,
    guards=[operator],
    request_max_body_size=FORM_BYTES,
)
async def retry_done(request: Asked, site: SiteOf, name: FromPath[str], data: Fields) -> Response[str]:
    """Append the input, and show where; the page again, with the reason, if it is refused."""
    kept = kept_letter(site, name)
    try:
        done = await _retry(request, site, kept, str(data.get("reason", "")).strip()[:REASON])
    except RefusedError as error:
        chance = await _chance(site, kept)
        shown = page(site, "letter-retry.html", here="health", letter=kept, chance=chance, fault=str(error))
        shown.status_code = 409
        return shown
    return page(site, "letter-retried.html", here="health", letter=kept, done=done)


@post(
    "/api/v1/letters/{name:str}/retry",
    tags=["acts"],
    summary="Append the input of a dead letter again",
    status_code=200,
    guards=[program, operator],
    responses=FAULTS,
    raises=[NotFoundException],
    request_max_body_size=FORM_BYTES,
)
async def retry_answer(request: Asked, site: SiteOf, name: FromPath[str], data: JSONBody[RetryAsked]) -> Retried:
    """Append the refused entry to its stream again, byte for byte, where that is sound. 409: why it is not. `name`: the
    event id of the letter, or its first six or more digits."""
    done = await _retry(request, site, kept_letter(site, name), data.reason)
    return Retried(done.place.key, done.entry, done.before)


async def _chance(site: Site, kept: KeptLetter) -> Chance:
    """Return what a retry would append."""
    log, letter = site.projection.log, await _letter(site, kept)
    why_not = _why_not(site, kept, letter)
    if why_not or letter is None:
        return Chance(why_not=why_not)
    entry = await original(log, None, letter)
    if entry is not None and (before := await copy_of(log, entry)) is not None:
        return Chance(entry.place.key, before=before)
    found = await unsound(log, letter, entry, archived=False)
    return Chance(why_not=found or "") if entry is None or found else Chance(entry.place.key, len(entry.data))


async def _letter(site: Site, kept: KeptLetter) -> Letter | None:
    """Return a letter as the retry takes it; None if it is no longer on the log."""
    written = await written_letter(site, kept)
    return Letter(kept.partition, kept.entry, written) if written is not None else None


def _why_not(site: Site, kept: KeptLetter, letter: Letter | None) -> str:
    """Return why nothing is retried from here, whatever the input says; '' if it may be."""
    if kept.retried:
        return f"it was appended again {kept.retried}"
    if letter is None:
        return "the dead letter is no longer on the log"
    stream = letter.place[0].stream if letter.place is not None else ""
    if stream in RETRIED and not may_append(_user(site), stream):
        writers = " or ".join(STREAMS[stream].writers)
        return (
            f"the observatory's user of the server may not append to {stream}. As the user {writers}, at a console: "
            f"`conclave dead-letters retry {kept.id[:12]} --reason '…'`"
        )
    return ""


async def _retry(request: Asked, site: Site, kept: KeptLetter, reason: str) -> Retry:
    """Append the input, and record who wanted it. Raises ``RefusedError``."""
    log = desk_of(site).log
    if not reason:
        raise RefusedError("Reason: expected why, got nothing. It is recorded.")
    async with site.retrying:
        letter = await _letter(site, kept)
        if (why_not := _why_not(site, kept, letter)) or letter is None:
            raise RefusedError(f"dead letter {kept.id[:12]} cannot be retried here: {why_not}")
        try:
            done = await retry(log, None, letter, actor=request.user.name, reason=reason)
        except UnwritableError as error:
            raise RefusedError(f"Reason: {error}") from None
    assert site.access is not None  # a role needs a sign-in
    event = InputRetried(
        person=request.user.name,
        role=request.user.role,
        by=request.user.by,
        address=address_of(request),
        letter=kept.id,
        entry=done.entry,
        at=0,
    )
    await site.access.signins.record(event)
    return done


def _user(site: Site) -> str:
    """Return the Redis user of this process; '' without one."""
    return parse_address(redis_url_with_password(site.settings)).user
