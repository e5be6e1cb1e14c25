"""Check each consumer group: whether it runs, moves, keeps up and stays up. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from services.watcher.state import BURST_MS, MINUTE_MS, GroupState, Notice, State, duration, key_of, set_alert
from shared.control import State as Control
from shared.control.serving import WORKER
from shared.log import GroupView

DOWN_MS: Final = 30_000
STUCK_MS: Final = MINUTE_MS
LAGGING_MS: Final = 10 * MINUTE_MS
LAGGING: Final = 1_000
"""Entries of lag, summed over the streams of a group."""
RESTARTS: Final = 5


def is_expected(view: GroupView, control: Control) -> bool:
    """Return whether a group should run. A feed may be at its end, and a worker's model may have no artifact left."""
    if view.group == "feed":
        return False
    service, _, model = view.group.partition(".")
    if service != "model-worker":
        return True
    slot = control.models.get(model)
    return slot is not None and bool(slot.champion or slot.shadows)


def check_group(state: State, now: int, view: GroupView) -> Iterator[Notice]:
    """Return the notices about one group that should run."""
    name = f"{view.group}/{view.partition}"
    group = state.groups.setdefault(name, GroupState(view.epoch))
    group.starts = [at for at in group.starts if now - at < BURST_MS]
    if view.epoch > group.epoch:
        group.starts += [now] * (view.epoch - group.epoch)
        group.epoch = view.epoch
    was_restarting = key_of("restarting", name) in state.standing
    restarting = len(group.starts) >= RESTARTS or (was_restarting and bool(group.starts))
    text = f"{name} started {len(group.starts)} times within ten minutes" if restarting else f"{name} stays up"
    yield from set_alert(state, "restarting", name, text, now, active=restarting)
    group.down = None if view.alive else (group.down if group.down is not None else now)
    down = group.down is not None and now - group.down >= DOWN_MS
    text = f"{name} has had no running owner for {duration(now - (group.down or now))}; the last was {view.owner}"
    yield from set_alert(state, "group-down", name, text if down else f"{name} runs: {view.owner}", now, active=down)
    yield from _check_positions(state, now, view, name, group)


def check_unserved(state: State, now: int, views: Sequence[GroupView], control: Control) -> Iterator[Notice]:
    """Return the notices about voting models that never had a worker in a partition: they have no group there."""
    there = {f"{view.group}/{view.partition}" for view in views}
    for model in control.voting:
        for partition in range(control.partitions):
            name = f"{WORKER}{model}/{partition}"
            if name in there:
                continue
            group = state.groups.setdefault(name, GroupState(epoch=0))
            group.down = group.down if group.down is not None else now
            text = f"{model} votes, and no worker has served it in partition {partition}; bars from files wait for it"
            yield from set_alert(state, "group-down", name, text, now, active=now - group.down >= DOWN_MS)


def _check_positions(state: State, now: int, view: GroupView, name: str, group: GroupState) -> Iterator[Notice]:
    for stream, position in view.positions.items():
        former = group.moved.get(stream)
        if former is None or former[0] != position.id or not view.lag.get(stream):
            group.moved[stream] = (position.id, now)
    stuck = [stream for stream, (_, since) in group.moved.items() if now - since >= STUCK_MS and view.alive]
    unread = ", ".join(f"{view.lag.get(stream, 0)} entries of {stream}" for stream in stuck)
    text = f"{name} has not moved for a minute and has not read {unread}" if stuck else f"{name} moves"
    yield from set_alert(state, "group-stuck", name, text, now, active=bool(stuck))
    lag = sum(view.lag.values())
    group.lagging = (group.lagging if group.lagging is not None else now) if lag >= LAGGING else None
    lagging = group.lagging is not None and now - group.lagging >= LAGGING_MS
    text = f"{name} lags by {lag} entries" + (f", for {duration(now - (group.lagging or now))}" if lagging else "")
    yield from set_alert(state, "group-lagging", name, text, now, active=lagging)
