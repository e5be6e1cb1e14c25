"""``conclave gates replay``: which promotions another policy would have allowed or stopped."""

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.codec import UNDECODABLE
from schemas.control import SetGatePolicy
from schemas.gates import Judgement
from services.console.context import asynchronous, settings_of
from services.console.evidence.records import Verdicts, entries_in, read_verdicts, recorded_scores
from services.console.evidence.rejudging import Judged, Mark, Replay, Replaying
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.progress import watched_async
from shared.archive import SegmentStore
from shared.archive.location import open_archive
from shared.control import ControlReader
from shared.control.stream import read_control
from shared.gates.policies import Policy, policy_of
from shared.log import Log
from shared.report.text import NONE, SHORT, moment
from shared.runtime.process import reached_log
from shared.runtime.service import Received


@click.command()
@click.option(
    "--policy",
    "named",
    required=True,
    metavar="NAME|FILE",
    help='The name of a policy, or a file with {"name": "default", "parameters": {"alpha": 0.01}}.',
)
@OUTPUT
@click.pass_context
@asynchronous
async def replay(context: click.Context, /, named: str, output: str) -> None:
    """Judge all recorded scores by another policy, and show which promotions it would have allowed or stopped.

    Exit code 0 it allows every promotion that was made (without promotions: it passes every candidate), 1 it stops
    one (fails one), 3 there is nothing to judge."""
    policy = read_policy(named)
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        result = await replayed(log, settings.installation.partitions, policy, open_archive(settings))
        verdicts = await read_verdicts(log, settings.installation.partitions)
    if output == "json":
        echo_json(_as_json(result, verdicts))
    else:
        terminal().print(_shown(result, verdicts))
    context.exit(code_of(result))


class PolicyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A policy in a file, with the fields of ``SetGatePolicy``."""

    name: str
    parameters: dict[str, bool | int | float | str] = {}


def read_policy(named: str) -> Policy:
    """Return the policy with a name, or the one in a file. Raises ``click.BadParameter``."""
    path = Path(named)
    try:
        if not path.is_file():
            return policy_of(SetGatePolicy(named))
        content = msgspec.json.decode(path.read_bytes(), type=PolicyFile)
        return policy_of(SetGatePolicy(content.name, content.parameters))
    except UNDECODABLE as error:
        expected = 'expected {"name": "default", "parameters": {...}}'
        raise click.BadParameter(f"{named}: {expected}; {error}", param_hint="--policy") from None
    except ValueError as error:
        raise click.BadParameter(f"{named}: {error}", param_hint="--policy") from None


async def replayed(log: Log, partitions: int, policy: Policy, past: SegmentStore | None = None) -> Replay:
    """Fold all recorded scores, sealed ones included, under ``policy``."""
    replaying = Replaying(policy, await read_control(log, ControlReader()))
    scores = recorded_scores(log, partitions, past)
    total = await entries_in(log, "scores", partitions)
    with watched_async(scores, "judging recorded scores", "scores", total) as judged:
        async for score in judged:
            if score.envelope is not None:
                replaying.apply(Received("scores", score.entry, score.envelope), score.at)
    return replaying.finish()


def allows(judged: Judged) -> bool | None:
    """Return whether the policy would have allowed a promotion; None if its candidate had no score at that time."""
    return None if judged.mark is None else judged.mark.outcome == "passed"


def code_of(result: Replay) -> int:
    """Return the exit code: 0, 1 or 3 (see ``replay``)."""
    allowed = [answer for one in result.judged if (answer := allows(one)) is not None]
    if allowed:
        return 0 if all(allowed) else 1
    outcomes: list[Judgement] = [one.newest.outcome for one in result.candidates.values() if one.newest]
    if "failed" in outcomes:
        return 1
    return 0 if outcomes and "inconclusive" not in outcomes else 3


def _shown(result: Replay, verdicts: Verdicts) -> RenderableType:
    if not result.candidates and not result.judged:
        return Text("nothing was scored in shadow and nothing was promoted: there is nothing to judge")
    name = result.policy.name
    made = Table(title=f"promotions that were made, judged by policy {name}")
    for heading in ("version", "model", "artifact", "by", "judged", "after", "not passed"):
        made.add_column(heading)
    for one in result.judged:
        promotion, mark = one
        answers = {True: Text("allowed", "green"), False: Text("stopped", "red"), None: Text("no score by then")}
        answer = answers[allows(one)]
        how = f"{promotion.actor}, forced" if promotion.forced else promotion.actor
        open_ = ", ".join(mark.not_passed) if mark and mark.outcome != "passed" else ""
        scores = f"{mark.scores:,} scores" if mark else NONE
        artifact = promotion.artifact[:SHORT]
        made.add_row(str(promotion.version), promotion.model, artifact, how, answer, scores, open_)
    watched = Table(title=f"candidates, judged by policy {name}; in brackets what was recorded")
    for heading in ("model", "artifact", "scores", "at the end", "first passed", "first failed", "restarted"):
        watched.add_column(heading)
    for _, candidate in sorted(result.candidates.items()):
        end = candidate.newest.outcome if candidate.newest else "inconclusive"
        before = verdicts.passed.get((candidate.model, candidate.artifact))
        recorded = f" (recorded: {_moment(before.event.until) if before else 'never'})"
        watched.add_row(
            candidate.model,
            candidate.artifact[:SHORT],
            f"{candidate.scores:,}",
            coloured(end),
            Text.assemble(_mark(candidate.first_passed), (recorded, "dim")),
            _mark(candidate.first_failed),
            f"{candidate.restarts} times",
        )
    return Group(made, watched)


def _mark(mark: Mark | None) -> str:
    return "never" if mark is None else f"{_moment(mark.bar)}, after {mark.scores:,} scores"


def _moment(ms: int) -> str:
    return f"bar {moment(ms)}"


def _as_json(result: Replay, verdicts: Verdicts) -> dict[str, Any]:
    candidates = []
    for _, one in sorted(result.candidates.items()):
        before = verdicts.passed.get((one.model, one.artifact))
        candidates.append(
            {
                "model": one.model,
                "artifact": one.artifact,
                "champion": one.champion,
                "scores": one.scores,
                "restarts": one.restarts,
                "end": one.newest,
                "first_passed": one.first_passed,
                "first_failed": one.first_failed,
                "recorded_first_passed": None if before is None else before.id,
            }
        )
    return {
        "policy": {"name": result.policy.name, "parameters": msgspec.to_builtins(result.policy.thresholds)},
        "scores": result.scores,
        "promotions": [{**one.promotion._asdict(), "allowed": allows(one), "then": one.mark} for one in result.judged],
        "candidates": candidates,
    }
