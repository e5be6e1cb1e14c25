"""Live updates: a stream of server-sent events for each open page, with the parts that changed."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import anyio
from litestar import get
from litestar.params import FromQuery
from litestar.response import ServerSentEvent, ServerSentEventMessage

from services.observatory.web.site import Parts, Site, SiteOf, View

PING_S: Final = 15.0
RETRY_MS: Final = 1_000


@get("/live", include_in_schema=False)
async def live(
    site: SiteOf,
    screen: FromQuery[str],
    name: FromQuery[str] = "",
    search: FromQuery[str] = "",
    page: FromQuery[int] = 1,
    partition: FromQuery[int] = 0,
) -> ServerSentEvent:
    """Stream what changes on a page. The first update is all of it, so a page whose connection was lost is whole
    again."""
    view = View(screen, name, search, page, partition)
    return ServerSentEvent(updates(site, view), retry_duration=RETRY_MS)


async def updates(site: Site, view: View) -> AsyncIterator[ServerSentEventMessage]:
    """Yield the parts of a page whenever they change, until the observatory ends."""
    sent: Parts = {}
    while not site.stop.is_set():
        waiting = site.projection.waiting
        parts, revision, again_at = site.shared(view)
        if changed := changes(sent, parts):
            yield ServerSentEventMessage(event="patch", data=changed)
        sent = parts
        await anyio.sleep(max(again_at - time.monotonic(), 0.0))
        if revision != site.projection.revision:
            continue
        with anyio.move_on_after(PING_S) as waited:
            await first_of(waiting, site.stop)
        if waited.cancelled_caught:
            yield ServerSentEventMessage(event="ping", data="")


async def first_of(*events: anyio.Event) -> None:
    """Wait until one of the events is set."""
    async with anyio.create_task_group() as tasks:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait, event)


def changes(sent: Mapping[str, str], parts: Mapping[str, str]) -> str:
    """Return the parts that differ from what was sent, as one text. Cards are sent one by one while their order is the
    same, else all together."""
    cards = [name for name in parts if name.startswith("card ")]
    same_order = cards == [name for name in sent if name.startswith("card ")]
    differing = [name for name, html in parts.items() if sent.get(name) != html]
    chosen = (
        [name for name in differing if name != "series"]
        if same_order
        else [name for name in differing if name not in cards]
    )
    return "".join(parts[name] for name in chosen)
