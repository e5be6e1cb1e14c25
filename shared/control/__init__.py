"""The configuration as a fold of the control log.

``fold`` applies one entry; ``decide`` says whether a command would be accepted. Both are pure and deterministic, so
every service, the console and a replay compute the same configuration for each version. The check and the effect of
each command are in ``shared.control.apply``.

The log is a hash chain: an entry carries the head before it, and the head after it is the SHA-256 of the entry's
canonical bytes. A decision that records version and head therefore pins the whole history. Once a key is trusted,
entries are signed, and the fold checks which key may issue which command.

``fold`` raises ``ControlError`` for an entry that does not count. ``ControlReader`` decides whether reading goes on
after such an entry.
"""

from shared.control.apply import decide
from shared.control.apply.approval import effect_of
from shared.control.apply.keys import may
from shared.control.chain import canonical, fold, head_of, propose, unauthorised
from shared.control.differences import differences
from shared.control.reader import ControlReader, RefusedEntry, following
from shared.control.state import (
    EMPTY,
    GENESIS,
    ControlError,
    Issuer,
    Model,
    Past,
    Probation,
    Proposal,
    Rejected,
    Repeated,
    State,
    short,
)

__all__ = [
    "EMPTY",
    "GENESIS",
    "ControlError",
    "ControlReader",
    "Issuer",
    "Model",
    "Past",
    "Probation",
    "Proposal",
    "RefusedEntry",
    "Rejected",
    "Repeated",
    "State",
    "canonical",
    "decide",
    "differences",
    "effect_of",
    "fold",
    "following",
    "head_of",
    "may",
    "propose",
    "short",
    "unauthorised",
]
