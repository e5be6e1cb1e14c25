"""The files that pages load: style sheets and scripts, each under an address with its digest.

``static/vendor`` holds libraries of others as they were published; ``vendored.toml`` names each with its version,
licence and digest.
"""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from msgspec import Struct

PLACES: Final = {
    "report.css": ("shared.report", "templates/style.css"),
    "observatory.css": ("services.observatory", "static/observatory.css"),
    "acting.css": ("services.observatory", "static/acting.css"),
    "observatory.js": ("services.observatory", "static/observatory.js"),
    "acting.js": ("services.observatory", "static/acting.js"),
    "signing.js": ("services.observatory", "static/signing.js"),
    "symbol.js": ("services.observatory", "static/symbol.js"),
    "icon.svg": ("services.observatory", "static/icon.svg"),
    "htmx.js": ("services.observatory", "static/vendor/htmx.min.js"),
    "htmx-ext-sse.js": ("services.observatory", "static/vendor/htmx-ext-sse.min.js"),
    "idiomorph-ext.js": ("services.observatory", "static/vendor/idiomorph-ext.min.js"),
    "lightweight-charts.js": ("services.observatory", "static/vendor/lightweight-charts.js"),
}
TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(Struct, frozen=True):
    """A file: its bytes, their digest, and their type."""

    data: bytes
    digest: str
    media_type: str


@cache
def asset(name: str) -> Asset:
    """Return a file. Raises ``KeyError``."""
    package, path = PLACES[name]
    data = files(package).joinpath(path).read_bytes()
    return Asset(data, sha256(data).hexdigest()[:16], TYPES[name.rpartition(".")[2]])


def address(name: str) -> str:
    """Return the address of a file. It changes with the file, so a browser may keep the file for ever."""
    return f"/assets/{asset(name).digest}/{name}"


@get("/assets/{digest:str}/{name:str}", include_in_schema=False, sync_to_thread=False)
def serve_asset(digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Return a file that pages load."""
    if name not in PLACES or asset(name).digest != digest:
        raise NotFoundException
    found = asset(name)
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(found.data, media_type=f"{found.media_type}; charset=utf-8", headers=headers)
