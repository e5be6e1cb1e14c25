"""``conclave train files``: train a model on bars, compare it with the class prior, store and register it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, get_args

import click
from msgspec import structs

from schemas.common import ACTIONS
from schemas.control import Promote, RegisterArtifact, StartShadow
from schemas.training import Imbalance
from services.console.context import asynchronous, check_interrupt, ended_by_interrupt, settings_of
from services.console.control.issuing import changing, signer_of, store_of, submit
from services.console.output import echo_json, printable, terminal
from services.console.parsing import COUNT, POSITIVE, SHARE, WEIGHT, parameters
from services.console.progress import progress, watched
from services.console.sources import BARS_OPTIONS, Part, chosen_source, expected_rows, inputs_of, series_of
from services.console.training.sets import SET, set_for
from shared.artifacts.registration import registration
from shared.artifacts.show import render
from shared.bars import Bars, BarSource, LeftOut, Series, SourceError, gather, interval_text
from shared.bars.input_source import InputSource, with_inputs
from shared.control import Rejected, State
from shared.control.apply import apply
from shared.control.issuing import ControlWriter, RefusedError, current
from shared.control.readiness import require_worker
from shared.families import FAMILIES, Epoch, complete, family_named
from shared.features import FeatureSet
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


UNTRAINED: Final = RegisterArtifact(
    model="any",
    artifact="0" * 64,
    family="any",
    feature_set="0" * 64,
    feature_set_name="any",
    interval_ms=60_000,
    classes=ACTIONS,
    centre=(0.0, 0.0, 0.0),
    prior=(0.25, 0.5, 0.25),
)
"""Stands for an artifact that is not trained yet, to see whether it could be registered and promoted."""

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
    set_name: str | None,
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
    if then is not None:
        await require_possible(settings, model, then, weight)
    store_of(settings).require_writable()
    source, name = chosen_source(options)
    how = {"horizon": horizon, "hold": hold, "seed": seed, "params": completed(family, params, preset)}
    with ended_by_interrupt("nothing is stored"):
        bars = bars_of(Part(source, 0, rows), inputs_of(options))
        chosen = FEATURE_SETS[set_for(family, set_name, settings)]
        trained = train_shown(bars, family, chosen, settings, source=name, imbalance=imbalance, **how)
    await finish(settings, model, trained, then, weight, options)


def bars_of(source: BarSource, inputs: InputSource | None = None) -> dict[str, Bars]:
    """Return the bars of a source by symbol, with their inputs, and say on standard error which rows and series were
    left out. Raises ``SourceError`` if no bar is left, if the source has several intervals, or if no symbol has
    inputs."""
    known = series_of(source)
    _refuse_several_intervals(known)
    left_out = LeftOut()
    with watched(source.rows(), f"reading {source.name}", "rows", expected_rows(source), exact=False) as rows:
        gathered = gather(rows, left_out)
    sentence = left_out.sentence()
    if not gathered:
        raise SourceError(f"{source.name}: no bar is left. {sentence or 'It has no rows'}")
    if sentence:
        click.echo(printable(f"{source.name}: {sentence}"), err=True)
    _refuse_several_intervals(gathered)
    if absent := [symbol for symbol, interval in known if (symbol, interval) not in gathered]:
        words = f"{source.name}: none of the rows that are used is a bar of {', '.join(absent)}"
        click.echo(printable(words), err=True)
    by_symbol = {symbol: columns for (symbol, _), columns in gathered.items()}
    return by_symbol if inputs is None else _with_inputs(by_symbol, inputs)


def _with_inputs(bars: dict[str, Bars], inputs: InputSource) -> dict[str, Bars]:
    left_out = LeftOut()
    found = with_inputs(bars, inputs, left_out)
    if sentence := left_out.sentence():
        click.echo(printable(f"{inputs.name}: {sentence}"), err=True)
    if absent := [symbol for symbol, columns in found.items() if not columns.inputs]:
        click.echo(printable(f"{inputs.name}: it has no inputs of {', '.join(absent)}"), err=True)
    return found


def _refuse_several_intervals(series: Iterable[Series]) -> None:
    symbols: dict[int, list[str]] = {}
    for symbol, interval_ms in sorted(series):
        symbols.setdefault(interval_ms, []).append(symbol)
    if len(symbols) > 1:
        found = "; ".join(f"{interval_text(each)}: {', '.join(symbols[each])}" for each in sorted(symbols))
        raise SourceError(
            f"expected bars of one interval, found {found}. Choose files of one interval, or say which: --only "
            f"{interval_text(min(symbols))}"
        )


def train_shown(
    bars: Mapping[str, Bars], family: str, feature_set: FeatureSet, settings: Settings, **how: Any
) -> Trained:
    """Train as ``shared.training.fitting.train`` does, and show the epochs. Raises what that raises."""
    count = sum(len(columns.open_time) for columns in bars.values())
    words = f"training {family} on {count:,} bars of {len(bars)} symbols"
    with progress(words, "epochs") as display:

        def watch(epoch: Epoch) -> None:
            check_interrupt()
            losses = f"{words}: log loss {epoch.train_loss:.4f}, held out {epoch.held_loss:.4f}"
            display.update(losses, epoch.number, epoch.of)

        return train_model(bars, family, feature_set, bridge=settings.features.bridge, watch=watch, **how)


async def require_possible(settings: Settings, model: str, then: str, weight: float | None = None) -> None:
    """Raise what keeps an artifact of ``model`` from being registered, and promoted if ``then`` is that, before it is
    trained: training may take hours."""
    async with opened_log(settings, "conclave:console") as log:
        state = await current(log)
        await require_worker(log, state, settings.models.names, model)
    outcome = apply(state, structs.replace(UNTRAINED, model=model), 0)
    if then == "promote" and isinstance(outcome, State):
        promotion = Promote(model, UNTRAINED.artifact, forced=True, weight=weight, accept_changes=True)
        outcome = apply(outcome, promotion, 0)
    if isinstance(outcome, Rejected):
        raise RefusedError(f"nothing is trained, since it would be refused: {outcome.reason}")


async def finish(
    settings: Settings, model: str, trained: Trained, then: str | None, weight: float | None, options: Mapping[str, Any]
) -> None:
    """Store an artifact and show it, then register it, and start its shadow or promote it if ``then`` asks for that.
    The promotion is forced: no gate has judged the artifact and no worker has loaded it. JSON is one object, also if a
    command is refused: the artifact is stored."""
    digest = store_of(settings).save(trained.manifest, trained.files)
    issued: list[dict[str, Any]] = []
    if options["output"] == "table":
        terminal().print(render(trained.manifest, digest))
        click.echo(digest)
    try:
        if then is not None:
            await _issue_after(settings, model, digest, trained, then, weight, options, issued.append)
    finally:
        if options["output"] == "json":
            echo_json({"artifact": digest, "manifest": trained.manifest, "commands": issued})


async def _issue_after(
    settings: Settings,
    model: str,
    digest: str,
    trained: Trained,
    then: str,
    weight: float | None,
    options: Mapping[str, Any],
    echo: Callable[[dict[str, Any]], None],
) -> None:
    async with opened_log(settings, "conclave:console") as log:
        writer = ControlWriter(log, signer_of(options["key"]))
        first = {**options, "wait": False, "expect": None, "command_id": None}
        await submit(writer, lambda _: registration(model, digest, trained.manifest), first, settings, echo=echo)
        if then == "register" or options["dry_run"]:
            return
        shadow = then == "shadow"
        following = StartShadow(model, digest) if shadow else Promote(model, digest, True, weight, accept_changes=True)
        await submit(writer, lambda _: following, {**first, "wait": options["wait"]}, settings, echo=echo)
