"""``conclave shadow report``: the evidence about artifacts in shadow, as tables, as JSON, or as a page with charts."""

from pathlib import Path
from typing import Final

import click
from rich.columns import Columns
from rich.console import Console

from schemas.scores import PredictionScored
from services.console.context import asynchronous, settings_of
from services.console.control.membership import shadow
from services.console.evidence.money import show_money
from services.console.evidence.records import entries_in, read_verdicts, recorded_scores
from services.console.output import OUTPUT, echo_json, terminal, terminal_table
from services.console.parsing import NewFile
from services.console.progress import watched_async
from shared.archive import SegmentStore
from shared.archive.location import open_archive
from shared.control import State
from shared.control.issuing import current
from shared.gates.policies import default_policy
from shared.log import Log
from shared.money.recorded import read_money
from shared.report import tables
from shared.report.drawing import require_charts
from shared.report.fold import Shadows, evolve
from shared.report.shadow import page
from shared.report.summary import Report, summarise
from shared.report.text import acting_words, in_force_words, interference_words, origin_words
from shared.runtime.process import reached_log
from shared.voting.in_force import PolicyUses

__all__ = ["report", "shadow"]
NUMBERS: Final = (
    tables.evidence,
    tables.gains,
    tables.calibration,
    tables.confidence,
    tables.actions,
    tables.decided,
    tables.outcomes,
)
"""The tables that the page has under its charts."""


@shadow.command()
@click.option("--model", help="Only the candidates of this model.")
@click.option("--html", type=NewFile(), help="Write the page here.")
@OUTPUT
@click.pass_context
@asynchronous
async def report(context: click.Context, /, model: str | None, html: Path | None, output: str) -> None:
    """Report on the artifacts in shadow: skill over class prior and champion, calibration, agreement, failures, money.

    `--html` writes one self-contained page with charts. Exit code 3 if nothing was scored."""
    settings = settings_of(context)
    if html is not None:
        require_charts()
    async with reached_log(settings, "conclave:console") as log:
        found = await read_report(log, settings.installation.partitions, model, open_archive(settings))
    if html is not None:
        html.write_text(page(found), encoding="utf-8")
        click.echo(f"written: {html}", err=True)
    if output == "json":
        echo_json(found)
    else:
        show(found, terminal())
    if not any(one.rows for one in found.candidates):
        context.exit(3)


async def read_report(log: Log, partitions: int, model: str | None = None, past: SegmentStore | None = None) -> Report:
    """Fold all recorded scores and the money, sealed ones included, and return the report. E-values and intervals use
    the alpha of the policy in force."""
    control, uses = await current(log), PolicyUses()
    state = Shadows(default_policy(control.gate), model)
    scores = recorded_scores(log, partitions, past)
    total = await entries_in(log, "scores", partitions)
    with watched_async(scores, "reading scores", "scores", total) as read:
        async for score in read:
            if score.event is None:
                state.unreadable += 1
            else:
                evolve(state, score.event, score.partition)
                if isinstance(score.event, PredictionScored):
                    _note_policy(uses, control, score.event)
    money = await read_money(log, partitions, model, past=past, watch=watched_async)
    return summarise(state, (await read_verdicts(log, partitions)).newest(), money, uses.found())


def _note_policy(uses: PolicyUses, control: State, score: PredictionScored) -> None:
    version = score.control_version
    if 1 <= version <= control.version:
        uses.note(version, control.past[version].policy, score.open_time)


def show(found: Report, console: Console) -> None:
    """Print the report on a terminal."""
    console.print(origin_words(found.origins), style="" if list(found.origins) == ["live"] else "bold yellow")
    broken = found.interference.equal != found.interference.checked
    console.print(interference_words(found.interference), style="bold red" if broken else "")
    if found.unreadable:
        console.print(f"{found.unreadable} entries of the stream could not be read", style="bold red")
    for sentence in acting_words(found.acting) if found.acting else ():
        console.print(sentence)
    if found.policies:
        console.print(in_force_words(found.policies))
    for title, group in (("in shadow", found.candidates), ("voting", found.members)):
        if group:
            caption = "skill in mnat per row; each bound of an interval is valid at all times, however often you look"
            console.print(terminal_table(tables.overview(title, group), caption))
    if found.money is not None:
        show_money(console, found.money.lines)
    for one in found.candidates:
        if one.rows:
            console.print(terminal_table(tables.facts(one)))
            console.print(Columns([terminal_table(table(one)) for table in NUMBERS]))
        if one.unscored:
            console.print(terminal_table(tables.unscored(one)))
