"""``conclave train verify``: train an artifact again, from recorded entries or from bars, or fit a stacker again, and
compare the results."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs

from schemas.training import (
    DataAssessed,
    DataReport,
    StackerFitted,
    StackerRejected,
    StackerStarted,
    TrainingCompleted,
    TrainingEvent,
    TrainingFailed,
)
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, echo_json
from services.console.progress import progress
from services.console.sources import BARS_OPTIONS, chosen_source, inputs_of
from services.console.training.files import bars_of
from services.console.training.fit_view import outcome
from services.console.training.job_view import outcome_of
from services.trainer.main import fit_again, train_again
from shared.archive.location import open_archive
from shared.artifacts.artifact import Artifact, ArtifactError
from shared.artifacts.manifest import processor
from shared.artifacts.store import ArtifactStore
from shared.bars import Bars
from shared.control.issuing import RefusedError
from shared.features.installed import FEATURE_SETS
from shared.log import StreamKey
from shared.runtime.process import reached_log
from shared.settings import Settings
from shared.training.fits import Fit, FitEnded
from shared.training.fitting import Origin, fit, measure, prepare
from shared.training.jobs import Ended
from shared.training.ledger import TrainingWriter
from shared.training.recipe import recipe_of
from shared.training.series import TrainingSpan, computed, digest_of_bars, digest_of_vectors, within


@click.command("verify")
@click.argument("name", metavar="ARTIFACT|JOB")
@BARS_OPTIONS
@OUTPUT
@click.pass_context
@asynchronous
async def verify(context: click.Context, /, name: str, output: str, **options: Any) -> None:
    """Train an artifact again and compare the digests: from the recorded entries of its training job or, with --bars
    or --synthetic, from bars. JOB, or the digest of a voting policy that the trainer fitted: fit the stacker again, and
    compare all that was recorded.

    Exit code 0 the same, 1 another result, 3 another one, but libraries or processor differ too, or entries that it was
    fitted on are missing."""
    settings = settings_of(context)
    store = store_of(settings)
    try:
        digest = store.find(name)
    except ArtifactError as error:
        fit = await _fit(settings, name)
        if fit is None:
            raise click.UsageError(
                f"{error}, or the job or voting policy of one fit of a stacker: see `conclave train status`"
            ) from None
        context.exit(await _fitted_again(settings, fit, output))
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


async def _fit(settings: Settings, prefix: str) -> Fit | None:
    """Return the fit whose id begins with ``prefix``, or that made the voting policy whose digest does; None if there
    is none."""
    async with reached_log(settings, "conclave:console") as log:
        jobs = await TrainingWriter(log).read()
    named = [fit for job, fit in jobs.fits.items() if prefix and job.startswith(prefix)]
    return named[0] if len(named) == 1 else jobs.fitted(prefix)


async def _fitted_again(settings: Settings, fit: Fit, output: str) -> int:
    """Fit a stacker again, compare it with what was recorded, and return the exit code."""
    if fit.started is None or not isinstance(fit.ended, StackerFitted | StackerRejected):
        raise RefusedError(f"job {fit.id[:12]} is {fit.state}: it has no result to compare with")
    began = time.monotonic()
    with progress(f"fitting the stacker of job {fit.id[:12]} again"):
        events = await fit_again(settings, fit, fit.started)
    again = next(event for event in events if isinstance(event, FitEnded))
    same = _comparable(again) == _comparable(fit.ended)
    facts: dict[str, Any] = {"job": fit.id, "same": same, "seconds": round(time.monotonic() - began, 1)}
    missing = [] if same else await _missing(settings, fit.started)
    facts["missing"] = missing
    facts |= {"recorded": msgspec.to_builtins(fit.ended), "again": msgspec.to_builtins(again)}
    if output == "json":
        echo_json(facts)
    elif same:
        click.echo(f"the same: job {fit.id[:12]} gives each number again, in {facts['seconds']} s")
    else:
        click.echo(f"recorded: {outcome(fit)}")
        click.echo(f"fitted again: {outcome(structs.replace(fit, ended=again))}")
        if missing:
            click.echo(f"not of the same rounds: entries of {', '.join(missing)} are missing; restore the archive")
    return 0 if same else 3 if missing else 1


async def _missing(settings: Settings, started: StackerStarted) -> list[str]:
    """Return the keys of the streams that a fit reads and of which entries are missing: trimmed, and in no archive."""
    if open_archive(settings) is not None:
        return []
    places = [StreamKey(stream, end.partition) for end in started.ends for stream in ("decisions", "scores")]
    async with reached_log(settings, "conclave:console") as log:
        extents = [(place.key, await log.extent(place)) for place in places]
    return [key for key, extent in extents if extent.added != extent.length]


def _comparable(ended: FitEnded) -> bytes:
    """Return the bytes of a result, without when and how fast it came, and what followed."""
    match ended:
        case StackerFitted():
            ended = structs.replace(ended, seconds=0.0, version=0, shadow=False, note="", at=0)
        case StackerRejected():
            ended = structs.replace(ended, seconds=0.0, at=0)
        case TrainingFailed():
            pass
    return msgspec.json.encode(ended)


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
