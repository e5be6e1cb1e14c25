"""The demo's retraining by the trainer: a request that comes to nothing, and one that ends in shadow."""

from typing import Final, NamedTuple

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from services.console.demo.train import Runner
from services.console.training.job_view import outcome, quality_table, stands
from shared.log import Log
from shared.training.jobs import Job
from shared.training.ledger import TrainingWriter

LOOK_S: Final = 0.1
BY: Final = ("--actor", "demo")
COOL: Final = "the demo asks by itself: no cause of its own may come between"


class Ask(NamedTuple):
    """A request: what is said of it before, its words, why it is made."""

    said: str
    words: tuple[str, ...]
    reason: str


ASKS: Final = (
    Ask(
        "a learning rate at which nothing is learned",
        ("--model", "lightgbm", "--param", "learning_rate=1e-7"),
        "a fit that must collapse",
    ),
    Ask("the recipe of the champion, on the bars that were just recorded", ("--model", "lightgbm"), "newer bars"),
)


async def retrain(console: Console, run: Runner, log: Log) -> None:
    """Asks, and shows how each job goes and what comes of it."""
    console.rule("retraining, on what was recorded")
    ledger = TrainingWriter(log)
    for ask in ASKS:
        said = await run("train", "request", *ask.words, "--force", *BY, "--reason", ask.reason)
        job = await _watched(console, ledger, said.split()[1])
        if job.report is not None and ask is ASKS[0]:
            console.print(quality_table(job.report))
        console.print(f"{ask.said}: [bold]{job.state}[/]\n  {outcome(job)}")
    console.print("nothing was promoted: what was accepted is in shadow, until gates have seen enough of it")


async def _watched(console: Console, ledger: TrainingWriter, name: str) -> Job:
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("waiting for the trainer", total=None)
        while (job := (await ledger.read())[name]).ended is None:
            at = job.progress
            if at is not None:
                progress.update(bar, description=f"{job.request.model}: {stands(at)}", completed=at.number, total=at.of)
            await anyio.sleep(LOOK_S)
    return job
