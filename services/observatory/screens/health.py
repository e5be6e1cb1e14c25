"""The screen Health: do the services run, and is anything refused or late? Pure."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from services.observatory.core import State
from services.observatory.screens.now import (
    AlertNow,
    Around,
    ExchangeNow,
    exchanges_of,
    is_finished,
    status_of,
)
from shared.control import State as Control
from shared.control.serving import why_unserved
from shared.log import GroupView
from shared.log.leases import id_order


class PositionShown(Struct, frozen=True):
    """How far a group has read a stream: the last entry and its time (ms, 0: none), and the entries after it."""

    stream: str
    entry: str
    at: int
    lag: int


class ServiceShown(Struct, frozen=True):
    """A consumer group in one partition. ``owner`` holds its lease, under the number ``epoch``; ``alive``: the lease
    runs. ``finished``: it does not run and need not."""

    group: str
    partition: int
    alive: bool
    finished: bool
    owner: str
    epoch: int
    lag: int
    positions: tuple[PositionShown, ...]


class LetterShown(Struct, frozen=True):
    """A dead letter. ``retried``: by whom and why its input was appended again; empty if it was not."""

    id: str
    at: int
    partition: int
    service: str
    source: str
    reason: str
    detail: str
    retried: str


class HealthScreen(Struct, frozen=True):
    """The whole screen. ``apart_ms``: how far the clock of this machine is ahead of the server's. ``unserved``: the
    voting models without a worker, in words."""

    now: int
    reachable: bool
    error: str
    apart_ms: int
    running: int
    expected: int
    lag: int
    services: tuple[ServiceShown, ...]
    unserved: tuple[str, ...]
    exchanges: tuple[ExchangeNow, ...]
    letters: tuple[LetterShown, ...]
    letter_count: int
    alerts: tuple[AlertNow, ...]


def screen(state: State, control: Control, around: Around, *, apart_ms: int = 0) -> HealthScreen:
    """Return the screen; services that do not run come first, then those with the most entries left to read."""
    services = sorted(_services(around.views), key=lambda each: (each.alive, -each.lag, each.group, each.partition))
    expected = [each for each in services if not each.finished]
    return HealthScreen(
        now=around.now,
        reachable=not around.error,
        error=around.error,
        apart_ms=apart_ms,
        running=sum(each.alive for each in expected),
        expected=len(expected),
        lag=sum(each.lag for each in services),
        services=tuple(services),
        unserved=tuple(why_unserved(control, around.views)) if control.version else (),
        exchanges=tuple(exchanges_of(state)),
        letters=tuple(reversed([*_letters(state)])),
        letter_count=state.letters.count,
        alerts=status_of(state, control, around).alerts,
    )


def _services(views: Sequence[GroupView]) -> Iterator[ServiceShown]:
    for view in views:
        positions = tuple(
            PositionShown(stream, position.id, id_order(position.id)[0], view.lag.get(stream, 0))
            for stream, position in sorted(view.positions.items())
        )
        yield ServiceShown(
            group=view.group,
            partition=view.partition,
            alive=view.alive,
            finished=is_finished(view),
            owner=view.owner,
            epoch=view.epoch,
            lag=sum(view.lag.values()),
            positions=positions,
        )


def _letters(state: State) -> Iterator[LetterShown]:
    for letter in state.letters.recent:
        yield LetterShown(
            id=letter.id,
            at=letter.at,
            partition=letter.partition,
            service=letter.service,
            source=letter.source,
            reason=letter.reason,
            detail=letter.detail,
            retried=letter.retried,
        )
