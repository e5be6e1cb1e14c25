"""Show training jobs on a terminal."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET
from rich.console import Console
from rich.table import Table

from schemas.control import SetTrainingPolicy
from schemas.training import (
    DataReport,
    Gain,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
)
from services.console.output import coloured, terminal_table
from services.console.training.fit_view import brief, show_fit
from shared.report.tables import symbols
from shared.report.text import moment, revised_words
from shared.training.fits import Fit
from shared.training.jobs import Ended, Job


def policy_words(policy: SetTrainingPolicy) -> str:
    """Return the training policy in one line."""
    causes = [name for name, on in (("drift", policy.on_drift), ("decay", policy.on_decay)) if on]
    if policy.schedule_hours:
        causes.insert(0, f"every {policy.schedule_hours} h")
    stackers = f", a stacker every {policy.stacker_hours} h" if policy.stacker_hours else ""
    return (
        f"retrained {', on '.join(causes) or 'on request'}; cooldown {policy.cooldown_hours} h, at most "
        f"{policy.budget} jobs in seven days, {policy.window_days} days of data"
        f"{', labels from revised bars' if policy.revised_bars is True else ''}{stackers}"
    )


def table_of(jobs: Sequence[Job | Fit]) -> Table:
    """Return a table with a row for each job."""
    table = Table(caption=None if jobs else "no training was requested yet; `conclave train request` requests one")
    for heading in ("job", "requested", "model", "cause", "state", "outcome"):
        table.add_column(heading)
    for job in jobs:
        table.add_row(
            job.id[:8],
            moment(job.request.at),
            job.model,
            job.request.cause,
            coloured(job.state),
            brief(job) if isinstance(job, Fit) else _brief(job),
        )
    return table


def _brief(job: Job) -> str:
    """Return the outcome of a job, short enough for a table."""
    match job.ended:
        case TrainingCompleted(artifact=artifact, gains=gains, shadow=shadow):
            where = "in shadow" if shadow else "registered"
            prior = f"; {_gain(gains[0])}" if gains else ""
            return f"{artifact[:12]} {where}{prior}"
        case TrainingRejected(reason=why) | TrainingFailed(reason=why):
            return why
        case None:
            return outcome(job)


def _gain(gain: Gain) -> str:
    words = f"{gain.value:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}] mnat"
    if gain.moves is UNSET or gain.direction is UNSET:
        return words
    return f"{words} (moves {gain.moves:+.1f}, direction {gain.direction:+.1f})"


def outcome(job: Job) -> str:
    """Return the outcome of a job in one line; its progress if it has not ended."""
    match job.ended:
        case TrainingCompleted(artifact=artifact, gains=gains, shadow=shadow):
            where = "in shadow" if shadow else "registered"
            return f"{artifact[:12]} {where}; " + "; ".join(f"over {gain.over} {_gain(gain)}" for gain in gains)
        case TrainingRejected(reason=reason, evidence=evidence):
            return f"{reason}: {evidence}"
        case TrainingFailed(reason=why, detail=detail):
            return f"{why}: {detail}"
        case None:
            return progress_text(job.progress) if job.progress is not None and job.started is not None else ""


def progress_text(progress: TrainingProgressed) -> str:
    """Return the progress of a job in a few words."""
    if progress.stage != "fitting":
        return progress.stage
    steps = f"{progress.number} of {progress.of}"
    return steps if progress.skill is None else f"{steps}, held-out skill {progress.skill:+.2%}"


def show(console: Console, job: Job | Fit) -> None:
    """Print one job in full."""
    if isinstance(job, Fit):
        show_fit(console, job)
        return
    request = job.request
    by = f"requested by {request.actor} ({request.cause}) {moment(request.at)}: {request.reason}"
    console.print(f"job {job.id}: {request.model}, {job.state}")
    console.print(by)
    console.print(f"recipe: {msgspec.json.encode(request.recipe).decode()}", soft_wrap=True)
    if job.started is not None:
        first, last = moment(job.started.first), moment(job.started.last)
        console.print(f"attempt {job.started.attempt} by {job.started.worker}: bars from {first} to {last}")
    if job.report is not None:
        console.print(quality_table(job.report, taken=job.request.revised_bars))
    if job.ended is not None or job.progress is not None:
        console.print(outcome(job))
    if isinstance(job.ended, TrainingCompleted):
        failed = [check.name for check in job.ended.sanity if not check.passed]
        console.print(
            f"log loss {job.ended.log_loss:.4f} (class prior {job.ended.prior_log_loss:.4f}), "
            f"{job.ended.seconds:.1f} s, {job.ended.peak_mb:.0f} MB; outside the sanity limits: "
            f"{', '.join(failed) or 'nothing'}"
        )


def quality_table(report: DataReport, *, taken: bool = False) -> Table:
    """Return a table about the quality of a data set. ``taken``: whether labels use the later content of bars that were
    revised."""
    classes = "SELL {:.0%} HOLD {:.0%} BUY {:.0%}".format(*report.classes)
    lines = [f"{report.rows:,} rows", classes]
    lines += [revised_words(report, taken=taken)] if report.revised else []
    lines += [f"constant: {', '.join(report.constant)}"] if report.constant else []
    lines += [f"equal: {', '.join('='.join(pair) for pair in report.duplicated)}"] if report.duplicated else []
    lines += [f"drifted since the champion: {report.drift:.0%} of features"] if report.drift is not None else []
    lines += [f"UNFIT: {'; '.join(report.unfit)}"] if report.unfit else []
    return terminal_table(symbols(report), "\n".join(lines))


def outcome_of(ended: Ended) -> str:
    """Return the outcome of a job from its last event."""
    match ended:
        case TrainingCompleted(artifact=artifact):
            return artifact
        case TrainingRejected(reason=reason, evidence=words):
            return f"{reason}: {words}"
        case TrainingFailed(reason=why, detail=words):
            return f"{why}: {words}"
