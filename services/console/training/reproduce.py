"""``conclave train verify``: train an artifact again, from recorded entries or from bars, and compare the digests."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from schemas.training import (
    DataAssessed,
    DataReport,
    TrainingCompleted,
    TrainingEvent,
)
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, echo_json
from services.console.progress import progress
from services.console.sources import BARS_OPTIONS, chosen_source, inputs_of
from services.console.training.files import bars_of
from services.console.training.job_view import outcome_of
from services.trainer.main import train_again
from shared.artifacts.artifact import Artifact
from shared.artifacts.manifest import processor
from shared.artifacts.store import ArtifactStore
from shared.bars import Bars
from shared.control.issuing import RefusedError
from shared.features.installed import FEATURE_SETS
from shared.runtime.process import reached_log
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
    """Train an artifact again and compare the digests: from the recorded entries of its training job or, with --bars
    or --synthetic, from bars.

    Exit code 0 the same digest, 1 another digest, 3 another digest, but libraries or processor differ too."""
    settings = settings_of(context)
    store = store_of(settings)
    digest = store.find(artifact)
    known = store.load(digest)
    if options["bars"] is not None or options["synthetic"] is not None:
        context.exit(_from_bars(known, bars_of(chosen_source(options)[0], inputs_of(options)), output))
    async with reached_log(settings, "conclave:console") as log:
        job = (await TrainingWriter(log).read()).made(digest)
    if job is None or job.started is None:
        raise RefusedError(
            f"no job of the trainer made {digest[:12]}; see `conclave train status`, or give the bars with --bars"
        )
    started = time.monotonic()
    with progress(f"training {job.request.model} again as job {job.id[:12]}"):
        again = await train_again(settings, job, job.started)
    ended = _ended(again)
    same = isinstance(ended, TrainingCompleted) and ended.artifact == digest
    code = 0 if same else 1 if known.exact else 3
    facts: dict[str, Any] = {"artifact": digest, "job": job.id, "same": same, "exact": known.exact}
    facts |= {"again": ended.artifact if isinstance(ended, TrainingCompleted) else outcome_of(ended)}
    facts |= {"seconds": round(time.monotonic() - started, 1)} | _data(job.report, again)
    if output == "json":
        echo_json(facts)
    elif same:
        click.echo(f"the same: job {job.id[:12]} gives {digest} again, in {facts['seconds']} s")
    else:
        click.echo(f"{digest} was recorded; trained again: {facts['again']}")
        click.echo(f"data: bars {facts['bars']}, vectors {facts['vectors']}")
        if not known.exact:
            manifest = known.manifest
            click.echo(f"it was made with {manifest.libraries} on {manifest.processor}; this is {processor()}")
    context.exit(code)


def _from_bars(known: Artifact, bars: Mapping[str, Bars], output: str) -> int:
    """Train an artifact again from bars, in this process, and return the exit code."""
    recipe = recipe_of(known.manifest)
    if isinstance(recipe, str):
        raise RefusedError(recipe)
    feature_set, data = FEATURE_SETS[recipe.feature_set], known.manifest.data
    read = {*data.symbols, *feature_set.references}
    every = computed({symbol: bars[symbol] for symbol in bars if symbol in read}, feature_set, data.bridge)
    chosen = {symbol: one for symbol, one in every.items() if symbol in data.symbols}
    series = within(chosen, TrainingSpan(data.first_open_time, data.last_open_time))
    facts: dict[str, Any] = {"artifact": known.digest, "exact": known.exact}
    facts["bars"] = _same(data.digest, digest_of_bars({symbol: one.bars for symbol, one in series.items()}))
    facts["vectors"] = _same(data.vectors, digest_of_vectors(series))
    with progress(f"training {known.manifest.family} again"):
        prepared = prepare(series, feature_set, recipe)
        again = measure(prepared, fit(prepared), Origin(data.source, data.bridge, series))
    with tempfile.TemporaryDirectory() as folder:
        facts["again"] = ArtifactStore(Path(folder)).save(*again)
    facts["same"] = facts["again"] == known.digest
    if output == "json":
        echo_json(facts)
    else:
        click.echo(f"{facts['again']}: {'the same' if facts['same'] else f'{known.digest} was stored'}")
        click.echo(f"data: bars {facts['bars']}, vectors {facts['vectors']}")
    return 0 if facts["same"] else 1 if known.exact else 3


def _same(one: str, other: str) -> str:
    return "the same" if one == other else "others"


def _ended(events: list[TrainingEvent]) -> Ended:
    return next(event for event in events if isinstance(event, Ended))


def _data(recorded: DataReport | None, events: list[TrainingEvent]) -> dict[str, str]:
    """Return whether bars and vectors were the same."""
    again = next((event.report for event in events if isinstance(event, DataAssessed)), None)
    if recorded is None or again is None:
        return {"bars": "not known", "vectors": "not known"}
    return {
        "bars": _same(recorded.bars_digest, again.bars_digest),
        "vectors": _same(recorded.vectors_digest, again.vectors_digest),
    }
