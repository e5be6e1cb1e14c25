"""``conclave gates [watch | explain | replay]``: the verdict on each candidate, and the reasons for it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple

import anyio
import click
import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.gates import EvidenceRestarted, GateVerdict, Judgement, VerdictReached
from services.console.context import asynchronous, settings_of
from services.console.evidence.contributions import contributions
from services.console.evidence.gate_replay import replay
from services.console.evidence.questions import what_would_change, what_would_change_overall
from services.console.evidence.records import Verdicts, read_verdicts
from services.console.output import COLOURS, OUTPUT, coloured, echo_json, echo_unreadable, terminal, terminal_table
from shared.archive import stream_entries
from shared.control import State
from shared.control.issuing import RefusedError, current
from shared.control.policies import champion_of, in_shadow
from shared.gates.catalogue import description
from shared.gates.policies import digest_of
from shared.log import Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.report.summary import Verdict
from shared.report.tables import bounds, number
from shared.report.tables import gates as gate_rows
from shared.report.text import NONE, SHORT, moment
from shared.runtime.process import reached_log
from shared.settings import Settings

CONTROL: Final = StreamKey("control")
ABOUT: Final = (
    "model",
    "artifact",
    "champion",
    "policy",
    "overall",
    "advice",
    "to_change",
    "evidence",
    "between",
    "control_version",
)


class CandidateStatus(NamedTuple):
    """The status of one candidate in one partition. ``overall`` is inconclusive if no verdict is valid now; ``note`` is
    the reason."""

    model: str
    artifact: str
    partition: int
    overall: Judgement
    verdict: Verdict | None
    note: str


@click.group(invoke_without_command=True)
@OUTPUT
@click.pass_context
@asynchronous
async def gates(context: click.Context, /, output: str) -> None:
    """Show the newest verdict on each artifact in shadow.

    Exit code 0 all passed, 1 one failed, 3 inconclusive, or nothing is in shadow."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        verdicts, state = await read_verdicts(log, settings.installation.partitions), await current(log)
    echo_unreadable(verdicts.unreadable)
    found = statuses(state, verdicts)
    if output == "json":
        echo_json([_as_json(status) for status in found])
    else:
        terminal().print(tables(found))
    context.exit(code_of([status.overall for status in found]))


@gates.command()
@click.pass_context
def watch(context: click.Context, /) -> None:
    """Show the newest verdicts, and update them as they change, until Ctrl-C."""
    try:
        anyio.run(_watch, settings_of(context))
    except KeyboardInterrupt:
        context.exit(0)


@gates.command()
@click.argument("verdict")
@OUTPUT
@click.pass_context
@asynchronous
async def explain(context: click.Context, /, verdict: str, output: str) -> None:
    """Explain a verdict: the question of each gate, its value, and what would change it.

    VERDICT is an event id or its first digits."""
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        found = await verdict_by(log, settings.installation.partitions, verdict)
    if output == "json":
        echo_json(explained(found))
    else:
        terminal().print(explanation(found))


gates.add_command(replay)
gates.add_command(contributions)


def statuses(state: State, verdicts: Verdicts) -> list[CandidateStatus]:
    """Return the status of every artifact in shadow, sorted by model, and of every voting policy in shadow: one for
    each partition that judged it."""
    out = []
    for model, artifact in in_shadow(state):
        judged = verdicts.candidates.get((model, artifact), {})
        if not judged:
            out.append(CandidateStatus(model, artifact, 0, "inconclusive", None, "no verdict yet"))
        for partition, found in sorted(judged.items()):
            if found.verdict is None:
                note = _restarted(found.restarted)
                out.append(CandidateStatus(model, artifact, partition, "inconclusive", None, note))
                continue
            event = found.verdict.event
            if stale := _stale(event, champion_of(state, model), state):
                out.append(CandidateStatus(model, artifact, partition, "inconclusive", None, stale))
                continue
            out.append(CandidateStatus(model, artifact, partition, event.overall, found.verdict, ""))
    return out


def code_of(outcomes: Sequence[Judgement]) -> int:
    """Return 0 if all passed, 1 if one failed, 3 if one is inconclusive or there are none."""
    if "failed" in outcomes:
        return 1
    return 0 if outcomes and "inconclusive" not in outcomes else 3


async def followed_statuses(
    log: Log, partitions: int, block_ms: int = 1000
) -> AsyncGenerator[list[CandidateStatus], None]:
    """Yield the statuses now, and again after every new entry on ``gates`` or ``control``."""
    verdicts, state = await read_verdicts(log, partitions), await current(log)
    after = {CONTROL: (await log.extent(CONTROL)).last, **verdicts.after}
    yield statuses(state, verdicts)
    while True:
        entries = await log.read(after, count=1000, block_ms=block_ms)
        for entry in entries:
            after[entry.place] = entry.id
            if entry.place != CONTROL:
                verdicts.apply(entry)
        if any(entry.place == CONTROL for entry in entries):
            state = await current(log)
        if entries:
            yield statuses(state, verdicts)


async def _watch(settings: Settings) -> None:
    async with reached_log(settings, "conclave:console") as log:
        with Live(console=terminal(), auto_refresh=False) as live:
            async for found in followed_statuses(log, settings.installation.partitions):
                live.update(tables(found), refresh=True)


async def verdict_by(log: Log, partitions: int, prefix: str) -> Verdict:
    """Return the verdict whose id begins with ``prefix``. Raises ``RefusedError`` unless there is exactly one."""
    found: dict[str, Verdict] = {}
    unreadable = Unreadable()
    for partition in range(partitions):
        async for entry in stream_entries(log, StreamKey("gates", partition)):
            for _, envelope in events_of([entry], unreadable):
                if isinstance(envelope.event, VerdictReached) and envelope.id.hex().startswith(prefix.lower()):
                    found[envelope.id.hex()] = Verdict(envelope.id.hex(), envelope.event)
    echo_unreadable(unreadable)
    if len(found) == 1:
        return next(iter(found.values()))
    these = f": {', '.join(id_[:16] for id_ in list(found)[:5])}" if found else " (`conclave gates` shows the newest)"
    raise RefusedError(f"{len(found)} verdicts have an id that begins with {prefix!r}, expected one{these}")


def tables(found: Sequence[CandidateStatus]) -> RenderableType:
    """Return a table for each candidate."""
    if not found:
        return Text("nothing is in shadow: there is nothing to judge (`conclave shadow start` puts an artifact there)")
    return Group(*[_table(status) for status in found])


def _table(status: CandidateStatus) -> RenderableType:
    name = f"{status.model} {status.artifact[:SHORT]}"
    if status.verdict is None:
        return Text.assemble(f"{name}  ", coloured("inconclusive"), f"  {status.note}")
    event = status.verdict.event
    title = Text.assemble(f"{name}  ", (status.overall, f"bold {COLOURS[status.overall]}"), f" by {event.policy}")
    where = f", partition {status.partition}" if status.partition else ""
    weight = "" if event.recommended_weight is None else f"; recommended weight {event.recommended_weight:.0%}"
    span = f"{event.scores:,} scores, {moment(event.since)} to {moment(event.until)}{where}{weight}"
    table = terminal_table(gate_rows(title.plain, event.gates), f"verdict {status.verdict.id}; {span}")
    table.title = title
    return table


def explanation(verdict: Verdict) -> RenderableType:
    """Return the explanation of a verdict, gate by gate, for a terminal."""
    facts = explained(verdict)
    about = Table(show_header=False, title=f"verdict {verdict.id}", title_justify="left")
    for name in ABOUT:
        about.add_row(name.replace("_", " "), str(facts[name]))
    parts: list[RenderableType] = [about]
    for gate in facts["gates"]:
        heading = (gate["name"], "bold")
        parts.append(Text.assemble("\n", heading, f" ({gate['kind']}): ", coloured(gate["verdict"])))
        keys = ("asks", "formula", "stands", "detail", "changes")
        parts += [Text(f"  {key:<8} {gate[key]}") for key in keys if gate[key]]
    return Group(*parts)


def explained(verdict: Verdict) -> dict[str, Any]:
    """Return the explanation of a verdict as ``-o json`` prints it."""
    event = verdict.event
    return {
        "id": verdict.id,
        "model": event.model,
        "artifact": event.artifact,
        "champion": event.champion or "none",
        "policy": f"{event.policy} ({event.policy_digest[:SHORT]})",
        "overall": event.overall,
        "advice": event.advice or NONE,
        "to_change": what_would_change_overall(event),
        "evidence": f"{event.scores:,} scores of bars from {moment(event.since)} to {moment(event.until)} UTC",
        "between": f"scores {event.first_score} and {event.last_score}",
        "control_version": event.control_version,
        "gates": [_explained(event.policy, gate) for gate in event.gates],
    }


def _explained(policy: str, gate: GateVerdict) -> dict[str, Any]:
    about = description(policy, gate.name)
    held = f"compared with {number(gate.threshold)}, on {gate.samples:,} samples"
    interval = "" if bounds(gate) == NONE else f", interval {bounds(gate)}"
    if about.rule == "e-value":
        gain = "" if gate.effect is None else f" {gate.effect:+.4g}"
        interval = f"; mean gain{gain}{interval}"
    return {
        **msgspec.to_builtins(gate),
        "asks": about.question,
        "formula": about.formula,
        "stands": f"{number(gate.value)}, {held}{interval}",
        "changes": what_would_change(policy, gate),
    }


def _as_json(status: CandidateStatus) -> dict[str, Any]:
    facts: dict[str, Any] = {**status._asdict(), "verdict": None}
    if status.verdict is not None:
        facts |= {"verdict": status.verdict.id, **msgspec.to_builtins(status.verdict.event)}
    return facts


def _stale(event: VerdictReached, compared: str | None, state: State) -> str:
    """Return why a verdict is no longer valid, even if the gate-evaluator has not announced it yet; empty if it is."""
    if event.champion != compared:
        champion = (event.champion or "none")[:SHORT]
        return f"its verdict ({event.overall}) compared it with champion {champion}, which no longer votes"
    if event.policy_digest != digest_of(state.gate):
        return f"its verdict ({event.overall}) used another gate policy ({event.policy}) than the one in force"
    return ""


def _restarted(event: EvidenceRestarted | None) -> str:
    if event is None:
        return "no verdict yet"
    return f"the evidence was restarted ({', '.join(event.changed)} changed; {event.scores:,} scores were discarded)"
