"""The archive: streams sealed into files, and reading recorded history from these files and from Redis.

``history``    read recorded streams: ``SealedHistory`` (files alone), ``WholeHistory`` (files, then the log).
``files``      the sealed files of one stream, in order and chained.
``sealed``     the format of one file. Pure.
``cuts``       a snapshot of an installation: the last sealed entry of every stream, and the state of every group.
``checking``   verify an archive, and compare it with Redis.
``restoring``  restore an archive into an empty server.
``store``      store the files in a folder, or at a URL that fsspec supports.
``location``   find the archive of an installation.
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
    stream_entries,
)
from shared.archive.sealed import CorruptError
from shared.archive.store import SegmentStore, StoreError, open_store

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
    "open_store",
    "records",
    "stream_entries",
]
