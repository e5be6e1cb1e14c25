"""Where what was trimmed from the server was sealed: readers go through files and then the log, and need not know."""

from pathlib import Path

from shared.archive.store import SegmentStore, opened
from shared.settings import Settings


def location(settings: Settings) -> str:
    """The archive of this installation; empty where it has none yet."""
    found = settings.archive.path or str(Path(settings.installation.state, "archive"))
    return found if "://" in found or Path(found).is_dir() else ""


def past_of(settings: Settings) -> SegmentStore | None:
    """The same, opened."""
    found = location(settings)
    return opened(found) if found else None
