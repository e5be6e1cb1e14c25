"""What the observatory and the process that computes something for it say to each other, as lines of JSON."""

from msgspec import Struct

from shared.audit.proof_checks import ProofCheck
from shared.audit.whatif import Changes, WhatifResult
from shared.money.recorded import MoneyReport
from shared.settings import Settings


class WhatifWork(Struct, frozen=True, tag="whatif"):
    """A what-if. ``since`` and ``until``: only rounds decided between these times (ms, 0: no limit)."""

    changes: Changes
    since: int = 0
    until: int = 0


class ProofWork(Struct, frozen=True, tag="proof"):
    """The proof pack of a version, to be written into ``folder``."""

    version: int
    folder: str


class MoneyWork(Struct, frozen=True, tag="money"):
    """What ``conclave money`` shows: the money of every line, in all and by symbol."""


class ComputeRequest(Struct, frozen=True):
    """What is to be computed. ``now``: the server's time (ms). ``archive``: read only these sealed files; empty: the
    server too. ``parent``: the pid of the process that asks."""

    settings: Settings
    work: WhatifWork | ProofWork | MoneyWork
    now: int
    parent: int
    archive: str = ""


class ComputeProgress(Struct, frozen=True, tag="progress"):
    """How far it is: what is read of a partition, entries read in all, and the share of the stage."""

    stage: str
    partition: int
    entries: int
    share: float


class WhatifComputed(Struct, frozen=True, tag="result"):
    """The comparison."""

    result: WhatifResult


class PackWritten(Struct, frozen=True, tag="pack"):
    """A proof pack was written, as two files in the folder that the request names: ``pack_name(version)`` with the
    suffixes ``.json`` and ``.html``. ``size``: bytes of the first. ``checks``: what ``conclave proof check`` finds,
    without the signature, which the pack does not have."""

    version: int
    size: int
    checks: tuple[ProofCheck, ...]


class MoneyCounted(Struct, frozen=True, tag="money"):
    """The money."""

    report: MoneyReport


class ComputeFailed(Struct, frozen=True, tag="failed"):
    """Why there is no result."""

    reason: str


ComputeLine = ComputeProgress | WhatifComputed | PackWritten | MoneyCounted | ComputeFailed
