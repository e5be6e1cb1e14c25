"""Show what ``conclave bars check`` found, for a terminal and as JSON."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from services.console.output import printable
from shared.bars.checking import Gap, SeriesCheck, SourceCheck
from shared.bars.input_checking import InputsCheck
from shared.bars.names import interval_text
from shared.bars.rows import LeftOut

NAMED: Final = 5
"""Gaps that are shown of each series."""
INDENT: Final = "  "
LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999, after which a time has no date."""


def moments(time_ms: int) -> str:
    """Return a time as text in UTC, to the minute, or to the second if it has seconds."""
    if time_ms > LAST_MS:
        return f"{time_ms} ms since 1970"
    time = datetime.fromtimestamp(time_ms / 1000, UTC)
    return time.strftime("%Y-%m-%d %H:%M" if time.second == 0 else "%Y-%m-%d %H:%M:%S")


def gap_text(gap: Gap) -> str:
    """Return the missing bars of a gap as text."""
    until = f" to {moments(gap.last)}" if gap.bars > 1 else ""
    return f"{moments(gap.first)}{until} ({gap.bars:,} {'bars' if gap.bars > 1 else 'bar'})"


def show(console: Console, path: str, found: SourceCheck, inputs: InputsCheck | None = None) -> None:
    """Print what was found of a source, and of its inputs."""
    for file in found.files:
        units = ", ".join(f"{unit} ({count:,} rows)" for unit, count in file.units.most_common()) or "no times"
        _line(console, f"{file.name}: {file.program}; times in {units}")
    for series in found.series.values():
        console.print()
        for line in _series_lines(series, max(20, min(console.width, 80) - 2 * len(INDENT))):
            _line(console, line)
    if not found.series:
        _line(console, "no bars")
    _show_left_out(console, found.left_out)
    if inputs is not None:
        _show_inputs(console, inputs)
    console.print()
    clean = found.clean and (inputs is None or inputs.clean)
    _line(console, f"{path}: {'nothing to note' if clean else 'see above'}")


def _show_left_out(console: Console, left_out: LeftOut) -> None:
    if not left_out.counts:
        return
    console.print()
    _line(console, f"rows that would be left out: {left_out.counts.total():,}")
    for reason, count, first in left_out.reasons():
        words = f"{reason} ({MEANING[reason]})" if reason in MEANING else reason
        _line(console, f"{INDENT}{count:,} {words}, first at {first.where}: {first.detail}")


def _show_inputs(console: Console, inputs: InputsCheck) -> None:
    console.print()
    for program, files in Counter(program for _, program in inputs.files).items():
        _line(console, f"inputs: {files:,} {'files' if files > 1 else 'file'} of {program}")
    for each in inputs.series:
        console.print()
        _line(console, f"{each.symbol}, {each.kind}: {each.samples:,} samples")
        apart = interval_text(each.longest_ms // 1000 * 1000) if each.longest_ms >= 1000 else f"{each.longest_ms}ms"
        _line(console, f"{INDENT}{moments(each.first)} to {moments(each.last)} UTC, at most {apart} apart")
        if each.repeated:
            _line(console, f"{INDENT}samples of one time, of which the first counts: {each.repeated:,}")
    if inputs.unused:
        console.print()
        names = ", ".join(inputs.unused[:NAMED]) + (" and others" if len(inputs.unused) > NAMED else "")
        _line(console, f"inputs of symbols without bars, which nothing reads: {names}")
    _show_left_out(console, inputs.left_out)


MEANING: Final = {
    "duplicate": "a bar again, the same",
    "conflict": "a bar again, revised",
    "off_grid": "opens off the grid of its interval",
    "out_of_order": "older than a bar before it",
}


def _series_lines(series: SeriesCheck, width: int) -> Iterator[str]:
    yield f"{series.symbol}, {interval_text(series.interval_ms)}: {series.bars:,} bars"
    if series.newest is None:
        return
    yield f"{INDENT}{moments(series.times[0])} to {moments(series.newest.open_time)} UTC (open times)"
    yield f"{INDENT}{series.picture(width)}"
    yield f"{INDENT}close {min(series.closes):.10g} to {max(series.closes):.10g}, last {series.closes[-1]:.10g}"
    if series.gaps:
        yield f"{INDENT}gaps: {series.gaps:,}, bars missing: {series.missing:,}"
        yield from (f"{INDENT * 2}{gap_text(gap)}" for gap in series.first_gaps[:NAMED])
        if series.gaps > NAMED:
            yield f"{INDENT * 2}and {series.gaps - NAMED:,} more (-o json has them)"
    if series.future:
        yield f"{INDENT}bars that end in the future: {series.future:,}"


def as_json(path: str, found: SourceCheck, inputs: InputsCheck | None = None) -> dict[str, Any]:
    """Return what was found of a source as ``-o json`` prints it. Times are in ms since 1970."""
    return {
        "path": path,
        "clean": found.clean,
        "files": [{"name": file.name, "format": file.program, "times": file.units} for file in found.files],
        "series": [
            {
                "symbol": series.symbol,
                "interval": interval_text(series.interval_ms),
                "bars": series.bars,
                "first": series.times[0] if series.times else None,
                "last": series.times[-1] if series.times else None,
                "gaps": series.gaps,
                "missing": series.missing,
                "first_gaps": [gap._asdict() for gap in series.first_gaps],
                "future": series.future,
            }
            for series in found.series.values()
        ],
        "left_out": _left_out(found.left_out),
        **({} if inputs is None else {"inputs": _inputs(inputs)}),
    }


def _inputs(inputs: InputsCheck) -> dict[str, Any]:
    return {
        "clean": inputs.clean,
        "files": [{"name": name, "format": program} for name, program in inputs.files],
        "series": [asdict(each) for each in inputs.series],
        "unused": list(inputs.unused),
        "left_out": _left_out(inputs.left_out),
    }


def _left_out(left_out: LeftOut) -> dict[str, Any]:
    return {
        reason: {"count": count, "where": first.where, "detail": first.detail}
        for reason, count, first in left_out.reasons()
    }


def _line(console: Console, text: str) -> None:
    console.print(Text(printable(text)))
