"""``conclave train sweep``: compare parameters and seeds over walk-forward folds, on a grid or by a search."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click
from rich.table import Table

from schemas.training import Imbalance, Recipe
from services.console.context import ended_by_interrupt, login, settings_of
from services.console.output import OUTPUT, echo_json, terminal
from services.console.parsing import POSITIVE, SHARE, FilePath, number_of, pairs, parameters, varied
from services.console.progress import watched
from services.console.sources import BARS_OPTIONS, chosen_source, inputs_of
from services.console.training.challengers import Keep, challenge, require_challengers
from services.console.training.files import IMBALANCE, bars_of, completed
from services.console.training.sets import SET, set_for
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS
from shared.settings import Settings
from shared.training.fitting import HOLD, HORIZON
from shared.training.search import Range, RangeError, check, search
from shared.training.series import computed
from shared.training.sweeps import Backend, Ranked, Trial, grid, ranked, run

ALL_CORES: Final = -1
"""Of joblib: as many jobs as there are processors."""


def seeds_of(context: click.Context, option: click.Parameter, given: str) -> list[int]:
    """Return the numbers in ``1,2,3``: the callback of an option."""
    try:
        return [int(word) for word in given.split(",")]
    except ValueError:
        raise click.BadParameter(f"{given!r}; expected numbers such as 1,2,3") from None


def ranges_of(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, Range]:
    """Return the ranges of NAME=LOW..HIGH words by name, on a logarithmic scale with ``:log`` at the end: the callback
    of an option."""
    try:
        return {name: _range(words) for name, words in pairs(given).items()}
    except ValueError:
        raise click.BadParameter(
            f"{' '.join(given)!r}; expected NAME=LOW..HIGH, such as max_depth=2..8 or eta=0.01..0.3:log"
        ) from None


def _range(text: str) -> Range:
    ends, colon, scale = text.partition(":")
    low, dots, high = ends.partition("..")
    if not dots or (colon and scale != "log"):
        raise ValueError(text)
    return Range(number_of(low), number_of(high), log=bool(colon))


@click.command("sweep")
@click.option("--family", required=True, type=click.Choice(sorted(FAMILIES)), help="Family of the models.")
@BARS_OPTIONS
@SET
@click.option(
    "--horizon",
    type=POSITIVE,
    default=HORIZON,
    show_default=True,
    help="Number of bars that the label looks ahead.",
)
@click.option(
    "--hold",
    type=SHARE,
    default=HOLD,
    show_default=True,
    help="Share of HOLD in the training part.",
)
@click.option("--preset", default="", help="A named set of parameters of the family.")
@click.option("--param", "params", multiple=True, callback=parameters, help="A parameter, such as --param epochs=3.")
@IMBALANCE
@click.option("--vary", multiple=True, callback=varied, help="Values to try: --vary eta=0.03,0.05; may be repeated.")
@click.option(
    "--range",
    "ranges",
    multiple=True,
    callback=ranges_of,
    help="Search a range instead of a grid: --range max_depth=2..8 --range eta=0.01..0.3:log; may be repeated.",
)
@click.option(
    "--trials", type=POSITIVE, default=40, show_default=True, help="With --range: number of recipes that are proposed."
)
@click.option("--seeds", default="1", callback=seeds_of, show_default=True, help="Seeds to try, such as 1,2,3.")
@click.option(
    "--folds",
    type=POSITIVE,
    default=4,
    show_default=True,
    help="Walk-forward folds over the second half of the bars.",
)
@click.option("--jobs", type=POSITIVE, help="Number of parallel trials. Default: one per processor.")
@click.option(
    "--keep",
    type=POSITIVE,
    metavar="K",
    help="Train the K best recipes on all bars and start them in shadow for --model, as challengers of its champion.",
)
@click.option("--model", help="With --keep: the model that they are for.")
@click.option("--reason", help="With --keep: why. It is recorded.")
@click.option("--actor", default=login, help="With --keep: who issues the commands (default: your login).")
@click.option("--key", type=FilePath(), help="With --keep: sign with this private key (PEM).")
@OUTPUT
@click.pass_context
def sweep(
    context: click.Context,
    /,
    family: str,
    set_name: str | None,
    horizon: int,
    hold: float,
    preset: str,
    params: dict[str, int | float],
    imbalance: Imbalance,
    vary: dict[str, list[int | float]],
    ranges: dict[str, Range],
    trials: int,
    seeds: list[int],
    folds: int,
    jobs: int | None,
    keep: int | None,
    model: str | None,
    reason: str | None,
    actor: str,
    key: Any,
    output: str,
    **options: Any,
) -> None:
    """Fit recipes on every walk-forward fold, and rank them by their held-out gain.

    The recipes are every combination of the values of --vary and --seeds; with --range, Optuna proposes them from what
    the earlier ones gained. Trials run on the backend in [training] of the settings. Nothing is stored without --keep.

    Exit code 1: of the recipes that --keep asks for, none became an artifact."""
    settings = settings_of(context)
    kept = _kept(keep, model, reason, actor, key, output)
    chosen = FEATURE_SETS[set_for(family, set_name, settings)]
    source, name = chosen_source(options)
    base = Recipe(family, chosen.name, completed(family, params, preset), horizon, hold, seeds[0], imbalance)
    recipes = _recipes(base, seeds, vary, ranges)
    if kept is not None:
        require_challengers(settings, kept.model)
    how = backend_of(settings, jobs or ALL_CORES)
    with ended_by_interrupt("the sweep is not finished, and nothing is stored"):
        bars = bars_of(source, inputs_of(options))
        series = computed(bars, chosen, settings.features.bridge)
        if ranges:
            made = search(series, chosen, base, ranges, count=trials, folds=folds, how=how)
            words, of = f"up to {trials} recipes, {folds} folds, {how.name}", trials * folds
        else:
            made = run(series, chosen, recipes, folds=folds, how=how)
            words, of = f"{len(recipes)} recipes, {folds} folds, {how.name}", len(recipes) * folds
        tried = _watched(made, words, of)
    ranking = ranked(tried)
    facts: dict[str, Any] = {"trials": len(tried), "ranked": ranking}
    if output == "table":
        terminal().print(_table(ranking, sorted({*vary, *ranges, "seed"}), len(tried)))
    stored = True
    if kept is not None:
        facts["challengers"] = challenge(settings, kept, ranking, bars, chosen, name, folds)
        stored = any(one["artifact"] for one in facts["challengers"])
    if output == "json":
        echo_json(facts)
    context.exit(0 if stored else 1)


def _kept(keep: int | None, model: str | None, reason: str | None, actor: str, key: Any, output: str) -> Keep | None:
    """Return what --keep asks for. Raises ``UsageError`` where it lacks an option."""
    if keep is None:
        return None
    for option, value in (("--model", model), ("--reason", reason)):
        if not value:
            raise click.UsageError(f"--keep needs {option}: the best recipes are registered and started in shadow")
    assert model is not None
    assert reason is not None
    return Keep(keep, model, reason, actor, key, output)


def _recipes(
    base: Recipe, seeds: list[int], vary: Mapping[str, list[int | float]], ranges: Mapping[str, Range]
) -> list[Recipe]:
    """Return the recipes of a grid; none for a search, whose ranges are checked. Raises ``UsageError``."""
    if ranges and (vary or len(seeds) > 1):
        raise click.UsageError("--range searches with one seed and without --vary; a grid has --vary and --seeds")
    try:
        if not ranges:
            return grid(base, seeds, vary)
        check(base, ranges)
    except (ValueError, RangeError) as error:
        raise click.UsageError(str(error)) from None
    return []


def _watched(made: Iterator[Trial], words: str, of: int) -> list[Trial]:
    with watched(made, words, "trials", of, exact=False) as trials:
        return list(trials)


def backend_of(settings: Settings, jobs: int) -> Backend:
    """Return the backend that runs the trials."""
    return Backend(settings.training.backend, jobs, settings.training.address)


def _table(ranking: list[Ranked], names: list[str], trials: int) -> Table:
    caption = (
        f"{trials} trials; ranked by the gain over the class prior on the validation parts (mnat per row). The test "
        "parts were not used for the ranking, but the best of many trials is also a lucky one: expect less in service"
    )
    table = Table(caption=caption)
    for name in names:
        table.add_column(name, justify="right")
    for heading in ("held-out gain", "test skill [worst, best fold]", "of it moves", "direction", "rejected"):
        table.add_column(heading, justify="right")
    for one in ranking:
        values = {**one.recipe.params, "seed": one.recipe.seed}
        skill = f"{one.skill.value:+.1f} [{one.skill.low:+.1f}, {one.skill.high:+.1f}]"
        parts = (f"{one.moves:+.1f}", f"{one.direction:+.1f}")
        own = (f"{values[name]:g}" for name in names)
        table.add_row(*own, f"{one.gain:+.1f}", skill, *parts, str(one.rejected or ""))
    return table
