"""Training jobs as a terminal shows them."""

import msgspec
from rich.console import Console
from rich.table import Table

from schemas.control import SetTrainingPolicy
from schemas.training import (
    DataReport,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
)
from services.console.output import coloured, terminal_table
from shared.report.tables import symbols
from shared.report.text import moment
from shared.training.jobs import Ended, Job


def policy_words(policy: SetTrainingPolicy) -> str:
    """When models are trained again, in a line."""
    causes = [name for name, on in (("drift", policy.on_drift), ("decay", policy.on_decay)) if on]
    if policy.schedule_hours:
        causes.insert(0, f"every {policy.schedule_hours} h")
    return (
        f"trained again {', on '.join(causes) or 'when asked'}; cooldown {policy.cooldown_hours} h, at most "
        f"{policy.budget} jobs in seven days, {policy.window_days} days of data"
    )


def table_of(jobs: list[Job]) -> Table:
    """Jobs, a row each."""
    table = Table(caption=None if jobs else "no training was ever asked for; `conclave train request` does")
    for heading in ("job", "asked", "model", "cause", "state", "what came of it"):
        table.add_column(heading, no_wrap=heading != "what came of it")
    for job in jobs:
        table.add_row(
            job.id[:8],
            moment(job.request.at),
            job.request.model,
            job.request.cause,
            coloured(job.state),
            _brief(job),
        )
    return table


def _brief(job: Job) -> str:
    """What came of a job, as far as a table has room."""
    match job.ended:
        case TrainingCompleted(artifact=artifact, gains=gains, shadow=shadow):
            where = "in shadow" if shadow else "registered"
            prior = f"; {gains[0].value:+.1f} \\[{gains[0].low:+.1f}, {gains[0].high:+.1f}] mnat" if gains else ""
            return f"{artifact[:12]} {where}{prior}"
        case TrainingRejected(reason=why) | TrainingFailed(reason=why):
            return why
        case None:
            return outcome(job)


def outcome(job: Job) -> str:
    """What came of a job, in a line."""
    match job.ended:
        case TrainingCompleted(artifact=artifact, gains=gains, shadow=shadow):
            where = "in shadow" if shadow else "registered"
            return f"{artifact[:12]} {where}; " + "; ".join(
                f"over {gain.over} {gain.value:+.1f} \\[{gain.low:+.1f}, {gain.high:+.1f}] mnat" for gain in gains
            )
        case TrainingRejected(reason=reason, evidence=evidence):
            return f"{reason}: {evidence}"
        case TrainingFailed(reason=why, detail=detail):
            return f"{why}: {detail}"
        case None:
            return stands(job.progress) if job.progress is not None and job.started is not None else ""


def stands(progress: TrainingProgressed) -> str:
    """How far a job is."""
    if progress.stage != "fitting":
        return progress.stage
    said = f"{progress.number} of {progress.of}"
    return said if progress.skill is None else f"{said}, held-out skill {progress.skill:+.2%}"


def show(console: Console, job: Job) -> None:
    """One job in full."""
    request = job.request
    console.print(f"job {job.id}: {request.model}, {job.state}")
    console.print(f"asked by {request.actor} ({request.cause}) {moment(request.at)}: {request.reason}", markup=False)
    console.print(f"recipe: {msgspec.json.encode(request.recipe).decode()}", soft_wrap=True)
    if job.started is not None:
        first, last = moment(job.started.first), moment(job.started.last)
        console.print(f"attempt {job.started.attempt} by {job.started.worker}: bars from {first} to {last}")
    if job.report is not None:
        console.print(quality_table(job.report))
    if job.ended is not None or job.progress is not None:
        console.print(outcome(job))
    if isinstance(job.ended, TrainingCompleted):
        wrong = [check.name for check in job.ended.sanity if not check.passed]
        console.print(
            f"log loss {job.ended.log_loss:.4f} (class prior {job.ended.prior_log_loss:.4f}), "
            f"{job.ended.seconds:.1f} s, {job.ended.peak_mb:.0f} MB; outside the sanity limits: "
            f"{', '.join(wrong) or 'nothing'}"
        )


def quality_table(report: DataReport) -> Table:
    """What a data set is like."""
    classes = "SELL {:.0%} HOLD {:.0%} BUY {:.0%}".format(*report.classes)
    said = [f"{report.rows:,} rows", classes]
    said += [f"constant: {', '.join(report.constant)}"] if report.constant else []
    said += [f"the same: {', '.join('='.join(pair) for pair in report.duplicated)}"] if report.duplicated else []
    said += [f"drifted since the champion: {report.drift:.0%} of features"] if report.drift is not None else []
    said += [f"UNFIT: {'; '.join(report.unfit)}"] if report.unfit else []
    return terminal_table(symbols(report), "\n".join(said))


def outcome_of(ended: Ended) -> str:
    """What came of it, without a job around it."""
    match ended:
        case TrainingCompleted(artifact=artifact):
            return artifact
        case TrainingRejected(reason=reason, evidence=words):
            return f"{reason}: {words}"
        case TrainingFailed(reason=why, detail=words):
            return f"{why}: {words}"
