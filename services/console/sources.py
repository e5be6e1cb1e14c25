"""The options by which a person says where bars come from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from shared.bars import BarSource, RefusedRow, Row
from shared.bars.feeds import MARK, open_bars
from shared.bars.names import interval_text, parse_interval
from shared.synthetic import SCENARIOS, SYMBOLS, SyntheticMarket

F = TypeVar("F", bound=Callable[..., Any])


class _Address(click.Path):
    """A path that exists, or an address that a feed opens."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """An address as it stands; what is none as a ``Path``."""
        return value if isinstance(value, str) and MARK in value else super().convert(value, param, ctx)


def BARS_OPTIONS(command: F) -> F:  # noqa: N802  # reads as options
    """``--bars`` or ``--synthetic``, and what they may leave open."""
    for option in (
        click.option("--source-seed", default=1, show_default=True, help="Seed of the synthetic market."),
        click.option("--count", type=int, default=20_000, show_default=True, help="Synthetic bars of each symbol."),
        click.option("--symbols", default=4, show_default=True, help="How many symbols the synthetic market has."),
        click.option("--synthetic", type=click.Choice(sorted(SCENARIOS)), help="A made-up market of this scenario."),
        click.option("--only", help="Of a source with several bar lengths, only this one, as 15m."),
        click.option("--interval", help="Bar length of files that do not say, as 15m."),
        click.option("--symbol", help="Symbol of files that do not say."),
        click.option("--bars", type=_Address(), help="A file or folder of bars, or NAME://... of an installed feed."),
    ):
        command = option(command)
    return command


def chosen_source(options: Mapping[str, Any]) -> tuple[BarSource, str]:
    """The source the options name, and what to call it. The synthetic market where none is named."""
    if options["bars"] is not None and options["synthetic"] is not None:
        raise click.UsageError("--bars and --synthetic exclude each other")
    if options["bars"] is not None:
        interval = parse_interval(options["interval"]) if options["interval"] else None
        source = open_bars(options["bars"], symbol=options["symbol"], interval_ms=interval)
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
    """The first symbols of the synthetic market, made-up ones beyond those it has."""
    return tuple([*SYMBOLS, *(f"SYN{number:03}USDT" for number in range(count))][:count])


@dataclass(frozen=True)
class Only:
    """The bars of one length, and every refused row, of a source that has several."""

    source: BarSource
    interval_ms: int

    @property
    def name(self) -> str:
        """The source's, and the length."""
        return f"{self.source.name}, {interval_text(self.interval_ms)}"

    @property
    def identity(self) -> str:
        """The source's, told apart by the length."""
        return f"{self.source.identity}@{self.interval_ms}"

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """See ``BarSource.rows``; those of other lengths are no rows here."""
        chosen = (
            row for row in self.source.rows() if isinstance(row, RefusedRow) or row.bar.interval_ms == self.interval_ms
        )
        return islice(chosen, skip, None)


@dataclass(frozen=True)
class Part:
    """A source from row ``skip`` on, ``limit`` rows at most (None: all). A longer part goes on where a
    shorter one ended: they have one identity."""

    source: BarSource
    skip: int = 0
    limit: int | None = None

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def identity(self) -> str:
        """The source's, told apart by where the part begins."""
        return f"{self.source.identity}+{self.skip}" if self.skip else self.source.identity

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """See ``BarSource.rows``."""
        left = None if self.limit is None else max(self.limit - skip, 0)
        return islice(self.source.rows(self.skip + skip), left)
