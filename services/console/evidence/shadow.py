"""``conclave shadow report``: what was watched in shadow, as a table, as JSON, as a page with pictures."""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from schemas.common import ACTIONS
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import OUTPUT
from services.console.control.membership import shadow
from services.console.evidence.records import read_verdicts, recorded_scores
from shared.archive import SegmentStore
from shared.archive.location import open_archive
from shared.control import State
from shared.control.issuing import current
from shared.gates.policies import chosen
from shared.gates.policy import DefaultPolicy
from shared.log import Log
from shared.report.fold import Shadows, evolve
from shared.report.page import page
from shared.report.summary import Candidate, Report, Skill, summarise
from shared.report.svg import moment
from shared.report.text import (
    NONE,
    SHORT,
    champion_words,
    e_words,
    interference_words,
    interval,
    lost_words,
    mnat,
    origin_words,
)
from shared.runtime.process import opened_log

__all__ = ["report", "shadow"]


@shadow.command()
@click.option("--model", help="This model's candidates alone.")
@click.option("--html", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the page here.")
@OUTPUT
@click.pass_context
@asynchronous
async def report(context: click.Context, /, model: str | None, html: Path | None, output: str) -> None:
    """What is known of the artifacts in shadow: skill over prior and champion, calibration, agreement, what failed.

    With `--html`, a page that stands alone, with pictures. Exit code 3 where nothing was scored."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        found = await read_report(log, settings.installation.partitions, model, open_archive(settings))
    if html is not None:
        html.write_text(page(found), encoding="utf-8")
        click.echo(f"written: {html}", err=True)
    if output == "json":
        click.echo(msgspec.json.encode(found).decode())
    else:
        show(found, Console())
    if not any(one.rows for one in found.candidates):
        context.exit(3)


async def read_report(log: Log, partitions: int, model: str | None = None, past: SegmentStore | None = None) -> Report:
    """Folds all recorded scores, those that were sealed too. E-values and intervals are at the alpha of the
    policy in force."""
    state = Shadows(default_policy(await current(log)), model)
    async for found in recorded_scores(log, partitions, past):
        if found.event is None:
            state.unreadable += 1
        else:
            evolve(state, found.event, found.partition)
    return summarise(state, (await read_verdicts(log, partitions)).newest())


def default_policy(state: State) -> DefaultPolicy:
    """The parameters of the policy ``default`` that are in force; its defaults under another policy."""
    thresholds = chosen(state.gate).thresholds
    return thresholds if isinstance(thresholds, DefaultPolicy) else DefaultPolicy()


def show(found: Report, console: Console) -> None:
    """The report on a terminal."""
    console.print(origin_words(found.origins), style="" if list(found.origins) == ["live"] else "bold yellow")
    broken = found.interference.equal != found.interference.checked
    console.print(interference_words(found.interference), style="bold red" if broken else "")
    if found.unreadable:
        console.print(f"{found.unreadable} entries of the stream could not be read", style="bold red")
    for title, group in (("in shadow", found.candidates), ("voting", found.members)):
        if group:
            console.print(overview(title, group))
    for one in found.candidates:
        if one.rows:
            console.print(details(one))


def overview(title: str, candidates: tuple[Candidate, ...]) -> Table:
    """One line a candidate."""
    table = Table(title=f"{title} (skill in mnat a row; each bound of an interval holds whenever one looks)")
    heads = (
        "model",
        "artifact",
        "scores",
        "over prior",
        "E",
        "over champion",
        "E",
        "hits, majority",
        "agrees",
        "unscored",
    )
    for heading in heads:
        table.add_column(heading)
    for one in candidates:
        table.add_row(
            one.model,
            one.artifact[:SHORT],
            f"{one.rows:,}",
            _skill(one.over_prior),
            e_words(one.over_prior.log_e),
            _skill(one.over_champion) if one.over_champion else NONE,
            e_words(one.over_champion.log_e) if one.over_champion else NONE,
            f"{one.hit_rate:.1%}, {one.majority:.1%}",
            NONE if one.agreement is None else f"{one.agreement:.0%}",
            lost_words(one),
        )
    return table


def details(one: Candidate) -> Table:
    """What there is to say of one candidate beside its skill."""
    table = Table("what", "found", title=f"{one.model} {one.artifact[:SHORT]} beside {champion_words(one)}")
    table.add_row("bars", f"{moment(one.since)} to {moment(one.until)} UTC; {origin_words(one.origins)}")
    table.add_row("left out", f"{one.earlier:,} earlier scores in another role or beside another champion")
    table.add_row("late", f"{one.late:,} of {one.rows:,}")
    table.add_row("actions", ", ".join(f"{a} {share:.1%}" for a, share in zip(ACTIONS, one.actions, strict=True)))
    table.add_row("confidence", ", ".join(f"{name} {value:.3f}" for name, value in one.confidence.items()))
    table.add_row("answers", f"{one.distinct:,} different, standard deviation {one.deviation:.4f}")
    table.add_row("log loss", f"{one.log_loss:.4f}, of the class prior {one.prior_log_loss:.4f}; Brier {one.brier:.4f}")
    slopes = ", ".join(
        f"{a} {c.error:.3f}" + ("" if c.slope is None else f" (slope {c.slope:.2f})")
        for a, c in zip(ACTIONS, one.calibration, strict=True)
    )
    table.add_row("calibration error", slopes)
    table.add_row("the ensemble gains", f"{_skill(one.to_ensemble)}; E {e_words(one.to_ensemble.log_e)}")
    for action, row in zip(ACTIONS, one.decided, strict=True):
        shares = ", ".join(f"{other} {count:,}" for other, count in zip(ACTIONS, row, strict=True))
        table.add_row(f"where it says {action}", f"the ensemble decides {shares}")
    table.add_row("its own actions", f"{one.signed_return:+.4%} a row after costs")
    if one.latency_p50_ms is not None:
        table.add_row("latency", f"P50 {one.latency_p50_ms:.1f} ms, P99 {one.latency_p99_ms:.1f} ms")
    for reason, detail in one.details.items():
        table.add_row(f"unscored: {reason}", f"{one.unscored[reason]:,}; the newest says: {detail}")
    if one.verdict is not None:
        event = one.verdict.event
        table.add_row("verdict", f"{event.overall} by {event.policy} ({one.verdict.id[:SHORT]})")
    return table


def _skill(skill: Skill) -> str:
    best = skill.mean if skill.blocks else skill.all_rows
    return f"{mnat(best)}, {interval(skill)}"
