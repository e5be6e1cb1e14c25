"""What the bot shows of the projections, by the functions of the observatory's screens. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from schemas.common import ENSEMBLE
from schemas.control import Approve
from services.observatory.core import State
from services.observatory.journal import RecordedVerdict
from services.observatory.screens import now
from services.observatory.screens.now import Around, LastDecision, SeriesNow
from services.observatory.screens.verdicts import verdict_of
from services.observatory.series import SeriesState, decisions_of
from services.phone.core import Show
from services.phone.messages import Line, Reply
from shared.control import Rejected
from shared.control import State as Control
from shared.control.apply import apply
from shared.control.changes import changes, policy_differences, words
from shared.control.policies import champion_of, in_shadow

SHOWN: Final = 8
"""Decisions, positions and verdicts in one answer."""
ALERTS: Final = 5
CHANGES: Final = 12
SHORT: Final = 12
UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"))


class Look(Struct, frozen=True):
    """What there is to show."""

    state: State
    control: Control
    around: Around


def answer(show: Show, look: Look) -> Reply:
    """Return the answer to a question."""
    title, lines = _content(show, look)
    return Reply(show.received.chat, title, (*_reservations(look), *lines))


def _content(show: Show, look: Look) -> tuple[str, list[Line]]:
    match show.topic:
        case "status":
            return _status(look)
        case "equity":
            return _equity(look)
        case "decisions":
            return _decisions(look, show.about)
        case "verdicts":
            return _verdicts(look)
        case "proposals":
            return _proposals(look)


def _reservations(look: Look) -> Iterator[Line]:
    """Yield why what is shown may not be the present state."""
    if look.around.error:
        yield Line("The server of the log does not answer; this is what was read before:", look.around.error)
    elif not look.around.caught_up:
        yield Line("The bot is still reading the streams; this is not complete.")


def _status(look: Look) -> tuple[str, list[Line]]:
    screen = now.screen(look.state, look.control, look.around)
    status = screen.status
    if status.halted:
        title = "HALTED: no intent is written"
    elif status.undecidable or status.alerts or status.groups_down:
        title = "It runs, with what follows"
    else:
        title = "It runs"
    counted = [(screen.conditions.get(condition, 0), now.WORDS[condition]) for condition in now.CONDITIONS]
    series = ", ".join(f"{count} {words}" for count, words in counted if count)
    down = [f"{group.group}/{group.partition}" for group in screen.groups if not group.alive and not group.finished]
    lines = [
        Line("configuration", f"version {status.version} ({status.head[:SHORT]})"),
        Line("series", series or "none"),
        Line("services that do not run" if down else "services", ", ".join(down) or "all run"),
    ]
    lines += [Line("no decision is possible", status.undecidable)] if status.undecidable else []
    if screen.latency_p99_ms is not None:
        lines.append(Line("from bar to decision", f"median {screen.latency_p50_ms} ms, p99 {screen.latency_p99_ms} ms"))
    lines += [Line(f"{alert.alert} ({alert.severity})", alert.text) for alert in status.alerts[:ALERTS]]
    lines += _more(len(status.alerts), ALERTS, "alerts")
    return title, lines


def _equity(look: Look) -> tuple[str, list[Line]]:
    money = now.money_of(look.state, look.control)
    day = f"{datetime.fromtimestamp(money.day / 1000, UTC):%Y-%m-%d}"
    held = [_series_now(series, look) for series in look.state.series.values() if series.money.held]
    held.sort(key=lambda series: -abs(series.worth))
    lines = [
        Line(f"on {day} (UTC)", f"{money.day_gain:+,.2f}"),
        Line("since the beginning", f"{money.equity - money.begin:+,.2f}"),
        Line("positions", f"{money.positions}, gross {money.gross:,.2f}"),
        Line("fills", f"{money.fills}, fees {money.fees:,.2f}"),
        *(Line(each.symbol, f"{each.held:+g}, worth {each.worth:+,.2f}") for each in held[:SHOWN]),
        *_more(len(held), SHOWN, "positions"),
    ]
    return f"Equity {money.equity:,.2f}", lines


def _decisions(look: Look, about: str) -> tuple[str, list[Line]]:
    chosen = [series for series in look.state.series.values() if about.casefold() == series.symbol.casefold()]
    if about and not chosen:
        return "No decisions", [Line("There is no series of the symbol", about)]
    if about:
        found = [(series, now.last_decision(series, each)) for series in chosen for each in decisions_of(series, SHOWN)]
    else:
        found = [
            (series, now.last_decision(series, series.decision))
            for series in look.state.series.values()
            if series.decision is not None
        ]
    found.sort(key=lambda each: -each[1].written_at)
    return ("The last decisions" if found else "No decisions yet"), [_decision(*each) for each in found[:SHOWN]]


def _decision(series: SeriesState, decision: LastDecision) -> Line:
    at = f"{datetime.fromtimestamp((decision.open_time + series.interval_ms) / 1000, UTC):%d %b %H:%M}"
    voted = f"{decision.consensus} of {decision.total} agree"
    absent = f", without {', '.join(each.model for each in decision.absent)}" if decision.absent else ""
    return Line(
        f"{series.symbol} {_length(series.interval_ms)} {at}",
        f"{decision.action} {decision.confidence:.0%}, intent {decision.intent.replace('_', ' ')}; {voted}{absent}",
    )


def _verdicts(look: Look) -> tuple[str, list[Line]]:
    recorded = sorted(look.state.verdicts.values(), key=lambda each: -each.at)
    lines = [line for each in recorded[:SHOWN] for line in _verdict(each, look.control)]
    return ("The newest verdicts" if recorded else "No verdicts yet"), [
        *lines,
        *_more(len(recorded), SHOWN, "verdicts"),
    ]


def _verdict(recorded: RecordedVerdict, control: Control) -> Iterator[Line]:
    event, shown = recorded.event, verdict_of(recorded)
    role = "shadow" if (event.model, event.artifact) in in_shadow(control) else "former"
    if event.artifact == champion_of(control, event.model):
        role = "champion"
    where = f", partition {recorded.partition}" if control.partitions > 1 else ""
    yield Line(
        f"{_judged(event.model, event.artifact, control)} ({role}{where})",
        f"{shown.overall} of {shown.policy} after {shown.scores} scores: {shown.passed} passed, {shown.failed} failed, "
        f"{shown.undecided} inconclusive; {shown.advice}",
    )
    worst = shown.gates[0] if shown.gates else None
    if worst is not None and worst.verdict != "passed":
        yield Line(f"  {worst.name} {worst.verdict}", worst.detail)


def _judged(model: str, artifact: str, control: Control) -> str:
    """Return the name of what a verdict is about; of a voting policy, with what differs from the one in force."""
    known = control.policies.get(artifact) if model == ENSEMBLE else None
    if known is None:
        return f"{model} {artifact[:SHORT]}"
    different = ", ".join(policy_differences(control.policy, known.policy)) or "in force"
    return f"voting policy {artifact[:SHORT]}, {different}"


def _proposals(look: Look) -> tuple[str, list[Line]]:
    rule = look.control.approval
    if not rule.commands:
        return "No command needs a second person", []
    lines = [Line("who approves", " or ".join(rule.approvers))]
    for number, proposal in sorted(look.control.proposals.items())[:SHOWN]:
        lines += [Line(f"proposal {number}", ""), *proposal_lines(look.control, number, look.around.now)]
        if look.around.now < proposal.until:
            lines.append(Line(f"/approve {number} REASON, /refuse {number} REASON"))
    lines += _more(len(look.control.proposals), SHOWN, "proposals")
    return ("What waits for a second person" if look.control.proposals else "No proposal waits"), lines


def proposal_lines(control: Control, number: int, at: int) -> tuple[Line, ...]:
    """Return an open proposal, and what it would change by its own evidence at the time ``at`` (ms)."""
    proposal = control.proposals[number]
    until = f"{datetime.fromtimestamp(proposal.until / 1000, UTC):%d %b %H:%M}"
    after = apply(control, Approve(number, proposal.command), at)
    if isinstance(after, Rejected):
        differences: list[Line] = [Line("it would be refused now", after.reason)]
    else:
        found = [change for change in changes(control, after) if change.what != f"proposal {number}"]
        differences = [Line(change.what, f"{change.before} -> {change.after}") for change in found[:CHANGES]]
        differences += _more(len(found), CHANGES, "changes")
    return (
        Line("what", words(proposal.command)),
        Line("proposed by", proposal.by.person),
        Line("because", proposal.by.reason),
        Line("until (UTC)", until),
        *differences,
    )


def _series_now(series: SeriesState, look: Look) -> SeriesNow:
    return now.series_now(series, look.control, look.around.now, now.day_of(look.state))


def _more(count: int, shown: int, what: str) -> Sequence[Line]:
    return [Line(f"and {count - shown} more {what}")] if count > shown else []


def _length(interval_ms: int) -> str:
    unit, letter = next((each for each in UNITS if interval_ms % each[0] == 0), (1, "ms"))
    return f"{interval_ms // unit}{letter}"
