"""``conclave features check``: look for leaks in feature sets."""

from collections.abc import Mapping
from typing import Any, Final

import click
from rich.table import Table

from services.console.context import settings_of
from services.console.output import OUTPUT, echo_json, terminal
from services.console.parsing import COUNT, POSITIVE
from services.console.progress import watched
from services.console.sources import BARS_OPTIONS, chosen_source, inputs_of
from services.console.training.files import bars_of
from shared.features import BarArrays, FeatureSet
from shared.features.installed import FEATURE_SETS
from shared.features.leaks import TRIALS, Leak, LeakError, leaks
from shared.report.text import moment
from shared.training.series import ReferenceMissingError, columns_of, require_references

LARGEST: Final = 20_000
"""The newest bars of a symbol that are used."""


@click.group()
def features() -> None:
    """Check feature sets: those of this release, and those that other distributions add."""


@features.command()
@click.argument("named", nargs=-1, metavar="[SET...]")
@BARS_OPTIONS
@click.option("--trials", type=POSITIVE, default=TRIALS, show_default=True, help="Pieces of the bars, for each set.")
@click.option("--seed", type=COUNT, default=1, show_default=True, help="Seed of the draw of the pieces.")
@OUTPUT
@click.pass_context
def check(
    context: click.Context, /, named: tuple[str, ...], trials: int, seed: int, output: str, **options: Any
) -> None:
    """Compute vectors again from bars that are cut and moved in time, and name every value that is another then. Such a
    value depends on bars that were still to come, on bars before its lookback, or on the date. Without SET: all sets
    that have a vector of these bars.

    Exit code 0 nothing moved, 1 a value did."""
    settings_of(context)
    unknown = sorted(set(named) - set(FEATURE_SETS))
    if unknown:
        raise click.BadParameter(f"no feature set {', '.join(unknown)}; there are: {', '.join(sorted(FEATURE_SETS))}")
    source, _ = chosen_source(options)
    series = {
        symbol: columns_of(bars.at(slice(-LARGEST, None)))
        for symbol, bars in bars_of(source, inputs_of(options)).items()
    }
    moved, checked = False, 0
    for name in named or sorted(FEATURE_SETS):
        try:
            found = _found(FEATURE_SETS[name], series, trials, seed)
        except (LeakError, ReferenceMissingError) as error:
            if named:
                raise click.UsageError(str(error)) from None
            click.echo(f"not checked: {error}", err=True)
            continue
        checked += 1
        moved = moved or bool(found)
        if output == "json":
            echo_json({"set": name, "trials": trials, "leaks": found})
        else:
            _show(name, trials, found)
    if not checked:
        raise click.UsageError("no set can be checked with these bars")
    context.exit(1 if moved else 0)


def _found(feature_set: FeatureSet, series: Mapping[str, BarArrays], trials: int, seed: int) -> list[Leak]:
    """Return the leaks of a set over the series of all symbols that have its inputs, which share the trials. Raises
    ``LeakError`` where no bar has a vector, and ``ReferenceMissingError``."""
    require_references(feature_set, series)
    references = {symbol: series[symbol] for symbol in feature_set.references}
    series = {
        symbol: bars for symbol, bars in series.items() if bars.inputs.keys() >= set(feature_set.inputs)
    } or series
    found: list[Leak] = []
    each = -(-trials // len(series))
    for number, bars in enumerate(series.values()):
        with watched(range(each), f"checking {feature_set.name}", "pieces", each) as left:
            known = {one.feature for one in found}
            found += [
                one for one in leaks(feature_set, bars, left, seed + number, references) if one.feature not in known
            ]
    return found


def _show(name: str, trials: int, found: list[Leak]) -> None:
    if not found:
        click.echo(f"{name}: no value moved in {trials:,} trials")
        return
    table = Table(title=f"{name}: {len(found)} features moved in {trials:,} trials")
    for heading in ("feature", "moved in", "depends on", "first at", "in the history", "in the piece"):
        table.add_column(heading)
    for one in found:
        piece = "no vector" if one.piece is None else f"{one.piece:.6g}"
        why = ", ".join(one.depends_on)
        table.add_row(one.feature, f"{one.moved:,}", why, moment(one.open_time), f"{one.whole:.6g}", piece)
    terminal().print(table)
