"""Find the archive of an installation."""

from pathlib import Path

from shared.archive.store import SegmentStore, open_store
from shared.settings import Settings


def archive_location(settings: Settings) -> str:
    """Return the folder or URL of this installation's archive; empty if it has none yet."""
    location = settings.archive.path or str(Path(settings.installation.state, "archive"))
    return location if "://" in location or Path(location).is_dir() else ""


def open_archive(settings: Settings) -> SegmentStore | None:
    """Return the archive of this installation; None if it has none yet."""
    location = archive_location(settings)
    return open_store(location) if location else None
