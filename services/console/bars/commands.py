"""``conclave bars``: look at files of bars before they are used, merge them, and make longer bars."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.text import Text

from services.console.bars.view import as_json, gap_text, moments, show
from services.console.output import OUTPUT, echo_json, printable, terminal
from services.console.parsing import NewFile
from services.console.progress import watched
from services.console.sources import INPUTS, STATED, inputs_of, stated
from shared.bars import LeftOut, SourceError, open_source
from shared.bars.amount import estimated_rows
from shared.bars.checking import check as check_rows
from shared.bars.checking import counting_units
from shared.bars.input_checking import check_inputs
from shared.bars.merging import MergedBars, refuse_output, rows_of, sources_of, write
from shared.bars.merging import merge as merge_rows
from shared.bars.merging import resample as resample_bars
from shared.bars.names import interval_text, parse_interval
from shared.bars.source import FileSource

F = TypeVar("F", bound=Callable[..., Any])
NAMED: Final = 10
"""Gaps and conflicts that are named, of each series. All are counted."""
OUT: Final = click.option(
    "--out",
    required=True,
    type=NewFile(),
    help="New file: .parquet, .feather, .csv, .csv.gz.",
)


def _stated_options(command: F) -> F:
    for option in STATED:
        command = option(command)
    return command


@click.group()
def bars() -> None:
    """Look at files of bars before they are used, merge them, and make longer bars of shorter ones."""


@bars.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@INPUTS
@_stated_options
@OUTPUT
@click.pass_context
def check(context: click.Context, /, path: Path, output: str, **options: Any) -> None:
    """Show what would be read of a file or folder: series, range, units of time, gaps, and rows that are left out; the
    same of inputs.

    Nothing is written. Exit code 0 there is nothing to note, 1 something was found, 2 it cannot be read."""
    source = open_source(path, **stated(options)._asdict())
    counted, files = counting_units(source)
    with watched(counted, f"reading {source.name}", "rows", estimated_rows(source), exact=False) as rows:
        found = check_rows(rows, files, int(time.time() * 1000))
    source_of_inputs = inputs_of(options)
    symbols = {symbol for symbol, _ in found.series}
    inputs = None if source_of_inputs is None else check_inputs(source_of_inputs, symbols)
    if output == "json":
        echo_json(as_json(str(path), found, inputs))
    else:
        show(terminal(), str(path), found, inputs)
    context.exit(0 if found.clean and (inputs is None or inputs.clean) else 1)


@bars.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@OUT
@_stated_options
@OUTPUT
@click.pass_context
def merge(context: click.Context, /, paths: Sequence[Path], out: Path, output: str, **options: Any) -> None:
    """Put files of bars together into a new one, in the order of time. Rows may be in any order.

    A row that only repeats a bar is left out and counted. If two rows have one bar with other content, they are named
    and nothing is written. Exit code 0 it is written, 1 there are such rows, 2 it cannot be read or written."""
    refuse_output(out)
    series = _merged(sources_of(paths, stated(options)), output)
    if any(bars.conflicts for bars in series):
        _say_conflicts(series, output)
        context.exit(1)
    if len({bars.interval_ms for bars in series}) > 1:
        found = ", ".join(f"{bars.symbol} {interval_text(bars.interval_ms)}" for bars in series)
        raise SourceError(f"expected bars of one length, found {found}; merge those of one length at a time")
    _written(out, series, output, [])


@bars.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--to", required=True, metavar="INTERVAL", help="Length of the bars that are made, such as 1h.")
@OUT
@_stated_options
@OUTPUT
@click.pass_context
def resample(context: click.Context, /, path: Path, to: str, out: Path, output: str, **options: Any) -> None:
    """Make longer bars of those in a file or folder, and write them to a new file.

    A bar is made only of all its parts; one with a part missing is named and left out. Exit code 0 it is written,
    1 two rows have one bar with other content, 2 it cannot be read or written."""
    interval_ms = parse_interval(to)
    refuse_output(out)
    series = _merged(sources_of([path], stated(options)), output)
    if any(bars.conflicts for bars in series):
        _say_conflicts(series, output)
        context.exit(1)
    made = [resample_bars(bars, interval_ms) for bars in series]
    incomplete = [
        (each.merged.symbol, opened, f"{found} of {each.parts} bars")
        for each in made
        for opened, found in each.incomplete
    ]
    _written(out, [each.merged for each in made], output, incomplete)


def _merged(sources: Sequence[FileSource], output: str) -> list[MergedBars]:
    """Return the series of all sources, and say what was left out. Raises ``SourceError`` if no bar is left."""
    left_out = LeftOut()
    sizes = [estimated_rows(source) for source in sources]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with watched(rows_of(sources), "reading", "rows", total, exact=False) as rows:
        series = list(merge_rows(rows, left_out).values())
    sentence = left_out.sentence()
    if not series:
        raise SourceError(f"no bar is left. {sentence or 'There are no rows'}")
    repeated = sum(bars.duplicates for bars in series)
    for text in (sentence, f"rows that only repeat a bar, left out: {repeated:,}" if repeated else ""):
        if text:
            click.echo(printable(text), err=True)
    return series


def _say_conflicts(series: Sequence[MergedBars], output: str) -> None:
    conflicts = [conflict for bars in series for conflict in bars.conflicts]
    if output == "json":
        echo_json({"written": None, "conflicts": [conflict._asdict() for conflict in conflicts]})
    for conflict in conflicts[:NAMED]:
        where = f"{conflict.first} and {conflict.second}"
        text = f"{conflict.symbol} {moments(conflict.open_time)}: {where} have one bar with other content"
        click.echo(printable(text), err=True)
    more = f", {len(conflicts) - NAMED:,} of them not shown" if len(conflicts) > NAMED else ""
    click.echo(
        f"conflicts: {len(conflicts):,}{more}; nothing is written. Which row is right cannot be known from the files:"
        " delete the wrong ones, or leave a file out",
        err=True,
    )


def _written(out: Path, series: Sequence[MergedBars], output: str, incomplete: Sequence[tuple[str, int, str]]) -> None:
    """Write the series, and show what was written and what is missing in it."""
    if not any(bars.table.num_rows for bars in series):
        raise SourceError(f"no bar is left to write: of {len(incomplete):,} longer bars each has a part missing")
    write(out, series)
    if output == "json":
        echo_json(
            {
                "written": str(out),
                "series": [
                    {
                        "symbol": bars.symbol,
                        "interval": interval_text(bars.interval_ms),
                        "bars": bars.table.num_rows,
                        "duplicates": bars.duplicates,
                        "gaps": [gap._asdict() for gap in bars.gaps()],
                    }
                    for bars in series
                ],
                "incomplete": [
                    {"symbol": symbol, "open_time": opened, "found": found} for symbol, opened, found in incomplete
                ],
            }
        )
        return
    console = terminal()
    for bars in series:
        gaps = bars.gaps()
        missing = f"; gaps: {len(gaps):,}, bars missing: {sum(gap.bars for gap in gaps):,}" if gaps else ""
        _line(console, f"{bars.symbol}, {interval_text(bars.interval_ms)}: {bars.table.num_rows:,} bars{missing}")
        _some(console, (f"  missing: {gap_text(gap)}" for gap in gaps), len(gaps))
    if incomplete:
        _line(console, f"longer bars left out, since a part of each is missing: {len(incomplete):,}")
        _some(
            console, (f"  {symbol} {moments(opened)}: {found}" for symbol, opened, found in incomplete), len(incomplete)
        )
    _line(console, str(out))


def _some(console: Console, lines: Iterable[str], count: int) -> None:
    for line, _ in zip(lines, range(NAMED), strict=False):
        _line(console, line)
    if count > NAMED:
        _line(console, f"  and {count - NAMED:,} more (-o json has them all)")


def _line(console: Console, text: str) -> None:
    console.print(Text(printable(text)))
