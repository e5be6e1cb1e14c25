"""``conclave train files``: train a model on bars, compare it with the class prior, store and register it."""

from collections.abc import Mapping
from typing import Any, Final, get_args

import click

from schemas.control import Promote, StartShadow
from schemas.training import Imbalance
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import changing, signer_of, store_of, submit
from services.console.output import printable, terminal
from services.console.parsing import COUNT, POSITIVE, SHARE, WEIGHT, parameters
from services.console.progress import progress, watched
from services.console.sources import BARS_OPTIONS, Part, chosen_source, expected_rows
from shared.artifacts.registration import registration
from shared.artifacts.show import render
from shared.bars import Bars, BarSource, LeftOut, SourceError, gather
from shared.control.issuing import ControlWriter
from shared.families import FAMILIES, Epoch, complete, family_named
from shared.features import DEFAULT, FeatureSet
from shared.features.installed import FEATURE_SETS
from shared.runtime.process import opened_log
from shared.settings import Settings
from shared.training.fitting import HOLD, HORIZON, Trained
from shared.training.fitting import train as train_model


def completed(family: str, params: dict[str, int | float], preset: str) -> dict[str, int | float]:
    """Return the complete parameters of a family. Raises ``UsageError``."""
    try:
        return complete(family_named(family), params, preset)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


IMBALANCE: Final = click.option(
    "--imbalance",
    type=click.Choice(get_args(Imbalance)),
    default="none",
    show_default=True,
    help="How unequal classes are handled. The model always predicts with the natural prior.",
)


@click.command("files")
@click.option("--model", required=True, help="The model that the artifact is for, such as xgboost.")
@click.option("--family", required=True, type=click.Choice(sorted(FAMILIES)), help="Family of the model.")
@BARS_OPTIONS
@click.option("--rows", type=POSITIVE, help="Use only the first ROWS rows of the source (symbols merged by time).")
@click.option(
    "--set",
    "set_name",
    type=click.Choice(sorted(FEATURE_SETS)),
    default=DEFAULT,
    show_default=True,
    help="Feature set.",
)
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
@click.option("--seed", type=COUNT, default=1, show_default=True, help="Seed of the fit.")
@click.option("--preset", default="", help="A named set of parameters of the family, such as steps-128.")
@click.option("--param", "params", multiple=True, callback=parameters, help="A parameter, such as --param epochs=3.")
@IMBALANCE
@click.option("--register", "then", flag_value="register", help="Register it for the model.")
@click.option("--shadow", "then", flag_value="shadow", help="Register it and run it in shadow.")
@click.option(
    "--promote", "then", flag_value="promote", help="Register it and make it champion, forced: no gate judged it."
)
@click.option("--weight", type=WEIGHT, help="With --promote, for a model that has no weight yet.")
@changing
@click.pass_context
@asynchronous
async def train_files(
    context: click.Context,
    /,
    model: str,
    family: str,
    rows: int | None,
    set_name: str,
    horizon: int,
    hold: float,
    seed: int,
    preset: str,
    params: dict[str, int | float],
    imbalance: Imbalance,
    then: str | None,
    weight: float | None,
    **options: Any,
) -> None:
    """Train a model on bars from files or the synthetic market, in this process.

    The report compares it with the class prior on bars that it never saw. Skill is in thousandths of a nat (mnat) of
    log loss, with a 95 % block-bootstrap interval. A collapsed model is refused."""
    settings = settings_of(context)
    source, name = chosen_source(options)
    bars = bars_of(Part(source, 0, rows))
    console = terminal()
    how = {"horizon": horizon, "hold": hold, "seed": seed, "params": completed(family, params, preset)}
    trained = _train(bars, family, FEATURE_SETS[set_name], settings, source=name, imbalance=imbalance, **how)
    digest = store_of(settings).save(trained.manifest, trained.files)
    if options["output"] == "table":
        console.print(render(trained.manifest, digest))
    click.echo(digest)
    if then is not None:
        await after_training(settings, model, digest, trained, then, weight, options)


def bars_of(source: BarSource) -> dict[str, Bars]:
    """Return the bars of a source by symbol, and say on standard error which rows were left out. Raises ``SourceError``
    if no bar is left, or if a symbol has several intervals."""
    left_out = LeftOut()
    with watched(source.rows(), f"reading {source.name}", "rows", expected_rows(source), exact=False) as rows:
        gathered = gather(rows, left_out)
    sentence = left_out.sentence()
    if not gathered:
        raise SourceError(f"{source.name}: no bar is left. {sentence or 'It has no rows'}")
    if sentence:
        click.echo(printable(f"{source.name}: {sentence}"), err=True)
    bars = {symbol: columns for (symbol, _), columns in gathered.items()}
    if len(bars) < len(gathered):
        raise SourceError(
            f"expected one interval per symbol, found {', '.join(map(str, gathered))}; choose files of one interval, "
            "or --only"
        )
    return bars


def _train(bars: Mapping[str, Bars], family: str, feature_set: FeatureSet, settings: Settings, **how: Any) -> Trained:
    count = sum(len(columns.open_time) for columns in bars.values())
    words = f"training {family} on {count:,} bars of {len(bars)} symbols"
    with progress(words, "epochs") as display:

        def watch(epoch: Epoch) -> None:
            losses = f"{words}: log loss {epoch.train_loss:.4f}, held out {epoch.held_loss:.4f}"
            display.update(losses, epoch.number, epoch.of)

        return train_model(bars, family, feature_set, bridge=settings.features.bridge, watch=watch, **how)


async def after_training(
    settings: Settings, model: str, digest: str, trained: Trained, then: str, weight: float | None, options: Any
) -> None:
    """Register an artifact, then start its shadow or promote it if ``then`` asks for that. The promotion is forced: no
    gate has judged the artifact and no worker has loaded it."""
    async with opened_log(settings, "conclave:console") as log:
        writer = ControlWriter(log, signer_of(options["key"]))
        first = {**options, "wait": False, "expect": None, "command_id": None}
        await submit(writer, lambda _: registration(model, digest, trained.manifest), first)
        if then == "register" or options["dry_run"]:
            return
        shadow = then == "shadow"
        following = StartShadow(model, digest) if shadow else Promote(model, digest, True, weight, accept_changes=True)
        await submit(writer, lambda _: following, {**first, "wait": options["wait"]})
