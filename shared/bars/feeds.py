"""Open a source of bars by its address: a path, or ``NAME://...`` for a feed that another distribution adds."""

from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Final, Protocol

from shared.bars.rows import BarSource, SourceError
from shared.bars.source import open_source
from shared.plugins import Plugins

MARK: Final = "://"
"""The separator between the name of a feed and its address. Paths do not contain it."""


class FeedOpener(Protocol):
    """A function that opens a source by its address."""

    def __call__(self, address: str, *, symbol: str | None, interval_ms: int | None) -> BarSource:
        """Return the source at ``address``, which includes the name of the feed.

        ``symbol`` and ``interval_ms`` are those that the person stated. Raises ``SourceError``. The source may block
        while it waits for its next bar.
        """


def _fault(_: str, loaded: object) -> str | None:
    return None if callable(loaded) else f"expected a function that opens a source, found {type(loaded).__name__}"


FEEDS: Final[Plugins[FeedOpener]] = Plugins("conclave.feeds", {}, _fault)


def open_bars(
    address: Path | str,
    *,
    symbol: str | None = None,
    interval_ms: int | None = None,
    columns: Sequence[tuple[str, str]] = (),
    zone: tzinfo | None = None,
) -> BarSource:
    """Return the source of the files at a path, or of the feed that the address names. Raises ``SourceError``, and
    ``PluginError`` if the feed cannot be used."""
    name, mark, _ = str(address).partition(MARK)
    if not mark or isinstance(address, Path):
        return open_source(address, symbol=symbol, interval_ms=interval_ms, columns=columns, zone=zone)
    if columns or zone is not None:
        raise SourceError(f"{address}: columns and a zone are stated of files only, and this is an installed feed")
    if name not in FEEDS:
        raise SourceError(f"{address}: no feed {name!r} is installed; installed feeds: {', '.join(FEEDS) or 'none'}")
    return FEEDS[name](str(address), symbol=symbol, interval_ms=interval_ms)
