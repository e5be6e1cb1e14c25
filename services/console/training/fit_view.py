"""Show fits of a stacker on a terminal."""

from collections.abc import Sequence

from rich.console import Console

from schemas.training import PenaltyTried, PolicyGain, StackerFitted, StackerRejected, TrainingFailed
from services.console.output import terminal_table
from shared.report.tables import TextTable
from shared.report.text import SHORT, moment
from shared.training.fits import Fit


def brief(fit: Fit) -> str:
    """Return the outcome of a fit, short enough for a table; its stage if it has not ended."""
    match fit.ended:
        case StackerFitted() as fitted:
            return f"{fitted.digest[:SHORT]} {_place(fitted)}; {_mnat(fitted.later)}"
        case StackerRejected(reason=why) | TrainingFailed(reason=why):
            return why
        case None:
            return fit.progress.stage if fit.progress is not None and fit.started is not None else ""


def outcome(fit: Fit) -> str:
    """Return the outcome of a fit in one line; its stage if it has not ended."""
    match fit.ended:
        case StackerFitted() as fitted:
            later = fitted.later
            return (
                f"voting policy {fitted.digest[:SHORT]} {_place(fitted)}, fitted on {fitted.rounds:,} rounds under "
                f"penalty {fitted.penalty:g}; over the policy in force on {later.rounds:,} later rounds "
                f"{_mnat(later)}, {later.money:+.2f} bp [{later.money_low:+.2f}, {later.money_high:+.2f}]"
            )
        case StackerRejected(reason=reason, evidence=detail) | TrainingFailed(reason=reason, detail=detail):
            return f"{reason}: {detail}"
        case None:
            return brief(fit)


def show_fit(console: Console, fit: Fit) -> None:
    """Print one fit in full."""
    request = fit.request
    base = f"on {request.base}" if request.base else "on the pool of the policy in force"
    since = "" if request.since is None else f" from {moment(request.since)}"
    until = "" if request.until is None else f" to {moment(request.until)}"
    console.print(f"job {fit.id}: a stacker {base}, {fit.state}")
    console.print(f"requested by {request.actor} ({request.cause}) {moment(request.at)}: {request.reason}")
    console.print(f"fitted on the first {request.share:.0%} of the rounds{since}{until}")
    if fit.started is not None:
        console.print(f"attempt {fit.started.attempt} by {fit.started.worker}")
    if isinstance(fit.ended, StackerFitted | StackerRejected) and fit.ended.tried:
        used = fit.ended.penalty if isinstance(fit.ended, StackerFitted) else None
        console.print(terminal_table(penalties(fit.ended.tried, used)))
    console.print(outcome(fit))
    if isinstance(fit.ended, StackerFitted) and fit.ended.note:
        console.print(f"not in shadow: {fit.ended.note}")


def penalties(tried: Sequence[PenaltyTried], used: float | None) -> TextTable:
    """Return a row for each penalty. The one that was ``used`` is marked."""
    rows = [
        (
            f"{each.penalty:g}",
            f"{each.value:+.2f} [{each.low:+.2f}, {each.high:+.2f}]",
            f"{each.least:+.2f}",
            "used" if each.penalty == used else "",
        )
        for each in tried
    ]
    heads = ("penalty", "mnat", "symbol that gains least", "")
    return TextTable("gain over the pool on later rounds of the fit, by penalty", heads, rows)


def _place(fitted: StackerFitted) -> str:
    return "in shadow" if fitted.shadow else "not in shadow"


def _mnat(gain: PolicyGain) -> str:
    return f"{gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] mnat"
