"""Retraining in the demo: one request that is rejected, and one whose artifact goes into shadow."""

from typing import Final, NamedTuple

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from services.console.demo.train import Runner
from services.console.training.job_view import outcome, progress_text, quality_table
from shared.log import Log
from shared.training.jobs import Job
from shared.training.ledger import TrainingWriter

POLL_S: Final = 0.1
BY: Final = ("--actor", "demo")
ONLY_BY_REQUEST: Final = "the demo requests its retraining itself: drift and decay shall not"


class RetrainRequest(NamedTuple):
    """A request for retraining: what is shown for it, its options, and its reason."""

    label: str
    words: tuple[str, ...]
    reason: str


REQUESTS: Final = (
    RetrainRequest(
        "a learning rate at which nothing is learned",
        ("--model", "lightgbm", "--param", "learning_rate=1e-7"),
        "a fit that must collapse",
    ),
    RetrainRequest(
        "the recipe of the champion, on the bars that were just recorded", ("--model", "lightgbm"), "newer bars"
    ),
)


async def retrain(console: Console, run: Runner, log: Log) -> None:
    """Send the requests, and show the progress and the outcome of each job."""
    console.rule("retraining on recorded bars")
    ledger = TrainingWriter(log)
    for request in REQUESTS:
        output = await run("train", "request", *request.words, "--force", *BY, "--reason", request.reason)
        job = await _watched(console, ledger, output.split()[1])
        if job.report is not None and request is REQUESTS[0]:
            console.print(quality_table(job.report))
        console.print(Text.assemble(f"{request.label}: ", (job.state, "bold"), f"\n  {outcome(job)}"))
    console.print("nothing was promoted: an accepted artifact is in shadow until the gates have enough evidence")


async def _watched(console: Console, ledger: TrainingWriter, name: str) -> Job:
    columns = (TextColumn("{task.description:<48}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("waiting for the trainer", total=None)
        while (job := (await ledger.read())[name]).ended is None:
            at = job.progress
            if at is not None:
                words = f"{job.request.model}: {progress_text(at)}"
                progress.update(bar, description=words, completed=at.number, total=at.of)
            await anyio.sleep(POLL_S)
    return job
