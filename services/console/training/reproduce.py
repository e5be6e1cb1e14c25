"""``conclave train verify``: an artifact trained once more, from recorded entries or from bars, and compared."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from schemas.training import (
    DataAssessed,
    DataReport,
    TrainingCompleted,
    TrainingEvent,
)
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, echo_json
from services.console.sources import BARS_OPTIONS, chosen_source
from services.console.training.files import bars_of
from services.console.training.job_view import outcome_of
from services.trainer.main import train_again
from shared.artifacts.artifact import Artifact
from shared.artifacts.manifest import processor
from shared.artifacts.store import ArtifactStore
from shared.bars import Bars
from shared.control.issuing import RefusedError
from shared.features.installed import FEATURE_SETS
from shared.runtime.process import opened_log
from shared.training.fitting import Origin, fit, measure, prepare
from shared.training.jobs import Ended
from shared.training.ledger import TrainingWriter
from shared.training.recipe import recipe_of
from shared.training.series import TrainingSpan, computed, digest_of_bars, digest_of_vectors, within


@click.command("verify")
@click.argument("artifact")
@BARS_OPTIONS
@OUTPUT
@click.pass_context
@asynchronous
async def verify(context: click.Context, /, artifact: str, output: str, **options: Any) -> None:
    """Train an artifact again and compare: from the recorded entries that its job was made of, or, with --bars or
    --synthetic, from bars. Exit code 0: the same digest; 1: another; 3: other libraries or processor, so that it
    may differ."""
    settings = settings_of(context)
    store = store_of(settings)
    digest = store.find(artifact)
    known = store.load(digest)
    if options["bars"] is not None or options["synthetic"] is not None:
        context.exit(_from_bars(known, bars_of(chosen_source(options)[0]), output))
    async with opened_log(settings, "conclave:console") as log:
        job = (await TrainingWriter(log).read()).made(digest)
    if job is None or job.started is None:
        raise RefusedError(f"no job of the trainer made {digest[:12]}; see `conclave train status`")
    began = time.monotonic()
    with Console(stderr=True).status(f"training {job.request.model} again as job {job.id[:12]}"):
        again = await train_again(settings, job, job.started)
    found = _ended(again)
    same = isinstance(found, TrainingCompleted) and found.artifact == digest
    code = 0 if same else 1 if known.exact else 3
    said: dict[str, Any] = {"artifact": digest, "job": job.id, "same": same, "exact": known.exact}
    said |= {"again": found.artifact if isinstance(found, TrainingCompleted) else outcome_of(found)}
    said |= {"seconds": round(time.monotonic() - began, 1)} | _data(job.report, again)
    if output == "json":
        echo_json(said)
    elif same:
        click.echo(f"the same: job {job.id[:12]} gives {digest} again, in {said['seconds']} s")
    else:
        click.echo(f"{digest} was recorded; trained again: {said['again']}")
        click.echo(f"data: bars {said['bars']}, vectors {said['vectors']}")
        if not known.exact:
            made = known.manifest
            click.echo(f"it was made with {made.libraries} on {made.processor}; here is {processor()}")
    context.exit(code)


def _from_bars(known: Artifact, bars: Mapping[str, Bars], output: str) -> int:
    """Trains an artifact again from bars of files, in this process; the exit code."""
    made = known.manifest
    recipe = recipe_of(made)
    if isinstance(recipe, str):
        raise RefusedError(recipe)
    feature_set, data = FEATURE_SETS[recipe.feature_set], made.data
    asked = {symbol: one for symbol, one in bars.items() if symbol in data.symbols}
    series = within(computed(asked, feature_set, data.bridge), TrainingSpan(data.first_open_time, data.last_open_time))
    said: dict[str, Any] = {"artifact": known.digest, "exact": known.exact}
    said["bars"] = _same(data.digest, digest_of_bars({symbol: one.bars for symbol, one in series.items()}))
    said["vectors"] = _same(data.vectors, digest_of_vectors(series))
    prepared = prepare(series, feature_set, recipe)
    again = measure(prepared, fit(prepared), Origin(data.source, data.bridge, series))
    with tempfile.TemporaryDirectory() as folder:
        said["again"] = ArtifactStore(Path(folder)).save(*again)
    said["same"] = said["again"] == known.digest
    if output == "json":
        echo_json(said)
    else:
        click.echo(f"{said['again']}: {'the same' if said['same'] else f'{known.digest} was stored'}")
        click.echo(f"data: bars {said['bars']}, vectors {said['vectors']}")
    return 0 if said["same"] else 1 if known.exact else 3


def _same(one: str, other: str) -> str:
    return "the same" if one == other else "others"


def _ended(heard: list[TrainingEvent]) -> Ended:
    return next(one for one in heard if isinstance(one, Ended))


def _data(recorded: DataReport | None, heard: list[TrainingEvent]) -> dict[str, str]:
    """Whether bars and vectors were the same."""
    again = next((one.report for one in heard if isinstance(one, DataAssessed)), None)
    if recorded is None or again is None:
        return {"bars": "not known", "vectors": "not known"}
    return {
        "bars": _same(recorded.bars_digest, again.bars_digest),
        "vectors": _same(recorded.vectors_digest, again.vectors_digest),
    }
