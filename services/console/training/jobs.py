"""``conclave train request | status | watch``: request, list and follow jobs of the trainer."""

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
import click
import msgspec
from msgspec import structs
from rich.text import Text

from schemas.training import (
    Recipe,
    TrainingRequested,
)
from services.console.context import asynchronous, login, settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, echo_json, terminal
from services.console.parsing import COUNT, POSITIVE, SHARE, NumberRange, moment_ms, parameters
from services.console.progress import progress
from services.console.training.files import IMBALANCE, completed
from services.console.training.job_view import policy_words, progress_text, show, table_of
from services.console.training.sets import set_for
from shared.control import State
from shared.control.issuing import current
from shared.control.readiness import require_worker
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS
from shared.runtime.process import opened_log, reached_log
from shared.settings import Settings
from shared.training.fits import Fit
from shared.training.fitting import HOLD, HORIZON
from shared.training.jobs import Job, Jobs
from shared.training.ledger import TrainingWriter
from shared.training.requesting import NoRecipeError, champion_recipe, request_of

POLL_S: Final = 0.3


@click.command("request")
@click.option("--model", required=True, help="The model to retrain.")
@click.option("--family", type=click.Choice(sorted(FAMILIES)), help="Default: the champion's, with its parameters.")
@click.option("--set", "set_name", type=click.Choice(sorted(FEATURE_SETS)), help="Default: the champion's feature set.")
@click.option("--horizon", type=POSITIVE, help="Number of bars that the label looks ahead. Default: the champion's.")
@click.option(
    "--hold",
    type=SHARE,
    help="Share of HOLD in the training part. Default: the champion's.",
)
@click.option("--seed", type=COUNT, help="Default: the champion's.")
@click.option("--preset", default="", help="A named set of parameters of the family.")
@click.option("--param", "params", multiple=True, callback=parameters, help="A parameter, such as --param epochs=3.")
@IMBALANCE
@click.option(
    "--days",
    type=NumberRange(0, min_open=True),
    help="Days of data to train on. Default: from the training policy.",
)
@click.option("--until", help="Newest bar: 2025-08-31T00:00Z, or milliseconds. Default: the newest recorded.")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be repeated.")
@click.option(
    "--revised-bars/--first-bars",
    "revised_bars",
    default=None,
    help="Compute labels from the later content of bars that their exchange changed, or from the first. Default: from "
    "the training policy.",
)
@click.option("--force", is_flag=True, help="Ignore the budget of the training policy.")
@click.option("--wait", is_flag=True, help="Wait until the job ends; exit code as for `conclave train watch`.")
@click.option("--actor", default=login, help="Who requests it (default: your login).")
@click.option("--reason", required=True, help="Why. It is recorded.")
@OUTPUT
@click.pass_context
@asynchronous
async def request(context: click.Context, /, model: str, wait: bool, **options: Any) -> None:
    """Request a new artifact of a model from the trainer, trained on recorded bars and vectors."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        state = await current(log)
        await require_worker(log, state, settings.models.names, model)
        event = structs.replace(_requested(settings, state, model, options), at=await log.time())
        job = await TrainingWriter(log).request(event, state.training)
        if options["output"] == "json":
            echo_json({"job": job, "request": msgspec.to_builtins(event)})
        else:
            click.echo(f"job {job}")
        if wait:
            context.exit(await watched(TrainingWriter(log), job))


def _requested(settings: Settings, state: State, model: str, options: dict[str, Any]) -> TrainingRequested:
    base: Recipe | str
    try:
        base = champion_recipe(store_of(settings), state, model)
    except NoRecipeError as error:
        base = str(error)
    if options["family"] is None and isinstance(base, str):
        raise click.UsageError(f"--family is needed: {base}")
    try:
        return request_of(
            state,
            model,
            _recipe(base, options, settings),
            actor=options["actor"],
            reason=options["reason"],
            at=0,
            days=options["days"],
            until=None if options["until"] is None else _until(options["until"]),
            symbols=tuple(options["symbols"]),
            forced=options["force"],
            revised_bars=options["revised_bars"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _until(text: str) -> int:
    return int(text) if text.isdecimal() else moment_ms(text, otherwise="milliseconds")


def _recipe(base: Recipe | str, options: dict[str, Any], settings: Settings) -> Recipe:
    """Return the recipe of the champion with the given options changed. If there is none, or another family is named,
    start from the defaults."""
    family, imbalance = options["family"], options["imbalance"]
    if isinstance(base, str) or (family is not None and family != base.family):
        params = completed(family, options["params"], options["preset"])
        start = Recipe(family, set_for(family, None, settings), params, HORIZON, HOLD, 1)
    else:
        params = {**base.params, **FAMILIES[base.family].presets.get(options["preset"], {}), **options["params"]}
        start = structs.replace(base, params=completed(base.family, params, ""))
    named = {"feature_set": options["set_name"], **{name: options[name] for name in ("horizon", "hold", "seed")}}
    given = {name: value for name, value in named.items() if value is not None}
    return structs.replace(start, imbalance=imbalance, **given)


@click.command("status")
@click.argument("job", required=False)
@click.option("--last", "-n", type=COUNT, default=20, show_default=True, help="Number of newest jobs to show.")
@OUTPUT
@click.pass_context
@asynchronous
async def status(context: click.Context, /, job: str | None, last: int, output: str) -> None:
    """Show the jobs of the trainer, or one of them in full."""
    async with reached_log(settings_of(context), "conclave:console") as log:
        state = await current(log)
        jobs = await TrainingWriter(log).read()
        alive = any(view.alive for view in await log.groups(0) if view.group == "trainer")
    shown = [_job(jobs, job)] if job else jobs.all()[-last:]
    if output == "json":
        policy = msgspec.to_builtins(state.training)
        rows = [{"state": one.state, **msgspec.to_builtins(one)} for one in shown]
        echo_json({"trainer": alive, "policy": policy, "jobs": rows})
        return
    console = terminal()
    if job:
        show(console, shown[0])
        return
    console.print(policy_words(state.training), *([] if alive else [Text("no trainer runs", "red")]))
    console.print(table_of(shown))


def _job(jobs: Jobs, prefix: str) -> Job | Fit:
    try:
        return jobs.find(prefix)
    except LookupError as error:
        raise click.UsageError(f"{error}; see `conclave train status`") from None


@click.command("watch")
@click.argument("job", required=False)
@click.pass_context
@asynchronous
async def watch(context: click.Context, /, job: str | None) -> None:
    """Follow a job until it ends (default: the one that runs, or is next).

    Exit code 0 completed, 1 rejected, 2 failed."""
    async with reached_log(settings_of(context), "conclave:console") as log:
        ledger = TrainingWriter(log)
        jobs = await ledger.read()
        open_ = jobs.next()
        if job is None and open_ is None:
            raise click.UsageError("no job runs or waits; see `conclave train status`")
        chosen = open_ if job is None else _job(jobs, job)
        assert chosen is not None
        context.exit(await watched(ledger, chosen.id))


async def watched(ledger: TrainingWriter, job: str) -> int:
    """Show the progress of a job until it ends, and return the exit code."""
    unit = "" if job in (await ledger.read()).fits else "epochs"
    with progress("waiting for the trainer", unit) as display:
        async for one in _states(ledger, job):
            words = f"{one.model}: {one.state}"
            at = one.progress
            if at is not None and one.started is not None:
                words = f"{one.model}: {at.stage if isinstance(one, Fit) else progress_text(at)}"
            fitting = at is not None and at.stage == "fitting" and isinstance(one, Job)
            done, of = (at.number, at.of) if at is not None and fitting else (0, None)
            display.update(words, done, of)
    show(terminal(), one)
    return {"completed": 0, "rejected": 1}.get(one.state, 2)


async def _states(ledger: TrainingWriter, job: str) -> AsyncIterator[Job | Fit]:
    while True:
        state = (await ledger.read()).find(job)
        yield state
        if state.ended is not None:
            return
        await anyio.sleep(POLL_S)
