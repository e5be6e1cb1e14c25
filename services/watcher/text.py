"""The text of the notice about an event that is reported without further state. Pure."""

from typing import Any, Final

from schemas.common import ENSEMBLE
from schemas.gates import ActionDue, GuardTripped, InputsDrifted, SkillDecayed
from schemas.operations import (
    ArchiveFailed,
    ClockStepped,
    ControlRefused,
    DeadLetter,
    GapDetected,
    GroupRecreated,
    InterferenceFound,
    LogTruncated,
    OwnerReplaced,
)
from schemas.orders import IntentRefused, OrderEnded
from schemas.training import StackerFitted, TrainingCompleted, TrainingFailed, TrainingRejected
from schemas.venue import BarRevised, BarsAbsent, ClockMeasured, FeedInterrupted, SymbolResumed, SymbolStopped

CHOSEN: Final = frozenset(
    ("cooldown", "halted", "no_venue", "symbol_cap", "total_cap", "not_live", "no_short", "account_differs")
)
"""Reasons for which a command wants an intent refused, or of which another alert tells. They are counted and not
reported."""
LONG_MS: Final = 60_000
"""An interruption of an exchange that took less is not reported: its bars were read by REST meanwhile."""


def describe(event: Any) -> tuple[str, str, str] | None:
    """Return the alert, the subject and the text for an event; None for an event that no alert is about."""
    match event:
        case DeadLetter():
            text = f"{event.service} refused {event.source}: {event.reason}, {event.detail}"
            return "dead-letters", f"{event.service} {event.reason}", text
        case GuardTripped():
            crossed = f"{event.guard} at {event.value}, limit {event.threshold}"
            text = f"{crossed}: {event.stage} of {event.model}; {event.detail}"
            return "guard-tripped", f"{event.model} {event.guard}", text
        case ActionDue(acts=False):
            return "action-due", f"{event.model} {event.action}", f"{event.action} of {event.model}: {event.reason}"
        case InputsDrifted(drifted=True):
            text = f"{event.share:.0%} of {event.model}'s inputs have drifted: {event.detail}"
            return "inputs-drifted", f"{event.model} {event.artifact[:12]}", text
        case SkillDecayed():
            return "skill-decayed", event.model, f"{event.model} {event.artifact[:12]}: {event.detail}"
        case GapDetected():
            text = f"{event.group} stopped: {event.stream} was trimmed from {event.committed} to {event.oldest}"
            return "gap-detected", f"{event.group} {event.stream}", text
        case GroupRecreated():
            return "group-recreated", event.group, f"{event.group} on {event.stream}, at {event.position}"
        case OwnerReplaced():
            return "owner-replaced", event.group, f"{event.group}: {event.owner} replaced {event.former}"
        case ControlRefused():
            return "control-refused", "", f"entry {event.entry}: {event.reason}; version {event.version} stays in force"
        case LogTruncated():
            text = f"{event.group} had read {event.stream} to {event.expected}, it ends at {event.last}: {event.detail}"
            return "log-truncated", event.stream, text
        case InterferenceFound():
            return "interference-found", "", f"decision {event.decision}: {event.detail}"
        case TrainingCompleted():
            losses = f"log loss {event.log_loss:.4f}, that of the class prior is {event.prior_log_loss:.4f}"
            where = "; it is now in shadow" if event.shadow else ""
            return "retrained", event.model, f"{event.model} has the artifact {event.artifact[:12]}: {losses}{where}"
        case StackerFitted():
            return "retrained", ENSEMBLE, _stacker_text(event)
        case TrainingRejected():
            return "retrain-rejected", event.model, f"{event.model}: {event.reason}; {event.evidence}"
        case TrainingFailed():
            return "retrain-failed", event.model, f"{event.model}: {event.reason}; {event.detail}"
        case IntentRefused() if event.reason not in CHOSEN:
            text = f"{event.symbol}, bar {event.open_time}: {event.reason}, {event.detail}"
            return "intents-refused", event.reason, text
        case OrderEnded(reason="expired"):
            text = f"{event.symbol}: the order expired unfilled, before the bar {event.open_time} opened"
            return "intents-refused", "order expired", text
        case ArchiveFailed():
            return "archive-failed", event.reason, f"{event.reason}: {event.detail}"
        case ClockStepped():
            direction = "forward" if event.by_ms > 0 else "back"
            text = f"the server's clock was set {direction} by {abs(event.by_ms) / 1000:.0f} s: {event.detail}"
            return "clock-stepped", "", text
        case FeedInterrupted(routine=False, length_ms=length_ms) if length_ms >= LONG_MS:
            whom = ", ".join(event.symbols[:5]) or "all symbols"
            text = f"{event.exchange} was {event.cause} for {length_ms / 1000:.0f} s ({whom}): {event.detail}"
            return "feed-interrupted", f"{event.exchange} {event.cause}", text
        case BarsAbsent(reason=reason) if reason != "no_trades":
            text = f"{event.exchange} has no {event.count} bars of {event.symbol} from {event.first} on: {reason}"
            return "bars-absent", f"{event.exchange} {event.symbol}", text
        case BarRevised():
            text = f"{event.exchange} changed {', '.join(event.fields)} of {event.symbol}, bar {event.open_time}"
            return "bar-revised", f"{event.exchange} {event.symbol}", text
        case SymbolStopped():
            text = f"{event.exchange} {event.market} is not read: {event.reason}, {event.detail}"
            return "symbol-stopped", f"{event.exchange} {event.symbol}", text
        case SymbolResumed():
            text = f"{event.exchange} {event.symbol} is read again"
            return "symbol-resumed", f"{event.exchange} {event.symbol}", text
        case ClockMeasured(usable=False):
            text = (
                f"the clock of {event.exchange} is {event.offset_ms / 1000:.1f} s ahead of the server's: {event.detail}"
            )
            return "exchange-clock", event.exchange, text
        case OrderEnded(reason="rejected"):
            text = f"order {event.order} of {event.symbol} was refused: {event.detail or 'without a reason'}"
            return "order-rejected", event.symbol, text
        case _:
            return None


def _stacker_text(made: StackerFitted) -> str:
    gain = f"{made.later.value:+.2f} mnat [{made.later.low:+.2f}, {made.later.high:+.2f}] over the one in force"
    where = "; it is now in shadow" if made.shadow else ""
    return f"a stacker was fitted, voting policy {made.digest[:12]}: {gain}{where}"
