"""``conclave import``: make an artifact from weights that were trained elsewhere."""

from pathlib import Path
from typing import Any

import click

from schemas.common import ACTIONS
from services.console.context import asynchronous, ended_by_interrupt, settings_of
from services.console.control.issuing import changing, store_of
from services.console.parsing import POSITIVE, SHARE, FilePath, parameters
from services.console.progress import progress
from services.console.sources import BARS_OPTIONS, chosen_source, inputs_of
from services.console.training.files import bars_of, finish, require_possible
from shared.features.installed import FEATURE_SETS
from shared.importing.importer import import_weights
from shared.training.fitting import HOLD, HORIZON


def _classes(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    classes = tuple(word.strip().upper() for word in text.split(",") if word.strip())
    if unknown := [word for word in classes if word not in ACTIONS]:
        raise click.BadParameter(f"{', '.join(unknown)}: expected {', '.join(ACTIONS)}")
    return classes


@click.command("import")
@click.argument("weights", type=FilePath())
@click.option("--model", required=True, help="The model that the artifact is for.")
@click.option(
    "--set", "set_name", type=click.Choice(sorted(FEATURE_SETS)), required=True, help="The features it was trained on."
)
@click.option(
    "--classes", required=True, callback=_classes, metavar="SELL,HOLD,BUY",
    help="The class of each output, in order. For a single output: the class when it is low, then when it is high.",
)  # fmt: skip
@click.option("--scaler", type=FilePath(), help="Its scaler, as JSON.")
@click.option("--unpickle-scaler", is_flag=True, help="The scaler is a pickle: read it in a sandboxed child process.")
@BARS_OPTIONS
@click.option(
    "--horizon",
    type=POSITIVE,
    default=HORIZON,
    show_default=True,
    help="Number of bars that its label looks ahead.",
)
@click.option(
    "--hold",
    type=SHARE,
    default=HOLD,
    show_default=True,
    help="Share of HOLD in its labels.",
)
@click.option(
    "--param", "params", multiple=True, callback=parameters, help="What shapes do not show, such as --param heads=8."
)
@click.option("--register", "then", flag_value="register", help="Register it for the model.")
@click.option("--shadow", "then", flag_value="shadow", help="Register it and run it in shadow.")
@changing
@click.pass_context
@asynchronous
async def import_(
    context: click.Context,
    /,
    weights: Path,
    model: str,
    set_name: str,
    classes: tuple[str, ...],
    scaler: Path | None,
    unpickle_scaler: bool,
    horizon: int,
    hold: float,
    params: dict[str, int | float],
    then: str | None,
    **options: Any,
) -> None:
    """Import a state dict from a torch file (no code in it is run) or a safetensors file, or an ONNX graph.

    The network is recognised by the names and shapes of its tensors, or by the graph; what they do not show must be
    given with --param. The import is compared with the layers of torch, or with ONNX's reference, calibrated and
    scored on the bars, and must pass every check that a model trained here must pass."""
    settings = settings_of(context)
    if then is not None:
        await require_possible(settings, model, then)
    store_of(settings).require_writable()
    source, name = chosen_source(options)
    bars = bars_of(source, inputs_of(options))
    with ended_by_interrupt("nothing is stored"), progress(f"importing {weights.name}"):
        imported = import_weights(
            weights,
            bars,
            FEATURE_SETS[set_name],
            classes=classes,
            params=params,
            scaler=scaler,
            unpickle=unpickle_scaler,
            source=name,
            horizon=horizon,
            hold=hold,
            bridge=settings.features.bridge,
        )
    known = imported.manifest.imported
    assert known is not None
    if options["output"] == "table":
        layout = known.layout or "a network of known layers"
        click.echo(f"recognised as {layout}; largest difference from the reference: {known.off:.2g}", err=True)
    await finish(settings, model, imported, then, None, options)
