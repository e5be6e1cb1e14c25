"""The ``dead`` and ``alarms`` streams: refused input, and events that a person should know."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

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
    """Input was refused. ``source`` is its location: ``<file>:<line>`` or ``<stream>@<position>``. ``raw`` is the
    input, cut at 2,000 characters; bytes are in hexadecimal."""

    service: str
    source: Text
    reason: Refusal
    detail: Text
    raw: Text


class DeadLetterRetried(Struct, frozen=True, tag="dead.retried"):
    """The entry of a dead letter was appended to its stream again. ``letter`` is the event id of the dead letter,
    ``source`` is the place of the refused entry, and ``entry`` is the id under which it was appended. ``actor`` and
    ``reason`` say who wanted it, and why."""

    letter: EventHex
    source: Text
    entry: str
    actor: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[Text, Meta(min_length=1)]
    at: Milliseconds


DeadEvent = DeadLetter | DeadLetterRetried


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
    """A process took over a consumer group. Commits of the former owner are refused from here on."""

    group: str
    former: str
    owner: str
    epoch: int
    at: Milliseconds


class ControlRefused(Struct, frozen=True, omit_defaults=True, tag="control.refused"):
    """An entry of the control stream was not applied, since it was not written by a control writer. ``entry`` is its
    id on the stream. ``version`` and ``head`` identify the configuration that stays in force. ``reason`` says what is
    wrong with the entry. ``raw`` are its bytes as far as they are text, cut at 2,000 characters. There is no time and
    no group, so that every service raises the same event.

    If many entries were refused, one event covers several: ``more`` is how many others followed ``entry``, and
    ``until`` is the id of the last of them. Left out, it covers one entry."""

    entry: str
    version: int
    head: str
    reason: Text
    raw: Text
    more: int | None = None
    until: str | None = None


class InterferenceFound(Struct, frozen=True, tag="interference.found"):
    """A decision with shadow ballots does not follow from its counted ballots alone. This must never happen: halt, and
    compare the voter's code with the code that wrote the decision."""

    decision: EventHex
    control_version: int
    detail: Text


class ArchiveFailed(Struct, frozen=True, tag="archive.failed"):
    """The archive has a fault, so nothing is trimmed: ``disk_full``, ``unreachable`` (it or its copy cannot be read or
    written), ``lost`` (a file is missing), ``corrupt`` (a file differs from its digest), or ``behind`` (the streams on
    the server end before the last archived entry). Raised once for a fault, not at every attempt."""

    reason: Literal["disk_full", "unreachable", "lost", "corrupt", "behind"]
    detail: Text
    at: Milliseconds


class LogTruncated(Struct, frozen=True, tag="log.truncated"):
    """The log lost its tail (a power failure, a failover to a replica that lagged), or was rewritten. ``group`` had
    read ``stream`` up to ``expected``, which is no longer there with that content; the stream ends at ``last``. If the
    group had written the stream, ``expected`` is 0-0, and ``last`` is its last event that is left. Raised before
    anything is written after the loss. If ``stream`` is ``control``, no intent is issued until an operator accepts the
    loss or restores the lost commands (``conclave recover``)."""

    group: str
    stream: str
    expected: str
    last: str
    detail: Text
    at: Milliseconds


class ClockApart(Struct, frozen=True, tag="clock.apart"):
    """The clock of a process of ``group`` on ``host`` is ``apart_ms`` ahead of the server's clock (slow, if
    negative). Nothing is decided by it. Raised once, until ``ClockAgrees``. ``at`` is the server's time."""

    group: str
    host: str
    apart_ms: int
    at: Milliseconds


class ClockAgrees(Struct, frozen=True, tag="clock.agrees"):
    """The clock of a process agrees with the server's again."""

    group: str
    host: str
    at: Milliseconds


class ClockStepped(Struct, frozen=True, tag="clock.stepped"):
    """The server's clock was set by ``by_ms`` (back, if negative). After a step back entry ids do not advance until
    the clock has caught up, and an intent is taken to be younger than it is. After a step forward intents may be taken
    for too old. Rounds close in time in both cases. ``at`` is the server's time after the step."""

    group: str
    by_ms: int
    detail: Text
    at: Milliseconds


class StorageFailed(Struct, frozen=True, tag="storage.failed"):
    """A process of ``group`` on ``host`` could not write ``file``, which is no part of the log, and goes on without it.
    Raised once, until ``StorageRecovered``."""

    group: str
    host: str
    file: Text
    detail: Text
    at: Milliseconds


class StorageRecovered(Struct, frozen=True, tag="storage.recovered"):
    """A file that could not be written is written again."""

    group: str
    host: str
    file: Text
    at: Milliseconds


class PhoneSilent(Struct, frozen=True, tag="phone.silent"):
    """The bot for a phone on ``host`` has had no answer from its chat server since ``began``, so no one can halt by
    phone. Written once, when it has lasted for two minutes; ``PhoneAnswers`` follows when it is over. ``detail`` is the
    last error. ``at`` is the server's time."""

    host: str
    began: Milliseconds
    detail: Text
    at: Milliseconds


class PhoneAnswers(Struct, frozen=True, tag="phone.answers"):
    """The chat server answers the bot for a phone again."""

    host: str
    at: Milliseconds


AlarmEvent = (
    GapDetected
    | GroupRecreated
    | OwnerReplaced
    | ControlRefused
    | InterferenceFound
    | ArchiveFailed
    | LogTruncated
    | ClockApart
    | ClockAgrees
    | ClockStepped
    | StorageFailed
    | StorageRecovered
    | PhoneSilent
    | PhoneAnswers
)
