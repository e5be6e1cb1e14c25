"""The configuration as a fold: ``decide`` says whether a command may stand, ``fold`` applies it.

Both are pure and deterministic, so every service, the console and a replay agree on every version.
The log is a hash chain: an entry names the head before it, and the head after it is the SHA-256 of
the entry's canonical bytes, so a decision that records (version, head) pins the whole history. Once
a key is trusted, entries are signed, and the fold checks who may issue what.

``fold`` raises ``ControlError`` for an entry that may not stand. What stands on the stream besides
such entries, and when the reader goes on or stops, is ``ControlReader``'s business.
"""

from shared.control.chain import canonical, fold, head_of, propose, unauthorised
from shared.control.decider import TAGS, decide, may
from shared.control.differences import differences
from shared.control.reader import ControlReader, RefusedEntry, following
from shared.control.state import (
    EMPTY,
    GENESIS,
    ControlError,
    Model,
    Past,
    Probation,
    Rejected,
    Repeated,
    State,
    short,
)
from shared.control.weights import SUM_WITHIN

__all__ = [
    "EMPTY",
    "GENESIS",
    "SUM_WITHIN",
    "TAGS",
    "ControlError",
    "ControlReader",
    "Model",
    "Past",
    "Probation",
    "RefusedEntry",
    "Rejected",
    "Repeated",
    "State",
    "canonical",
    "decide",
    "differences",
    "fold",
    "following",
    "head_of",
    "may",
    "propose",
    "short",
    "unauthorised",
]
