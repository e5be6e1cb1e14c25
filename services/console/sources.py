"""The options that choose the source of bars."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from services.console.parsing import COUNT, POSITIVE
from shared.bars import BarSource, FileSource, RefusedRow, Row, Series
from shared.bars.amount import estimated_rows
from shared.bars.columns import Stated, stated_columns
from shared.bars.feeds import MARK, open_bars
from shared.bars.input_source import InputSource, open_inputs
from shared.bars.names import interval_text, parse_interval
from shared.bars.times import parse_zone
from shared.synthetic import SCENARIOS, SYMBOLS, SyntheticMarket

F = TypeVar("F", bound=Callable[..., Any])


class _Address(click.Path):
    """A path that exists, or the address (``NAME://...``) of an installed feed."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an address unchanged, anything else as a ``Path``."""
        return value if isinstance(value, str) and MARK in value else super().convert(value, param, ctx)


STATED: Final = (
    click.option("--zone", help="Time zone of times that have none, such as +03:00 or Europe/Athens (default: UTC)."),
    click.option(
        "--columns",
        multiple=True,
        help="Which column is what, such as time=Date+Time,volume=7: names, or numbers from 1. Default: as recognised.",
    ),
    click.option("--interval", help="Bar length, such as 15m, of files that do not contain it."),
    click.option("--symbol", help="Symbol of files that do not contain it."),
)
"""Options by which a person states what files leave open."""


INPUTS: Final = click.option(
    "--inputs",
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder of inputs for the bars: funding rates, open interest, mark and index prices, book.",
)


def inputs_of(options: Mapping[str, Any]) -> InputSource | None:
    """Return the inputs that the options name. Raises ``SourceError``."""
    return None if options["inputs"] is None else open_inputs(options["inputs"])


def stated(options: Mapping[str, Any]) -> Stated:
    """Return what the options state about files. Raises ``SourceError``."""
    return Stated(
        options["symbol"],
        parse_interval(options["interval"]) if options["interval"] else None,
        stated_columns(options["columns"]),
        parse_zone(options["zone"]) if options["zone"] else None,
    )


def BARS_OPTIONS(command: F) -> F:  # noqa: N802  # reads as options
    """Add the options ``--bars`` and ``--synthetic``, and those that complete them."""
    for option in (
        click.option(
            "--source-seed",
            type=COUNT,
            default=1,
            show_default=True,
            help="Seed of the synthetic market.",
        ),
        click.option(
            "--count",
            type=POSITIVE,
            default=20_000,
            show_default=True,
            help="Synthetic bars of each symbol.",
        ),
        click.option(
            "--symbols",
            type=POSITIVE,
            default=4,
            show_default=True,
            help="Number of symbols of the synthetic market.",
        ),
        click.option("--synthetic", type=click.Choice(sorted(SCENARIOS)), help="A synthetic market of this scenario."),
        click.option("--only", help="Use only bars of this length, such as 15m, if the source has several."),
        INPUTS,
        *STATED,
        click.option("--bars", type=_Address(), help="A file or folder of bars, or NAME://... for an installed feed."),
    ):
        command = option(command)
    return command


def chosen_source(options: Mapping[str, Any]) -> tuple[BarSource, str]:
    """Return the source that the options choose and its name: the synthetic market if they choose none."""
    if options["bars"] is not None and options["synthetic"] is not None:
        raise click.UsageError("--bars and --synthetic exclude each other")
    if options["bars"] is not None:
        source = open_bars(options["bars"], **stated(options)._asdict())
        if options["only"]:
            source = Only(source, parse_interval(options["only"]))
        return source, source.name
    market = SyntheticMarket(
        symbol_names(options["symbols"]),
        options["synthetic"] or "sequence",
        options["source_seed"],
        options["count"],
    )
    return market, market.name


def symbol_names(count: int) -> tuple[str, ...]:
    """Return the first ``count`` symbols of the synthetic market, extended by ``SYN000USDT`` and so on."""
    return tuple([*SYMBOLS, *(f"SYN{number:03}USDT" for number in range(count))][:count])


@dataclass(frozen=True)
class Only:
    """The bars of one length in a source that has several, and every refused row."""

    source: BarSource
    interval_ms: int

    @property
    def name(self) -> str:
        """The name of the source and the bar length."""
        return f"{self.source.name}, {interval_text(self.interval_ms)}"

    @property
    def identity(self) -> str:
        """The identity of the source, made distinct by the bar length."""
        return f"{self.source.identity}@{self.interval_ms}"

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """Yield the rows (see ``BarSource.rows``). Bars of other lengths are left out and not counted."""
        chosen = (
            row for row in self.source.rows() if isinstance(row, RefusedRow) or row.bar.interval_ms == self.interval_ms
        )
        return islice(chosen, skip, None)


@dataclass(frozen=True)
class Part:
    """The rows of a source after the first ``skip``, at most ``limit`` (None: all). Parts that start at the same row
    have the same identity, so a longer part continues where a shorter one ended."""

    source: BarSource
    skip: int = 0
    limit: int | None = None

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.source.name

    @property
    def identity(self) -> str:
        """The identity of the source, made distinct by the first row of the part."""
        return f"{self.source.identity}+{self.skip}" if self.skip else self.source.identity

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """Yield the rows of the part (see ``BarSource.rows``)."""
        left = None if self.limit is None else max(self.limit - skip, 0)
        return islice(self.source.rows(self.skip + skip), left)


def series_of(source: BarSource) -> tuple[Series, ...]:
    """Return the series of a source, as far as they are known before its rows are read."""
    match source:
        case Part():
            return series_of(source.source)
        case Only():
            return tuple(series for series in series_of(source.source) if series[1] == source.interval_ms)
        case FileSource():
            return source.series
        case _:
            return ()


def expected_rows(source: BarSource) -> int | None:
    """Return about how many rows a source has; None if that is not known without reading it."""
    match source:
        case Part(source=inner, skip=skip, limit=limit):
            rows = expected_rows(inner)
            left = None if rows is None else max(rows - skip, 0)
            return left if limit is None or left is None else min(left, limit)
        case Only(source=inner):
            return expected_rows(inner)
        case SyntheticMarket():
            return None if source.bars is None else source.bars * len(source.symbols)
        case _:
            return estimated_rows(source)
