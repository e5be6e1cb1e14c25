"""What the observatory and the process that computes a what-if for it say to each other, as lines of JSON."""

from msgspec import Struct

from shared.audit.whatif import Changes, WhatifResult
from shared.settings import Settings


class RerunRequest(Struct, frozen=True):
    """A what-if. ``since`` and ``until``: only rounds decided between these times (ms, 0: no limit). ``now``: the
    server's time (ms). ``archive``: read only these sealed files; empty: the server too. ``parent``: the pid of the
    process that asks."""

    settings: Settings
    changes: Changes
    since: int
    until: int
    now: int
    parent: int
    archive: str = ""


class RerunProgress(Struct, frozen=True, tag="progress"):
    """How far it is: ``outcomes`` or ``rounds`` of a partition, entries read in all, and the share of the stage."""

    stage: str
    partition: int
    entries: int
    share: float


class RerunResult(Struct, frozen=True, tag="result"):
    """The comparison."""

    result: WhatifResult


class RerunFailed(Struct, frozen=True, tag="failed"):
    """Why there is no result."""

    reason: str


RerunLine = RerunProgress | RerunResult | RerunFailed
