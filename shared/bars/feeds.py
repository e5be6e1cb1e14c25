"""Bars by an address: a path, or ``NAME://...`` for a feed that another distribution adds."""

from pathlib import Path
from typing import Final, Protocol

from shared.bars.rows import BarSource, SourceError
from shared.bars.source import open_source
from shared.plugins import Plugins

MARK: Final = "://"
"""What tells an address of a feed from a path."""


class FeedOpener(Protocol):
    """Opens a source by its address."""

    def __call__(self, address: str, *, symbol: str | None, interval_ms: int | None) -> BarSource:
        """``address``: the whole of it, the feed's name included. ``symbol``, ``interval_ms``: what the person stated.
        Raises ``SourceError``. A source may block while it waits for its next bar."""


def _fault(_: str, loaded: object) -> str | None:
    return None if callable(loaded) else f"expected a function that opens a source, found {type(loaded).__name__}"


FEEDS: Final[Plugins[FeedOpener]] = Plugins("conclave.feeds", {}, _fault)


def open_bars(address: Path | str, *, symbol: str | None = None, interval_ms: int | None = None) -> BarSource:
    """Opens the files at a path, or the feed that an address names. Raises ``SourceError``, and ``PluginError`` where
    the feed cannot be used."""
    name, mark, _ = str(address).partition(MARK)
    if not mark or isinstance(address, Path):
        return open_source(address, symbol=symbol, interval_ms=interval_ms)
    if name not in FEEDS:
        raise SourceError(f"{address}: no feed {name!r} is installed; there are: {', '.join(FEEDS) or 'none'}")
    return FEEDS[name](str(address), symbol=symbol, interval_ms=interval_ms)
