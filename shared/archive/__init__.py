"""The archive: streams sealed into files, and how recorded history is read, from files and Redis alike.

``history``   reading: ``SealedHistory`` (files alone), ``WholeHistory`` (files, then the log).
``files``     the sealed files of one stream, in order and chained.
``sealed``    the format of one file. Pure.
``cuts``      up to where everything was sealed at one moment, and where the groups stood then.
``checking``  whether an archive is whole. ``restoring``: into an empty server.
``store``     where files lie: a folder, or a place that fsspec knows.
"""

from shared.archive.history import (
    ArchivedHistory,
    ArchivedRecord,
    LostError,
    Reach,
    SealedHistory,
    WholeHistory,
    entries,
    records,
)
from shared.archive.sealed import CorruptError
from shared.archive.store import SegmentStore, StoreError, opened

__all__ = [
    "ArchivedHistory",
    "ArchivedRecord",
    "CorruptError",
    "LostError",
    "Reach",
    "SealedHistory",
    "SegmentStore",
    "StoreError",
    "WholeHistory",
    "entries",
    "opened",
    "records",
]
