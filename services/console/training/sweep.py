"""``conclave train sweep``: compare parameters and seeds over walk-forward folds."""

from typing import Any, Final

import click
from rich.table import Table

from schemas.training import Imbalance, Recipe
from services.console.context import settings_of
from services.console.output import OUTPUT, echo_json, terminal
from services.console.parsing import POSITIVE, SHARE, parameters, varied
from services.console.progress import watched
from services.console.sources import BARS_OPTIONS, chosen_source
from services.console.training.files import IMBALANCE, bars_of, completed
from services.console.training.sets import SET, set_for
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS
from shared.settings import Settings
from shared.training.fitting import HOLD, HORIZON
from shared.training.series import computed
from shared.training.sweeps import Backend, Ranked, grid, ranked, run

ALL_CORES: Final = -1
"""Of joblib: as many jobs as there are processors."""


def seeds_of(context: click.Context, option: click.Parameter, given: str) -> list[int]:
    """Return the numbers in ``1,2,3``: the callback of an option."""
    try:
        return [int(word) for word in given.split(",")]
    except ValueError:
        raise click.BadParameter(f"{given!r}; expected numbers such as 1,2,3") from None


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
@click.option("--seeds", default="1", callback=seeds_of, show_default=True, help="Seeds to try, such as 1,2,3.")
@click.option(
    "--folds",
    type=POSITIVE,
    default=4,
    show_default=True,
    help="Walk-forward folds over the second half of the bars.",
)
@click.option("--jobs", type=POSITIVE, help="Number of parallel trials. Default: one per processor.")
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
    seeds: list[int],
    folds: int,
    jobs: int | None,
    output: str,
    **options: Any,
) -> None:
    """Fit every combination of values and seeds on every walk-forward fold, and rank them by their held-out gain.

    Nothing is stored. Trials run on the backend in [training] of the settings."""
    settings = settings_of(context)
    chosen = FEATURE_SETS[set_for(family, set_name, settings)]
    source, _ = chosen_source(options)
    base = Recipe(family, chosen.name, completed(family, params, preset), horizon, hold, seeds[0], imbalance)
    try:
        recipes = grid(base, seeds, vary)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    series = computed(bars_of(source), chosen, settings.features.bridge)
    how = backend_of(settings, jobs or ALL_CORES)
    words, of = f"{len(recipes)} recipes, {folds} folds, {how.name}", len(recipes) * folds
    with watched(run(series, chosen, recipes, folds=folds, how=how), words, "trials", of) as made:
        trials = list(made)
    ranking = ranked(trials)
    if output == "json":
        echo_json({"trials": len(trials), "ranked": ranking})
    else:
        terminal().print(_table(ranking, sorted({*vary, "seed"}), len(trials)))


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
