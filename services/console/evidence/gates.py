"""``conclave gates [watch | explain | replay]``: what the gates say of each candidate, and why."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple

import anyio
import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.codec import UnreadableError, decode
from schemas.gates import EvidenceRestarted, GateVerdict, Judgement, VerdictReached
from services.console.context import asynchronous, settings_of
from services.console.evidence.contributions import contributions
from services.console.evidence.gate_replay import replay
from services.console.evidence.questions import turns, turns_overall
from services.console.evidence.records import Verdicts, pages, read_verdicts
from services.console.output import COLOURS, OUTPUT, coloured, echo_json, terminal_table
from shared.control import State
from shared.control.issuing import RefusedError, current
from shared.control.state import Model
from shared.gates.catalogue import description
from shared.gates.policies import digest_of
from shared.log import Log, StreamKey
from shared.report.summary import Verdict
from shared.report.tables import bounds, number
from shared.report.tables import gates as gate_rows
from shared.report.text import NONE, SHORT, moment
from shared.runtime.process import opened_log
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


class Standing(NamedTuple):
    """One candidate in one partition, as it stands. ``overall`` is inconclusive without a verdict in force."""

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
    """The newest verdict on each artifact in shadow. Exit code 0 all passed, 1 one failed, 3 not settled.

    Without a subcommand: a table, or `-o json`."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        verdicts, state = await read_verdicts(log, settings.installation.partitions), await current(log)
    found = standings(state, verdicts)
    if output == "json":
        echo_json([_told(one) for one in found])
    else:
        Console().print(tables(found))
    context.exit(code_of([one.overall for one in found]))


@gates.command()
@click.pass_context
def watch(context: click.Context, /) -> None:
    """The same as it changes, until Ctrl-C."""
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
    """What each gate of a verdict asks, where it stands, and what would change it.

    VERDICT is an event id, or its beginning."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        found = await verdict_by(log, settings.installation.partitions, verdict)
    if output == "json":
        echo_json(explained(found))
    else:
        Console().print(explanation(found))


gates.add_command(replay)
gates.add_command(contributions)


def standings(state: State, verdicts: Verdicts) -> list[Standing]:
    """Every artifact in shadow under the present configuration, by model; once a partition that judged it."""
    out = []
    for model, slot in sorted(state.models.items()):
        for artifact in slot.shadows:
            judged = verdicts.standing.get((model, artifact), {})
            if not judged:
                out.append(Standing(model, artifact, 0, "inconclusive", None, "no verdict yet"))
            for partition, found in sorted(judged.items()):
                if found.verdict is None:
                    note = _restarted(found.restarted)
                    out.append(Standing(model, artifact, partition, "inconclusive", None, note))
                    continue
                event = found.verdict.event
                if stale := _stale(event, slot, state):
                    out.append(Standing(model, artifact, partition, "inconclusive", None, stale))
                    continue
                out.append(Standing(model, artifact, partition, event.overall, found.verdict, ""))
    return out


def code_of(outcomes: Sequence[Judgement]) -> int:
    """0 where all passed, 1 where any failed, 3 where it is not settled or there is nothing to judge."""
    if "failed" in outcomes:
        return 1
    return 0 if outcomes and "inconclusive" not in outcomes else 3


async def changing_standings(log: Log, partitions: int, block_ms: int = 1000) -> AsyncGenerator[list[Standing], None]:
    """The standings now, and again after whatever is new on ``gates`` or ``control``."""
    verdicts, state = await read_verdicts(log, partitions), await current(log)
    after = {CONTROL: (await log.extent(CONTROL)).last, **verdicts.after}
    yield standings(state, verdicts)
    while True:
        entries = await log.read(after, count=1000, block_ms=block_ms)
        for entry in entries:
            after[entry.place] = entry.id
            if entry.place != CONTROL:
                verdicts.take(entry)
        if any(entry.place == CONTROL for entry in entries):
            state = await current(log)
        if entries:
            yield standings(state, verdicts)


async def _watch(settings: Settings) -> None:
    async with opened_log(settings, "conclave:console") as log:
        with Live(auto_refresh=False) as live:
            async for found in changing_standings(log, settings.installation.partitions):
                live.update(tables(found), refresh=True)


async def verdict_by(log: Log, partitions: int, prefix: str) -> Verdict:
    """The verdict whose id begins with ``prefix``. Raises ``RefusedError`` where there is not exactly one."""
    found: dict[str, Verdict] = {}
    for partition in range(partitions):
        async for entry in pages(log, StreamKey("gates", partition)):
            try:
                envelope = decode("gates", entry.data)
            except UnreadableError:
                continue
            if isinstance(envelope.event, VerdictReached) and envelope.id.hex().startswith(prefix.lower()):
                found[envelope.id.hex()] = Verdict(envelope.id.hex(), envelope.event)
    if len(found) == 1:
        return next(iter(found.values()))
    these = f": {', '.join(id_[:16] for id_ in list(found)[:5])}" if found else " (`conclave gates` shows the newest)"
    raise RefusedError(f"{len(found)} verdicts have an id that begins with {prefix!r}, expected one{these}")


def tables(found: Sequence[Standing]) -> RenderableType:
    """A table a candidate."""
    if not found:
        return Text("nothing is in shadow: there is nothing to judge (`conclave shadow start` begins it)")
    return Group(*[_table(one) for one in found])


def _table(one: Standing) -> RenderableType:
    name = f"{one.model} {one.artifact[:SHORT]}"
    if one.verdict is None:
        return Text.assemble(f"{name}  ", coloured("inconclusive"), f"  {one.note}")
    event = one.verdict.event
    title = Text.assemble(f"{name}  ", (one.overall, f"bold {COLOURS[one.overall]}"), f" by {event.policy}")
    where = f", partition {one.partition}" if one.partition else ""
    weight = "" if event.recommended_weight is None else f"; it may weigh {event.recommended_weight:.0%}"
    span = f"{event.scores:,} scores, {moment(event.since)} to {moment(event.until)}{where}{weight}"
    table = terminal_table(gate_rows(title.plain, event.gates), f"verdict {one.verdict.id}; {span}")
    table.title = title
    return table


def explanation(verdict: Verdict) -> RenderableType:
    """A verdict gate by gate, for a terminal."""
    told = explained(verdict)
    about = Table(show_header=False, title=f"verdict {verdict.id}", title_justify="left")
    for name in ABOUT:
        about.add_row(name.replace("_", " "), str(told[name]))
    parts: list[RenderableType] = [about]
    for gate in told["gates"]:
        heading = (gate["name"], "bold")
        parts.append(Text.assemble("\n", heading, f" ({gate['kind']}): ", coloured(gate["verdict"])))
        keys = ("asks", "formula", "stands", "detail", "changes")
        parts += [Text(f"  {key:<8} {gate[key]}") for key in keys if gate[key]]
    return Group(*parts)


def explained(verdict: Verdict) -> dict[str, Any]:
    """The same as plain values."""
    event = verdict.event
    return {
        "id": verdict.id,
        "model": event.model,
        "artifact": event.artifact,
        "champion": event.champion or "none",
        "policy": f"{event.policy} ({event.policy_digest[:SHORT]})",
        "overall": event.overall,
        "advice": event.advice or NONE,
        "to_change": turns_overall(event),
        "evidence": f"{event.scores:,} scores of bars from {moment(event.since)} to {moment(event.until)} UTC",
        "between": f"scores {event.first_score} and {event.last_score}",
        "control_version": event.control_version,
        "gates": [_explained(event.policy, gate) for gate in event.gates],
    }


def _explained(policy: str, gate: GateVerdict) -> dict[str, Any]:
    about = description(policy, gate.name)
    held = f"held against {number(gate.threshold)}, on {gate.samples:,} samples"
    interval = "" if bounds(gate) == NONE else f", interval {bounds(gate)}"
    if about.rule == "e-value":
        gain = "" if gate.effect is None else f" {gate.effect:+.4g}"
        interval = f"; mean gain{gain}{interval}"
    return {
        **msgspec.to_builtins(gate),
        "asks": about.question,
        "formula": about.formula,
        "stands": f"{number(gate.value)}, {held}{interval}",
        "changes": turns(policy, gate),
    }


def _told(one: Standing) -> dict[str, Any]:
    said: dict[str, Any] = {**one._asdict(), "verdict": None}
    if one.verdict is not None:
        said |= {"verdict": one.verdict.id, **msgspec.to_builtins(one.verdict.event)}
    return said


def _stale(event: VerdictReached, slot: Model, state: State) -> str:
    """Why a verdict no longer counts, before the gate-evaluator has said so itself; empty: it does."""
    if event.champion != slot.champion:
        champion = (event.champion or "none")[:SHORT]
        return f"its verdict ({event.overall}) was beside champion {champion}, which votes no more"
    if event.policy_digest != digest_of(state.gate):
        return f"its verdict ({event.overall}) was by another gate policy ({event.policy}) than the one in force"
    return ""


def _restarted(event: EvidenceRestarted | None) -> str:
    if event is None:
        return "no verdict yet"
    return f"the evidence began anew ({', '.join(event.changed)} changed; {event.scores:,} scores were let go)"
