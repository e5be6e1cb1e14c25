"""The ``dead`` and ``alarms`` streams: what was refused, and what a person should know."""

from typing import Literal

from msgspec import Struct

from schemas.common import EventHex, Milliseconds, Text

Refusal = Literal[
    "unreadable",
    "impossible_prices",
    "negative_volume",
    "not_finite",
    "duplicate",
    "conflict",
    "out_of_order",
    "off_grid",
    "bad_row",
    "handler_failed",
]


class DeadLetter(Struct, frozen=True, tag="dead.letter"):
    """Input that was refused. ``source`` says where it stood: ``<file>:<line>`` or
    ``<stream>@<position>``. ``raw`` is the input, cut at 2,000 characters, bytes as hexadecimal."""

    service: str
    source: Text
    reason: Refusal
    detail: Text
    raw: Text


DeadEvent = DeadLetter


class GapDetected(Struct, frozen=True, tag="gap.detected"):
    """Entries were trimmed before ``group`` had read them. The service stops with exit code 1."""

    group: str
    stream: str
    committed: str
    oldest: str
    at: Milliseconds


class GroupRecreated(Struct, frozen=True, tag="group.recreated"):
    """A consumer group was missing and was created again at the durable position."""

    group: str
    stream: str
    position: str
    at: Milliseconds


class OwnerReplaced(Struct, frozen=True, tag="owner.replaced"):
    """A process took a group over from another, whose commits are refused from here on."""

    group: str
    former: str
    owner: str
    epoch: int
    at: Milliseconds


class ControlRefused(Struct, frozen=True, tag="control.refused"):
    """An entry of the control stream was not applied: it was written past the door. ``entry`` is its
    id on the stream, ``version`` and ``head`` what stays in force, ``reason`` what is wrong with it,
    ``raw`` its bytes as far as they are text, cut at 2,000 characters. It carries no time and no group,
    so that whoever raises it raises the same event."""

    entry: str
    version: int
    head: str
    reason: Text
    raw: Text


class InterferenceFound(Struct, frozen=True, tag="interference.found"):
    """A decision with shadow ballots that does not follow from its counted ballots alone. It must not
    exist: halt, and compare the voter's code with the one that wrote the decision."""

    decision: EventHex
    control_version: int
    detail: Text


class ArchiveFailed(Struct, frozen=True, tag="archive.failed"):
    """Something is wrong with the archive, so nothing is trimmed: ``disk_full``, ``unreachable`` (it or its copy
    cannot be read or written), ``lost`` (a file is missing), ``corrupt`` (a file differs from its digest), or
    ``behind`` (the server ends before what was sealed). Raised once, not every round."""

    reason: Literal["disk_full", "unreachable", "lost", "corrupt", "behind"]
    detail: Text
    at: Milliseconds


class LogTruncated(Struct, frozen=True, tag="log.truncated"):
    """The log is not the one that was read: its tail was lost (a power failure, a failover to a replica that lagged),
    or it was rewritten. ``group`` had read ``stream`` up to ``expected``, which is no longer there with that content;
    the stream ends at ``last``. Found before anything was written on top of it; no intent is issued until an operator
    accepts the loss or brings the lost commands back (``conclave recover``)."""

    group: str
    stream: str
    expected: str
    last: str
    detail: Text
    at: Milliseconds


AlarmEvent = (
    GapDetected | GroupRecreated | OwnerReplaced | ControlRefused | InterferenceFound | ArchiveFailed | LogTruncated
)
