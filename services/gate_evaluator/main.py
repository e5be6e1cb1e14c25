"""Run the gate-evaluator: host its core, and issue the commands that its events call for."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
import msgspec

from schemas.control import Command, ConfirmPromotion, Rollback, SetWeights, StepWeight
from schemas.gates import ActionDue, WeightsProposed
from services.gate_evaluator.core import GROUP, Evaluator
from shared.control.issuing import ControlWriter, Missing, RefusedError
from shared.control.policies import champion_of
from shared.control.signing import Signer, service_signer
from shared.log import Log, StreamKey, TruncatedLogError, UnavailableError
from shared.log.events import Unreadable, events_of
from shared.log.leases import id_order
from shared.runtime.process import missing_by, opened_log, serve
from shared.settings import Settings

STALE_MS: Final = 3_600_000
"""An event older than this issues no command, since the situation may have changed. It is left to people."""
_log = logging.getLogger(GROUP)


def service() -> Evaluator:
    """Return the core of the gate-evaluator."""
    return Evaluator()


async def run(settings: Settings, partition: int, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Judge until ``stop``, and issue the commands that the gate policy allows. They are signed with the key in
    ``<state>/keys/gate-evaluator.pem``, if there is one."""
    signer = service_signer(Path(settings.installation.state), GROUP)
    async with opened_log(settings, f"conclave:{GROUP}:acts") as log, anyio.create_task_group() as tasks:
        tasks.start_soon(issue_due, log, signer, partition, missing_by(settings))
        await serve(service(), settings, partition, stop, take_over=take_over)
        tasks.cancel_scope.cancel()


async def issue_due(log: Log, signer: Signer | None = None, partition: int = 0, missing: Missing | None = None) -> None:
    """Issue the commands that the events of a partition call for, from an hour before now on, until cancelled.

    A command id is derived from its event, so that each command is issued once, however often this restarts. While
    commands are missing from control nothing is issued: new entries would prevent their restoration."""
    control, gates = ControlWriter(log, signer, missing), StreamKey("gates", partition)
    after, logged, opened, unreadable = "", "", -1, Unreadable()
    while True:
        try:
            await control.state()
            if log.opened != opened:  # the server may have lost what was read, and written other entries
                after, opened = await _stale_until(log, partition), log.opened
            if (reason := control.missing()) is not None:
                if reason != logged:
                    _log.error("nothing is issued: %s", reason)
                logged = reason
                await anyio.sleep(1.0)
                continue
            entries = await log.read({gates: after}, count=1000, block_ms=500)
            for entry, envelope in events_of(entries, unreadable):
                if id_order(entry.id) > id_order(await _stale_until(log, partition)):
                    await issue_for(control, envelope.event, envelope.id.hex())
                after = entry.id
            after = entries[-1].id if entries else after
            unreadable.log(_log)
        except TruncatedLogError as error:
            _log.error("%s", error)
            opened = -1
        except UnavailableError:
            await anyio.sleep(1.0)


async def _stale_until(log: Log, partition: int) -> str:
    """Return the id up to which events are too old, by the clock that gives the ids."""
    return f"{max(await log.time(partition) - STALE_MS, 0)}-0"


async def issue_for(control: ControlWriter, event: object, name: str) -> str:
    """Issue the command that an event calls for, if the policy allows it. Return the result as text; nothing if there
    was nothing to issue."""
    command, reason = _command(event)
    if command is None:
        return ""
    evidence = event.evidence if isinstance(event, ActionDue) else name
    if isinstance(event, ActionDue) and champion_of(await control.state(), event.model) != event.artifact:
        return f"{event.action}: {event.artifact[:12]} is no longer the champion of {event.model}"
    try:
        issued = await control.issue(command, actor=GROUP, reason=reason, command_id=f"gate-{evidence}")
    except (RefusedError, msgspec.ValidationError) as error:
        _log.warning("the command that event %s calls for is refused: %s", name, error)
        return str(error)
    return f"version {issued.version}{', issued before' if issued.repeated else ''}"


def _command(event: object) -> tuple[Command | None, str]:
    match event:
        case ActionDue(acts=True, action="rollback"):
            return Rollback(model=event.model), f"{event.reason}; evidence {event.evidence}"
        case ActionDue(acts=True, action="step_down"):
            return StepWeight(event.model, up=False, automatic=True), f"{event.reason}; evidence {event.evidence}"
        case ActionDue(acts=True, action="confirm_promotion"):
            return ConfirmPromotion(event.model, event.artifact), f"{event.reason}; evidence {event.evidence}"
        case WeightsProposed(acts=True) if any(weight > 0 for weight in event.weights.values()):
            return SetWeights(_normalised(event.weights)), f"weights by results after {event.blocks} blocks"
        case _:
            return None, ""


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights as control accepts them: none below zero, and with the sum one."""
    kept = {name: max(weight, 0.0) for name, weight in weights.items()}
    total = sum(kept.values())
    return {name: weight / total for name, weight in kept.items()}
