"""``conclave verify``: recompute what was recorded, and show the first event that differs."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
from services.console.output import OUTPUT, echo_json, terminal
from services.console.parsing import moment_ms
from services.console.progress import watched
from shared.archive import CorruptError
from shared.artifacts import ArtifactStore
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings, merged
from shared.audit.source import EntryRange, Recording, readable
from shared.control import checkpoint
from shared.control.alarmed import AlarmedEntries
from shared.log import START, StreamKey
from shared.runtime.service import Service
from shared.settings import Settings


@click.command()
@click.option("--from", "since", metavar="TIME", help="Compare only what was recorded after this time (ISO 8601).")
@click.option("--to", "until", metavar="TIME", help="Compare only what was recorded until this time.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    type=click.Choice([*KINDS, "all"]),
    default=["all"],
    show_default=True,
    help="Verify only this layer; may be repeated.",
)
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Read only sealed files, not Redis.")
@click.option(
    "--artifacts", type=click.Path(exists=True, file_okay=False), help="Folder of artifacts. Default: the store."
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, help="Number of processes. Default: all cores."
)
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
    """Recompute what was recorded, and show the first event that differs and its layer.

    Exit code 0 everything is the same, 1 something differs, 2 it cannot run, 3 nothing differs but not everything
    could be recomputed."""
    settings = settings_of(context)
    where = where_of(settings, archive, artifacts)
    span = entry_range(since, until)
    kinds = KINDS if "all" in layers else tuple(kind for kind in KINDS if kind in layers)
    findings = verified(where, span, kinds, jobs, settings, quiet=output == "json")
    if output == "json":
        echo_json(as_json(findings))
    else:
        terminal().print(shown(findings))
    context.exit(findings.code)


def verified(
    where: Where,
    span: EntryRange,
    kinds: Sequence[str],
    jobs: int,
    settings: Settings | None = None,
    *,
    quiet: bool = True,
) -> Findings:
    """Return the findings of all checks. ``control`` is checked first: the other checks need its configurations. Only
    entries that exist at the start of the call are read."""
    control = Findings()
    try:
        where = cut(where, settings)
    except CorruptError as error:
        control.differ(Difference("file", "archive", 0, "", "", str(error)))
        return control
    with source_of(where) as source:
        try:
            configurations = Configurations(source, control, alarmed_entries(source, settings))
        except CorruptError as error:
            control.differ(Difference("file", "archive", 0, "", "", str(error)))
            return control
        _compare_with_checkpoints(control, configurations, settings if not where.archive else None)
        if not configurations.states and not control.count:
            control.skip("control: the stream is empty; there is nothing to verify")
        models = tuple(sorted({registered.model for registered in configurations.newest.artifacts.values()}))
        partitions = configurations.newest.partitions or (settings.installation.partitions if settings else 1)
    tasks = list(_tasks(kinds, partitions, models))
    parts = [control, *_run(where, span, tasks, jobs, quiet=quiet)]
    if "control" not in kinds:
        control.checked, control.equal = {}, {}
    return merged(parts)


def _compare_with_checkpoints(findings: Findings, configurations: Configurations, settings: Settings | None) -> None:
    """Compare ``control`` with the checkpoints of this machine. A log that was rewritten as a whole is consistent in
    itself; only a record outside of it shows that it was rewritten."""
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
    """Return the findings of all checks over one source, in this process. ``worker``: returns the worker of a model
    whose artifacts are not in a store."""
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
    with ExitStack() as stack:
        if jobs == 1 or len(tasks) <= 1:
            made = (check(where, span, task) for task in tasks)
        else:
            futures = stack.enter_context(_in_processes(where, span, tasks, jobs))
            made = (future.result() for future in futures)
        return list(made if quiet else stack.enter_context(watched(made, "verifying", "checks", len(tasks))))


@contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal, where this may be said: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _in_processes(where: Where, span: EntryRange, tasks: Sequence[Task], jobs: int) -> Iterator[list[Future[Findings]]]:
    """Start all checks in processes of their own. They ignore Ctrl-C, which this process handles: it ends them."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        with _ignored(signal.SIGINT):  # inherited by what is started meanwhile
            futures = [pool.submit(check, where, span, task) for task in tasks]
        try:
            yield futures
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def check(where: Where, span: EntryRange, task: Task) -> Findings:
    """Return the findings of one check. The process that runs it opens its own source."""
    with source_of(where) as source:
        return checked(source, where, span, task)


def alarmed_entries(source: Recording, settings: Settings | None) -> AlarmedEntries:
    """Return the entries of ``control`` for which a service raised an alarm."""
    entries = AlarmedEntries()
    for partition in range(settings.installation.partitions if settings else 1):
        for read in readable(source, StreamKey("alarms", partition), "configuration", Findings(), EntryRange()):
            if isinstance(read.opened.envelope.event, ControlRefused):
                entries.add(read.opened.envelope.event)
    return entries


def entry_range(since: str | None, until: str | None) -> EntryRange:
    """Return the entries between two times. Raises ``click.BadParameter``."""
    return EntryRange(f"{moment_ms(since)}-0" if since else START, f"{moment_ms(until)}-0" if until else "+")


def as_json(findings: Findings) -> dict[str, Any]:
    """Return the findings as ``-o json`` prints them."""
    return {
        "verdict": {0: "same", 1: "differs", 3: "inconclusive"}[findings.code],
        "first": findings.first,
        "differences": findings.count,
        "shown": findings.differences,
        "checked": findings.checked,
        "equal": findings.equal,
        "tolerated": findings.tolerated,
        "unchecked": findings.unchecked,
        "notes": findings.notes,
    }


def shown(findings: Findings) -> RenderableType:
    """Return the findings for a terminal."""
    table = Table(title="recomputed and compared")
    for heading in ("what", "checked", "equal to the bit", "within tolerance"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, times in findings.checked.items():
        equal, near = findings.equal.get(name, 0), findings.tolerated.get(name, 0)
        colour = "green" if equal == times else "yellow" if equal + near == times else "red"
        table.add_row(name, f"{times:,}", Text(f"{equal:,}", colour), f"{near:,}" if near else "")
    parts: list[RenderableType] = [table]
    for name, style, counted in (("not recomputed", "yellow", findings.unchecked), ("note", "dim", findings.notes)):
        parts += [Text.assemble((f"{name}:", style), f" {times:,} x {what}") for what, times in sorted(counted.items())]
    first = findings.first
    if first is None:
        same = Text("all the same", "green")
        return Group(*parts, same if findings.code == 0 else Text("nothing differs, but see above", "yellow"))
    summary = Text(f"{findings.count:,} differ. The first, in layer {first.layer}:", "bold red")
    return Group(*parts, summary, *_lines(first))


def _lines(first: Difference) -> Iterator[str]:
    where = f"{first.stream}/{first.partition}@{first.entry}" if first.entry else f"{first.stream}/{first.partition}"
    bar = (
        f", {first.symbol} {datetime.fromtimestamp(first.open_time / 1000, UTC)}" if first.open_time is not None else ""
    )
    yield f"  {where}  event {first.event or '-'}{bar}"
    yield f"  {first.detail}"
