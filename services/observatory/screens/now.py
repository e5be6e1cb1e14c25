"""The screen Now: is it well? Pure."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct

from schemas.common import Action, Origin
from services.feed.core import finished
from services.observatory.core import State
from services.observatory.screens.proposals import waiting
from services.observatory.series import PARTS, DecisionPoint, MemberPoint, SeriesState, bars_of
from services.watcher.alerts import ALERTS
from shared.control import State as Control
from shared.log import GroupView
from shared.log.leases import id_order
from shared.voting.deadline import is_overdue
from shared.voting.quorum import why_undecidable

PAGE: Final = 48
"""Series on one page."""
SHOWN_NOTICES: Final = 12
SPARK: Final = 60
"""Closes in the line of a card."""

Condition = Literal["halted", "overdue", "no_quorum", "stale", "issued", "hold", "undecided"]
CONDITIONS: Final[tuple[Condition, ...]] = ("no_quorum", "overdue", "stale", "undecided", "halted", "issued", "hold")
"""What a series is in, the most urgent first."""
WORDS: Final[dict[Condition, str]] = {
    "no_quorum": "no quorum",
    "overdue": "overdue",
    "stale": "too old for an intent",
    "undecided": "no decision yet",
    "halted": "halted",
    "issued": "intent issued",
    "hold": "holds",
}


class Member(Struct, frozen=True):
    """A ballot: its action under the action policy, its probabilities of SELL, HOLD and BUY, its weight in the vote and
    its leave-one-out effect. A shadow has neither of the last two."""

    model: str
    artifact: str
    shadow: bool
    action: Action
    sell: float
    hold: float
    buy: float
    weight: float
    effect: float


class AbsentBallot(Struct, frozen=True):
    """A member that did not vote, and why."""

    model: str
    reason: str


class LastDecision(Struct, frozen=True):
    """The last decision of a series. ``latency_ms``: from the bar's entry on the log to the decision's (None: the bar
    is not kept). ``written_at``: when it was written (ms)."""

    id: str
    open_time: int
    written_at: int
    origin: Origin
    version: int
    action: Action
    confidence: float
    sell: float
    hold: float
    buy: float
    consensus: int
    total: int
    closed_by: str
    intent: str
    latency_ms: int | None
    members: tuple[Member, ...]
    absent: tuple[AbsentBallot, ...]


class SeriesNow(Struct, frozen=True):
    """One series: its condition, last decision, price, and what is held of it (``held``, in the base currency; its
    ``worth`` and the gain of the day in quote currency). ``closes``: the last closes, oldest first."""

    name: str
    symbol: str
    interval_ms: int
    synthetic: bool
    condition: Condition
    words: str
    decision: LastDecision | None
    bar_at: int | None
    close: float | None
    closes: tuple[float, ...]
    held: float
    worth: float
    day_gain: float
    late: int


class GroupNow(Struct, frozen=True):
    """A consumer group in one partition: whether it runs, or ``finished`` since all of its source is sent; its owner,
    and the entries that it has not read, by stream."""

    group: str
    partition: int
    alive: bool
    finished: bool
    owner: str
    lag: dict[str, int]

    @property
    def unread(self) -> int:
        """The entries that it has not read."""
        return sum(self.lag.values())


class AlertNow(Struct, frozen=True):
    """An alert that is active, since when (ms), and the name of its runbook."""

    alert: str
    severity: str
    text: str
    since: int


class NoticeNow(Struct, frozen=True):
    """Something that happened: ``kind`` is raised, resolved or reported."""

    alert: str
    kind: str
    severity: str
    text: str
    at: int


class ExchangeNow(Struct, frozen=True):
    """The health of an exchange that bars come from."""

    exchange: str
    usable: bool
    offset_ms: int
    last_interruption: str
    began: int
    stopped: dict[str, str]
    revised: int
    missing: int


class MoneyNow(Struct, frozen=True):
    """Positions and equity by the fills that were recorded and the last closes, in quote currency. ``day`` is the
    beginning (ms) of the UTC day of the last bar, and ``day_gain`` the gain since then. ``begin``: the equity that the
    execution policy names."""

    begin: float
    equity: float
    day: int
    day_gain: float
    gross: float
    positions: int
    fills: int
    fees: float


class StatusNow(Struct, frozen=True):
    """What stands at the top of every page. ``proposals``: how many wait for a second person."""

    now: int
    halted: bool
    undecidable: str
    version: int
    head: str
    open: bool
    reachable: bool
    error: str
    caught_up: bool
    read: int
    alerts: tuple[AlertNow, ...]
    groups_down: int
    proposals: int


class Now(Struct, frozen=True):
    """The whole screen. ``count``: the series that match the filter. ``conditions``: how many of all are in which."""

    status: StatusNow
    conditions: dict[str, int]
    series: tuple[SeriesNow, ...]
    count: int
    page: int
    pages: int
    money: MoneyNow
    groups: tuple[GroupNow, ...]
    exchanges: tuple[ExchangeNow, ...]
    notices: tuple[NoticeNow, ...]
    dead_letters: int
    latency_p50_ms: int | None
    latency_p99_ms: int | None


class Around(Struct, frozen=True):
    """What is known beside the projections: the time, the groups, and whether the server answers."""

    now: int
    views: Sequence[GroupView] = ()
    error: str = ""
    caught_up: bool = True


def status_of(state: State, control: Control, around: Around) -> StatusNow:
    """Return what stands at the top of every page."""
    return StatusNow(
        now=around.now,
        halted=control.halted,
        undecidable=why_undecidable(control),
        version=control.version,
        head=control.head,
        open=control.open,
        reachable=not around.error,
        error=around.error,
        caught_up=around.caught_up,
        read=sum(state.read.values()),
        alerts=tuple(_alerts(state)),
        groups_down=sum(not view.alive and not is_finished(view) for view in around.views),
        proposals=waiting(control, around.now),
    )


def screen(state: State, control: Control, around: Around, *, search: str = "", page: int = 1) -> Now:
    """Return the screen. ``search``: only series whose symbol contains it. Series that need attention come first."""
    conditions = {name: condition_of(series, control, around.now) for name, series in state.series.items()}
    wanted = [name for name, series in state.series.items() if search.casefold() in series.symbol.casefold()]
    wanted.sort(key=lambda name: (_urgency(conditions[name]), name))
    pages = max(1, -(-len(wanted) // PAGE))
    page = min(max(page, 1), pages)
    shown = wanted[(page - 1) * PAGE : page * PAGE]
    counted = {condition: list(conditions.values()).count(condition) for condition in CONDITIONS}
    latencies = sorted(
        latency for series in state.series.values() if (latency := latency_of(series, series.decision)) is not None
    )
    return Now(
        status=status_of(state, control, around),
        conditions={condition: count for condition, count in counted.items() if count},
        series=tuple(series_now(state.series[name], control, around.now, day_of(state)) for name in shown),
        count=len(wanted),
        page=page,
        pages=pages,
        money=money_of(state, control),
        groups=tuple(_groups(around.views)),
        exchanges=tuple(exchanges_of(state)),
        notices=tuple(_notices(state)),
        dead_letters=state.letters.count,
        latency_p50_ms=_quantile(latencies, 0.50),
        latency_p99_ms=_quantile(latencies, 0.99),
    )


def series_now(series: SeriesState, control: Control, now: int, day: int) -> SeriesNow:
    """Return one series. ``day``: the UTC day of which the gain is shown."""
    condition = condition_of(series, control, now)
    close = series.bar.close if series.bar is not None else None
    return SeriesNow(
        name=series.name,
        symbol=series.symbol,
        interval_ms=series.interval_ms,
        synthetic=series.synthetic,
        condition=condition,
        words=WORDS[condition],
        decision=last_decision(series, series.decision) if series.decision is not None else None,
        bar_at=series.bar.open_time + series.interval_ms if series.bar is not None else None,
        close=close,
        closes=tuple(bar.close for bar in bars_of(series, SPARK)),
        held=series.money.held,
        worth=series.money.held * (close or 0.0),
        day_gain=_gain(series) - _gain_before(series, day),
        late=series.late,
    )


def condition_of(series: SeriesState, control: Control, now: int) -> Condition:
    """Return what a series is in."""
    decision = series.decision
    if decision is None:
        return "undecided"
    if decision.status == "no_quorum":
        return "no_quorum"
    if decision.origin == "live" and is_overdue(now, id_order(decision.entry)[0], series.interval_ms):
        return "overdue"
    if control.halted or decision.intent == "halted":
        return "halted"
    match decision.intent:
        case "stale":
            return "stale"
        case "issued":
            return "issued"
        case "hold":
            return "hold"
        case _:
            return "no_quorum"


def last_decision(series: SeriesState, decision: DecisionPoint) -> LastDecision:
    """Return a decision of a series."""
    return LastDecision(
        id=decision.id,
        open_time=decision.open_time,
        written_at=id_order(decision.entry)[0],
        origin=decision.origin,
        version=decision.version,
        action=decision.action,
        confidence=decision.confidence,
        sell=decision.sell / PARTS,
        hold=decision.hold / PARTS,
        buy=decision.buy / PARTS,
        consensus=decision.consensus,
        total=decision.total,
        closed_by=decision.closed_by,
        intent=decision.intent,
        latency_ms=latency_of(series, decision),
        members=tuple(member_of(member) for member in decision.members),
        absent=tuple(AbsentBallot(each.model, each.reason) for each in decision.absent),
    )


def member_of(member: MemberPoint) -> Member:
    """Return a ballot with its probabilities."""
    return Member(
        model=member.model,
        artifact=member.artifact,
        shadow=member.shadow,
        action=member.action,
        sell=member.sell / PARTS,
        hold=member.hold / PARTS,
        buy=member.buy / PARTS,
        weight=member.weight / PARTS,
        effect=member.effect / PARTS,
    )


def latency_of(series: SeriesState, decision: DecisionPoint | None) -> int | None:
    """Return the time (ms) from the last bar's entry on the log to that of its decision; None if the decision is of
    another bar."""
    if decision is None or series.bar is None or series.bar.open_time != decision.open_time:
        return None
    return max(id_order(decision.entry)[0] - id_order(series.bar.entry)[0], 0)


def day_of(state: State) -> int:
    """Return the UTC day of the last bar of all series."""
    return max((series.day for series in state.series.values()), default=0)


def money_of(state: State, control: Control) -> MoneyNow:
    """Return positions and equity."""
    day = day_of(state)
    series = state.series.values()
    gain = sum(_gain(each) for each in series)
    return MoneyNow(
        begin=control.execution.equity,
        equity=control.execution.equity + gain,
        day=day * 86_400_000,
        day_gain=gain - sum(_gain_before(each, day) for each in series),
        gross=sum(abs(each.money.held) * (each.bar.close if each.bar else 0.0) for each in series),
        positions=sum(each.money.held != 0.0 for each in series),
        fills=sum(each.money.fills for each in series),
        fees=sum(each.money.fees for each in series),
    )


def _gain(series: SeriesState) -> float:
    return series.money.cash + series.money.held * (series.bar.close if series.bar is not None else 0.0)


def _gain_before(series: SeriesState, day: int) -> float:
    """Return the gain of a series up to the beginning of a day, at the last close before it."""
    if series.bar is None:
        return 0.0
    cash, held = series.money.before(day)
    return cash + held * (series.day_open if series.day == day else series.bar.close)


def _urgency(condition: Condition) -> int:
    return CONDITIONS.index(condition)


def _alerts(state: State) -> Iterator[AlertNow]:
    standing = sorted(state.alerts.standing.items(), key=lambda each: (_rank(each[0]), -each[1].since, each[0]))
    for key, alert in standing:
        name = key.partition(" ")[0]
        yield AlertNow(name, ALERTS[name].severity, alert.text, alert.since)


def _rank(key: str) -> int:
    return ("critical", "warning", "info").index(ALERTS[key.partition(" ")[0]].severity)


def _notices(state: State) -> Iterator[NoticeNow]:
    for notice in sorted(state.notices, key=lambda each: each.at)[: -SHOWN_NOTICES - 1 : -1]:
        yield NoticeNow(notice.alert, notice.kind, notice.severity, notice.text, notice.at)


def _groups(views: Sequence[GroupView]) -> Iterator[GroupNow]:
    for view in sorted(views, key=lambda each: (each.alive, each.group, each.partition)):
        yield GroupNow(view.group, view.partition, view.alive, is_finished(view), view.owner, dict(view.lag))


def is_finished(view: GroupView) -> bool:
    """Return whether a group does not run and need not: a feed that sent all of its source."""
    return not view.alive and view.group == "feed" and bool(finished(view.memo))


def exchanges_of(state: State) -> Iterator[ExchangeNow]:
    """Yield the exchanges that bars come from."""
    for name, exchange in sorted(state.exchanges.items()):
        length = f"{exchange.cause.replace('_', ' ')} for {exchange.length_ms / 1000:.0f} s" if exchange.cause else ""
        yield ExchangeNow(
            exchange=name,
            usable=exchange.usable,
            offset_ms=exchange.offset_ms,
            last_interruption=length,
            began=exchange.began,
            stopped=exchange.stopped,
            revised=exchange.revised,
            missing=exchange.missing,
        )


def _quantile(values: Sequence[int], share: float) -> int | None:
    return values[min(int(share * len(values)), len(values) - 1)] if values else None
