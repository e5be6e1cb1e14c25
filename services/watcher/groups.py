"""Groups: whether they run, move, keep up, and stay up. Pure."""

from collections.abc import Iterator
from typing import Final

from services.watcher.state import LIKE_IT_MS, MINUTE_MS, Notice, Seen, State, ago, key_of, stand
from shared.control import State as Control
from shared.log import GroupView

DOWN_MS: Final = 30_000
STUCK_MS: Final = MINUTE_MS
LAGGING_MS: Final = 10 * MINUTE_MS
LAGGING: Final = 1_000
"""Events behind, summed over streams."""
RESTARTS: Final = 5


def expected(view: GroupView, control: Control) -> bool:
    """Whether a group is to run: a feed may be at its end, a worker's model may be gone."""
    if view.group == "feed":
        return False
    service, _, model = view.group.partition(".")
    if service != "model-worker":
        return True
    slot = control.models.get(model)
    return slot is not None and bool(slot.champion or slot.shadows)


def group(state: State, now: int, view: GroupView) -> Iterator[Notice]:
    """What is worth telling of one group that is to run."""
    name = f"{view.group}/{view.partition}"
    seen = state.groups.setdefault(name, Seen(view.epoch))
    seen.starts = [at for at in seen.starts if now - at < LIKE_IT_MS]
    if view.epoch > seen.epoch:
        seen.starts += [now] * (view.epoch - seen.epoch)
        seen.epoch = view.epoch
    stands = len(seen.starts) >= RESTARTS or (key_of("restarting", name) in state.standing and bool(seen.starts))
    text = f"{name} started {len(seen.starts)} times within ten minutes" if stands else f"{name} stays up"
    yield from stand(state, "restarting", name, text, now, stands=stands)
    seen.down = None if view.alive else (seen.down if seen.down is not None else now)
    down = seen.down is not None and now - seen.down >= DOWN_MS
    text = f"{name} has had no living owner for {ago(now - (seen.down or now))}; the last was {view.owner}"
    yield from stand(state, "group-down", name, text if down else f"{name} runs: {view.owner}", now, stands=down)
    yield from _movement(state, now, view, name, seen)


def _movement(state: State, now: int, view: GroupView, name: str, seen: Seen) -> Iterator[Notice]:
    for stream, position in view.positions.items():
        former = seen.moved.get(stream)
        if former is None or former[0] != position.id or not view.lag.get(stream):
            seen.moved[stream] = (position.id, now)
    stuck = [stream for stream, (_, since) in seen.moved.items() if now - since >= STUCK_MS and view.alive]
    behind = ", ".join(f"{view.lag.get(stream, 0)} of {stream}" for stream in stuck)
    text = f"{name} has not moved for a minute, with {behind} to read" if stuck else f"{name} moves"
    yield from stand(state, "group-stuck", name, text, now, stands=bool(stuck))
    lag = sum(view.lag.values())
    seen.lagging = (seen.lagging if seen.lagging is not None else now) if lag >= LAGGING else None
    late = seen.lagging is not None and now - seen.lagging >= LAGGING_MS
    text = f"{name} is {lag} events behind" + (f", for {ago(now - (seen.lagging or now))}" if late else "")
    yield from stand(state, "group-lagging", name, text, now, stands=late)
