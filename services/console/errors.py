"""The errors that are shown as a message, and their exit codes. Any other error is a bug and shows its traceback.

What the server answers, by what helps (``shared.log.connection`` sorts it):

| answer | error | command | service |
|---|---|---|---|
| no or a wrong password, no permission, no such database, an unknown command | ``ServerError`` | 2 | 2 |
| memory or disk full, read-only, too few replicas | ``UnavailableError`` | 2 | 75 |
| none, or not in time | ``UnavailableError`` | 2 | 75 |
| its last writes are lost | ``TruncatedLogError`` | 2 | 75 |
| loading, busy, no connection left, another role, a slot that is being moved | ``PassingError`` | 75 | 75 |

2: a person must change something, and its supervisor tries a service again after longer and longer delays. 75: it may
succeed at any moment. A service is then needed at once, and its supervisor starts it soon.
"""

import errno
import os
from typing import Final

from schemas.codec import UnwritableError
from services.console.context import TRY_AGAIN
from services.console.control.issuing import NoDecisionError, OtherLogError, PassedError
from shared.archive import CorruptError, LostError, StoreError
from shared.artifacts import ArtifactError, ManifestError
from shared.bars import SourceError
from shared.control import ControlError
from shared.control.fence import FenceError
from shared.control.issuing import RefusedError
from shared.control.signing import KeyFileError
from shared.families.libraries import LibraryMissingError
from shared.importing.comparing import DiffersError
from shared.importing.layouts import LayoutError
from shared.importing.reading import SourceFileError
from shared.log import OwnedError, PassingError, SupersededError, TruncatedLogError, UnavailableError
from shared.log.admin import NotEmptyError
from shared.log.connection import ServerError
from shared.log.durability import UnfitServerError
from shared.log.topology import WrongAddressError
from shared.plugins import PluginError
from shared.report.drawing import ChartsMissingError
from shared.runtime.losses import GapError
from shared.runtime.process import InstallationError
from shared.runtime.startup import LostGroupError
from shared.server.embedded import EmbeddedError
from shared.settings import SettingsError
from shared.telemetry import MissingExporterError
from shared.training.fitting import NotStoredError
from shared.training.splits import SplitError

CODES: Final[dict[type[Exception], int]] = {
    PassingError: TRY_AGAIN,  # before UnavailableError, of which it is one
    NoDecisionError: 3,
    RefusedError: 1,
    OtherLogError: 1,
    PassedError: 1,
    NotStoredError: 1,
    CorruptError: 1,
    LostError: 1,
    StoreError: 2,
    NotEmptyError: 2,
    ArtifactError: 2,
    ChartsMissingError: 2,
    ControlError: 2,
    DiffersError: 1,
    EmbeddedError: 2,
    FenceError: 2,
    SupersededError: 2,
    GapError: 2,
    InstallationError: 2,
    KeyFileError: 2,
    LostGroupError: 2,
    LayoutError: 2,
    LibraryMissingError: 2,
    ManifestError: 2,
    MissingExporterError: 2,
    OwnedError: 2,
    PluginError: 2,
    ServerError: 2,
    SettingsError: 2,
    SourceError: 2,
    SourceFileError: 2,
    SplitError: 2,
    TruncatedLogError: 2,
    UnavailableError: 2,
    UnfitServerError: 2,
    UnwritableError: 2,
    WrongAddressError: 2,
}

_ROOM: Final = "Make room where the installation has its state (state in [installation]) and where this command writes"


def message(error: BaseException) -> str:
    """Return what is shown of an error. Of an event that cannot be written, because of a word that was given, only the
    field and what is expected of it; of a file, its name and what the system answered."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        names = [os.fsdecode(each) for each in (error.filename, error.filename2) if each is not None]
        said = ": ".join(filter(None, (" and ".join(names), error.strerror)))
        return f"{said}. {_ROOM}" if error.errno in {errno.ENOSPC, errno.EDQUOT} else said
    return str(error).partition("; event: ")[0] if isinstance(error, UnwritableError) else str(error)


def exit_code(error: BaseException) -> int | None:
    """Return the exit code of an error that is shown as a message; None for a bug. What the system answers about a file
    or a connection is none: a full disk, a name that is too long, a folder in place of a file."""
    if isinstance(error, OSError) and error.errno is not None:
        return 2
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
