"""Parse times and time zones. Text is ISO 8601, or what programs write in its place: ``2021.01.04``, ``20210104``."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from shared.bars.rows import SourceError

EARLIEST_S: Final = 10**8
"""1973-03-03, in seconds. From here on the size of a whole number shows its unit; an earlier time is refused."""
UNITS: Final = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 2**63}
"""The units of whole numbers, each with the first number that is too large for it."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_YEAR_FIRST: Final = re.compile(r"(\d{4})([./])(\d{2})\2(\d{2})(?!\d)")
_CALENDAR: Final = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])(?:[0-5]\d){0,2}")
_OFFSET: Final = re.compile(r"(?:UTC)?([+-])(\d{1,2})(?::?(\d{2}))?")
EARLY: Final = "times before 1973-03-03 are not read"
DATE: Final = len("20210104")
NO_DATE: Final = "has eight digits, and is no date"


def unit_of(number: int) -> str | None:
    """Return the unit of a whole number by its size: s, ms, us or ns; None if it is too small for a time."""
    if number < EARLIEST_S:
        return None
    return next((unit for unit, end in UNITS.items() if number < end), None)


def whole(text: str) -> bool:
    """Return whether a text is a whole number without a sign."""
    return text.isascii() and text.isdecimal()


def moment(text: str, zone: tzinfo | None = None) -> int:
    """Return a time as a number since 1970: a whole number as it is, text in microseconds.

    A whole number of eight digits is a date. Text without a zone is in ``zone``, or else in UTC. Raises ``ValueError``,
    also for an hour that a zone has twice or not at all."""
    if whole(text.removeprefix("-")) and len(text) != DATE:
        if int(text) < EARLIEST_S:
            raise ValueError(f"{text[:50]!r} is not a time: {EARLY}, and whole numbers count from 1970 on")
        return int(text)
    if _is_whole_float(text):
        return moment(str(int(float(text))), zone)
    try:
        time = datetime.fromisoformat(_as_iso(text))
    except ValueError:
        if whole(text):
            raise ValueError(f"{text!r} {NO_DATE}") from None
        raise ValueError(f"{text[:50]!r} is not a time: expected a whole number or ISO 8601") from None
    return since_1970(time, zone)


def joined(date: str, clock: str, zone: tzinfo | None = None) -> int:
    """Return the time of a date and a time of day, in microseconds since 1970. Raises ``ValueError``."""
    try:
        if clock and not (":" in date or _is_whole_float(date)):
            return since_1970(datetime.fromisoformat(f"{_as_iso(date)}T{clock}"), zone)
    except ValueError as error:
        if EARLY in str(error) or "clocks" in str(error):
            raise
    raise ValueError(f"{date[:50]!r} and {clock[:50]!r} are not a date and a time of day in ISO 8601")


def since_1970(time: datetime, zone: tzinfo | None = None) -> int:
    """Return a time in microseconds since 1970. See ``moment``."""
    if time.tzinfo is None:
        if zone is not None and time.replace(tzinfo=zone).utcoffset() != time.replace(tzinfo=zone, fold=1).utcoffset():
            raise ValueError(f"{time} is twice or not at all in {zone}, since its clocks are changed then")
        time = time.replace(tzinfo=zone or UTC)
    number = (time - _EPOCH) // _MICROSECOND
    if number < EARLIEST_S * 10**6:
        raise ValueError(f"{time} is refused: {EARLY}")
    return number


def has_zone(text: str) -> bool:
    """Return whether a time needs no zone: it is a whole number, or it has one."""
    if whole(text) and len(text) != DATE:
        return True
    try:
        return datetime.fromisoformat(_as_iso(text)).tzinfo is not None
    except ValueError:
        return False


def written_as_calendar(numbers: list[int]) -> str | None:
    """Return a number that is a date written in digits (``202101041200``), if all of them may be; otherwise None.

    As a count since 1970 it would be another time, which nothing else in a file would show."""
    texts = [str(number) for number in numbers]
    if texts and len({len(text) for text in texts}) == 1 and all(map(_CALENDAR.fullmatch, texts)):
        return texts[0]
    return None


def parse_zone(text: str) -> tzinfo:
    """Return a time zone by its name or its offset: ``UTC``, ``+03:00``, ``Europe/Athens``. Raises ``SourceError``."""
    offset = _OFFSET.fullmatch(text)
    if text.upper() in {"UTC", "Z", "GMT"}:
        return UTC
    if offset is not None and int(offset[2]) < 24 and int(offset[3] or 0) < 60:
        length = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(-length if offset[1] == "-" else length)
    try:
        return ZoneInfo(text)
    except (LookupError, ValueError, OSError):
        raise SourceError(f"{text[:50]!r} is no time zone: expected such as UTC, +03:00 or Europe/Athens") from None


def _as_iso(text: str) -> str:
    text = _YEAR_FIRST.sub(r"\1-\3-\4", text, count=1)
    return f"{text.removesuffix(' UTC')}+00:00" if text.endswith(" UTC") else text


def _is_whole_float(text: str) -> bool:
    """Return whether a text such as ``1381017600.0`` or ``1.38e9`` is a whole number of at least eight digits, and not
    simply a date in eight digits."""
    if whole(text) and len(text) == DATE:
        return False
    try:
        return text.isascii() and "_" not in text and float(text).is_integer() and float(text) >= 10 ** (DATE - 1)
    except (ValueError, OverflowError):
        return False
