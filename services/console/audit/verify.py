"""``conclave verify``: recompute what was recorded, and name the first event that differs."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.progress import Progress
from rich.table import Table

from schemas.operations import ControlRefused
from services.console.audit.tasks import (
    CHECKS,
    KINDS,
    Task,
    Where,
    checked,
    cut,
    predictions,
    source_of,
    where_of,
)
from services.console.context import settings_of
from services.console.output import OUTPUT, echo_json
from services.console.parsing import moment_ms
from shared.archive import CorruptError
from shared.artifacts import ArtifactStore
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings, merged
from shared.audit.source import EntryRange, Recording, readable
from shared.control import checkpoint
from shared.log import START, StreamKey
from shared.runtime.service import Service
from shared.settings import Settings


@click.command()
@click.option("--from", "since", metavar="TIME", help="Compare what was recorded after this time (ISO 8601).")
@click.option("--to", "until", metavar="TIME", help="Compare what was recorded until this time.")
@click.option(
    "--layer", "layers", multiple=True, type=click.Choice([*KINDS, "all"]), default=["all"], show_default=True
)
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Sealed files alone, without Redis.")
@click.option("--artifacts", type=click.Path(exists=True, file_okay=False), help="Artifacts. Default: the store's.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, help="Processes. Default: cores.")
@OUTPUT
@click.pass_context
def verify(
    context: click.Context,
    since: str | None,
    until: str | None,
    layers: Sequence[str],
    archive: str | None,
    artifacts: str | None,
    jobs: int,
    output: str,
) -> None:
    """Recomputes what was recorded, and names the first event that differs, and its layer.

    Exit code 0 all the same, 1 something differs, 2 it cannot run, 3 nothing differs but not everything could be
    recomputed."""
    settings = settings_of(context)
    where = where_of(settings, archive, artifacts)
    span = entry_range(since, until)
    kinds = KINDS if "all" in layers else tuple(kind for kind in KINDS if kind in layers)
    found = verified(where, span, kinds, jobs, settings, quiet=output == "json")
    if output == "json":
        echo_json(told(found))
    else:
        Console().print(shown(found))
    context.exit(found.code)


def verified(
    where: Where,
    span: EntryRange,
    kinds: Sequence[str],
    jobs: int,
    settings: Settings | None = None,
    *,
    quiet: bool = True,
) -> Findings:
    """The findings of all checks, control first: everything else is read by it. What is read is what was there when
    this began."""
    control = Findings()
    try:
        where = cut(where, settings)
    except CorruptError as error:
        control.differ(Difference("file", "archive", 0, "", "", str(error)))
        return control
    with source_of(where) as source:
        try:
            configurations = Configurations(source, control, alarmed(source, settings))
        except CorruptError as error:
            control.differ(Difference("file", "archive", 0, "", "", str(error)))
            return control
        _hold_against_checkpoints(control, configurations, settings if not where.archive else None)
        if not configurations.states and not control.count:
            control.skip("control: the stream is empty; there is nothing to verify")
        models = tuple(sorted({registered.model for registered in configurations.newest.artifacts.values()}))
        partitions = configurations.newest.partitions or (settings.installation.partitions if settings else 1)
    tasks = list(_tasks(kinds, partitions, models))
    parts = [control, *_run(where, span, tasks, jobs, quiet=quiet)]
    if "control" not in kinds:
        control.checked, control.equal = {}, {}
    return merged(parts)


def _hold_against_checkpoints(findings: Findings, configurations: Configurations, settings: Settings | None) -> None:
    """A log that was written again as a whole fits itself; it does not fit what this machine noted of it."""
    if settings is None or not configurations.trusted:
        return
    try:
        checkpoint.check(Path(settings.installation.state) / "checkpoints" / "control.jsonl", configurations.newest)
    except checkpoint.RewrittenError as error:
        findings.differ(Difference("configuration", "control", 0, "", "", str(error)))


def audited(
    source: Recording,
    artifacts: Path,
    kinds: Sequence[str] = KINDS,
    span: EntryRange = EntryRange(),  # noqa: B008  # a plain value
    worker: Callable[[str], Service[Any]] | None = None,
) -> Findings:
    """The findings of all checks over one source, in this process. ``worker``: gives a model's worker, where its
    artifacts are not in a store."""
    control = Findings()
    configurations = Configurations(source, control)
    where = Where("", "", str(artifacts))
    state = configurations.newest
    models = tuple(sorted({registered.model for registered in state.artifacts.values()}))
    parts = [control]
    for task in _tasks(kinds, state.partitions or 1, models):
        if worker is not None and task.kind == "predictions":
            parts.append(predictions(source, configurations, worker(task.model), ArtifactStore(artifacts), span, task))
        else:
            parts.append(CHECKS[task.kind](source, configurations, where, span, task))
    return merged(parts)


def _tasks(kinds: Sequence[str], partitions: int, models: Sequence[str]) -> Iterator[Task]:
    for kind in kinds:
        for partition in range(partitions if kind != "control" else 0):
            if kind == "predictions":
                yield from (Task(kind, partition, model) for model in models)
            else:
                yield Task(kind, partition)


def _run(where: Where, span: EntryRange, tasks: Sequence[Task], jobs: int, *, quiet: bool) -> list[Findings]:
    if jobs == 1 or len(tasks) <= 1:
        return [check(where, span, task) for task in tasks]
    spawn = multiprocessing.get_context("spawn")
    with Progress(disable=quiet, transient=True) as progress, ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        line = progress.add_task("verifying", total=len(tasks))
        futures = [pool.submit(check, where, span, task) for task in tasks]
        found = []
        for future in futures:
            found.append(future.result())
            progress.advance(line)
        return found


def check(where: Where, span: EntryRange, task: Task) -> Findings:
    """One check, in whatever process it is called. What only one layer needs is imported with it."""
    with source_of(where) as source:
        return checked(source, where, span, task)


def alarmed(source: Recording, settings: Settings | None) -> frozenset[str]:
    """Control entries of which an alarm was raised as they came."""
    found = set()
    for partition in range(settings.installation.partitions if settings else 1):
        for read in readable(source, StreamKey("alarms", partition), "configuration", Findings(), EntryRange()):
            if isinstance(read.opened.envelope.event, ControlRefused):
                found.add(read.opened.envelope.event.entry)
    return frozenset(found)


def entry_range(since: str | None, until: str | None) -> EntryRange:
    """Return the entries between two times. Raises ``click.BadParameter``."""
    return EntryRange(f"{moment_ms(since)}-0" if since else START, f"{moment_ms(until)}-0" if until else "+")


def told(found: Findings) -> dict[str, Any]:
    """The findings as JSON."""
    return {
        "verdict": {0: "same", 1: "differs", 3: "inconclusive"}[found.code],
        "first": found.first,
        "differences": found.count,
        "shown": found.differences,
        "checked": found.checked,
        "equal": found.equal,
        "tolerated": found.tolerated,
        "unchecked": found.unchecked,
        "notes": found.notes,
    }


def shown(found: Findings) -> RenderableType:
    """The findings for a terminal."""
    table = Table(title="recomputed and compared")
    for heading in ("what", "checked", "equal to the bit", "within tolerance"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, times in found.checked.items():
        equal, near = found.equal.get(name, 0), found.tolerated.get(name, 0)
        colour = "green" if equal == times else "yellow" if equal + near == times else "red"
        table.add_row(name, f"{times:,}", f"[{colour}]{equal:,}[/]", f"{near:,}" if near else "")
    parts: list[RenderableType] = [table]
    parts += [f"[yellow]not recomputed:[/] {times:,} x {reason}" for reason, times in sorted(found.unchecked.items())]
    parts += [f"[dim]note:[/] {times:,} x {what}" for what, times in sorted(found.notes.items())]
    first = found.first
    if first is None:
        verdict = "[green]all the same[/]" if found.code == 0 else "[yellow]nothing differs, but see above[/]"
        return Group(*parts, verdict)
    return Group(*parts, f"[bold red]{found.count:,} differ. First, in layer {first.layer}:[/]", *_lines(first))


def _lines(first: Difference) -> Iterator[str]:
    where = f"{first.stream}/{first.partition}@{first.entry}" if first.entry else f"{first.stream}/{first.partition}"
    bar = (
        f", {first.symbol} {datetime.fromtimestamp(first.open_time / 1000, UTC)}" if first.open_time is not None else ""
    )
    yield f"  {where}  event {first.event or '-'}{bar}"
    yield f"  {first.detail}"
