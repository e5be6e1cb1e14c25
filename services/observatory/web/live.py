"""Live updates: a stream of server-sent events for each open page, with the parts that changed."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import anyio
from litestar import get
from litestar.params import FromQuery
from litestar.response import ServerSentEvent, ServerSentEventMessage

from services.observatory.web.site import Rendered, Site, SiteOf, View

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


@dataclass
class Patch(ServerSentEventMessage):
    """An update that is encoded once for all who get it: that of 500 symbols has half a megabyte."""

    encoded: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes of the message."""
        self.encoded = self.encoded or super().encode()
        return self.encoded


async def updates(site: Site, view: View) -> AsyncIterator[ServerSentEventMessage]:
    """Yield the parts of a page whenever they change, until the observatory ends."""
    sent: Rendered | None = None
    while not site.stop.is_set():
        waiting = site.projection.waiting
        rendered = site.shared(view)
        if (patch := patch_of(sent, rendered)) is not None:
            yield patch
        sent = rendered
        await anyio.sleep(max(rendered.again_at - time.monotonic(), 0.0))
        if rendered.revision != site.projection.revision:
            continue
        with anyio.move_on_after(PING_S) as waited:
            await first_of(waiting, site.stop)
        if waited.cancelled_caught:
            yield ServerSentEventMessage(event="ping", data="")


def patch_of(sent: Rendered | None, rendered: Rendered) -> Patch | None:
    """Return what a page that was sent one rendering lacks of a later one; None if nothing."""
    before = -1 if sent is None else sent.revision
    if before not in rendered.patches:
        changed = changes({} if sent is None else sent.parts, rendered.parts)
        rendered.patches[before] = Patch(event="patch", data=changed) if changed else None
    patch: Patch | None = rendered.patches[before]
    return patch


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
