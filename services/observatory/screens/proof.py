"""The proof pack of a promotion: how far it is, what its checker finds, and where its files are. Pure."""

from typing import Final

from msgspec import Struct

from services.observatory.computing import AskedPack, Computation, Computations
from shared.audit.computing import ComputeProgress, PackWritten
from shared.audit.configurations import Configurations
from shared.audit.proof_checks import PROMOTION
from shared.audit.proof_subject import provable

MAKE: Final = "conclave proof make {} --key KEY.pem"
SIGN: Final = "conclave proof sign {}.json --key KEY.pem"


class ProofCheckShown(Struct, frozen=True):
    """A claim of a pack, whether it holds, and what was found. ``against``: it holds, and speaks against the
    promotion."""

    what: str
    good: bool
    found: str
    against: bool


class ProofScreen(Struct, frozen=True):
    """The proof pack of a version. ``state``: none, waiting, running, done, failed or cancelled. ``size``: bytes of the
    JSON file. ``signed`` is never true: this server holds no key of a person. ``sign``: the command that signs
    the file, and ``make``: the one that writes the same pack signed. ``busy``: something else is
    computed."""

    version: int
    name: str
    state: str
    began: int
    ended: int
    reason: str
    progress: ComputeProgress | None
    size: int
    checks: tuple[ProofCheckShown, ...]
    signed: bool
    sign: str
    make: str
    busy: bool


def screen(configurations: Configurations, version: int, computations: Computations) -> ProofScreen | None:
    """Return the screen; None if this version is no promotion."""
    if not 1 <= version <= len(configurations.envelopes) or provable(configurations, version) != (version,):
        return None
    asked = AskedPack(version)
    pack = computations.find(asked.name) or Computation(asked, 0, state="none")
    written = pack.result if isinstance(pack.result, PackWritten) else None
    running = computations.running
    return ProofScreen(
        version=version,
        name=asked.name,
        state=pack.state,
        began=pack.began,
        ended=pack.ended,
        reason=pack.reason,
        progress=pack.progress,
        size=written.size if written is not None else 0,
        checks=tuple(
            ProofCheckShown(one.what, one.good, one.detail, one.what == PROMOTION)
            for one in (written.checks if written is not None else ())
        ),
        signed=False,
        sign=SIGN.format(asked.name),
        make=MAKE.format(version),
        busy=running is not None and running is not pack,
    )
