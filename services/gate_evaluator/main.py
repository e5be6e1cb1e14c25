"""The shell of the gate-evaluator: hosts the core, and issues the commands that its events ask for."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio

from schemas.codec import decode
from schemas.control import Command, ConfirmPromotion, Rollback, SetWeights, StepWeight
from schemas.gates import ActionDue, WeightsProposed
from services.gate_evaluator.core import GROUP, Evaluator
from shared.control.issuing import ControlWriter, Missing, RefusedError
from shared.control.signing import Signer, load_private
from shared.control.stream import now_ms
from shared.log import Log, StreamKey, TruncatedLogError, UnavailableError
from shared.log.leases import order
from shared.runtime.process import missing_by, opened_log, serve
from shared.settings import Settings

STALE_MS: Final = 3_600_000
"""What asks for a command longer ago than this is left to people: much may have changed."""
KEY_FILE: Final = Path("keys") / f"{GROUP}.pem"
_log = logging.getLogger(GROUP)


def service() -> Evaluator:
    """The evaluator of an installation."""
    return Evaluator()


async def run(settings: Settings, partition: int, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Judges until ``stop``, and acts where the gate policy lets it. Signs with the key in
    ``<state>/keys/gate-evaluator.pem``, if there is one."""
    file = Path(settings.installation.state) / KEY_FILE
    signer = load_private(file, key_id=GROUP) if file.is_file() else None
    async with opened_log(settings, f"conclave:{GROUP}:acts") as log, anyio.create_task_group() as tasks:
        tasks.start_soon(act, log, signer, partition, missing_by(settings))
        await serve(service(), settings, partition, stop, take_over=take_over)
        tasks.cancel_scope.cancel()


async def act(log: Log, signer: Signer | None = None, partition: int = 0, missing: Missing | None = None) -> None:
    """Issues what is due in a partition, from an hour before now on, for ever. Each command has the name of the event
    that asks for it, so that it is issued once however often this begins anew. While commands are missing it waits:
    what it issued would stand in their way."""
    door, gates = ControlWriter(log, signer, missing), StreamKey("gates", partition)
    after, told = f"{max(now_ms() - STALE_MS, 0)}-0", ""
    while True:
        try:
            await door.state()
            if (gone := door.missing()) is not None:
                if gone != told:
                    _log.error("nothing is issued: %s", gone)
                told = gone
                await anyio.sleep(1.0)
                continue
            entries = await log.read({gates: after}, count=1000, block_ms=500)
            for entry in entries:
                envelope = decode("gates", entry.data)
                if now_ms() - order(entry.id)[0] <= STALE_MS:
                    await answer(door, envelope.event, envelope.id.hex())
                after = entry.id
        except TruncatedLogError as error:
            _log.error("%s", error)
            after = f"{max(now_ms() - STALE_MS, 0)}-0"
        except UnavailableError:
            await anyio.sleep(1.0)


async def answer(door: ControlWriter, event: object, name: str) -> str:
    """Issues the command that an event asks for, if the policy lets it. What became of it, in words."""
    command, reason = _command(event)
    if command is None:
        return ""
    evidence = event.evidence if isinstance(event, ActionDue) else name
    if isinstance(event, ActionDue):
        slot = (await door.state()).models.get(event.model)
        if slot is None or slot.champion != event.artifact:
            return f"{event.action}: {event.artifact[:12]} is no longer the champion of {event.model}"
    try:
        issued = await door.issue(command, actor=GROUP, reason=reason, command_id=f"gate-{evidence}")
    except RefusedError as error:
        _log.warning("%s asks for a command that may not stand: %s", name, error)
        return str(error)
    return f"version {issued.version}{', as before' if issued.repeated else ''}"


def _command(event: object) -> tuple[Command | None, str]:
    match event:
        case ActionDue(acts=True, action="rollback"):
            return Rollback(model=event.model), f"{event.reason}; evidence {event.evidence}"
        case ActionDue(acts=True, action="step_down"):
            return StepWeight(event.model, up=False, automatic=True), f"{event.reason}; evidence {event.evidence}"
        case ActionDue(acts=True, action="confirm_promotion"):
            return ConfirmPromotion(event.model, event.artifact), f"{event.reason}; evidence {event.evidence}"
        case WeightsProposed(acts=True):
            return SetWeights(_summing(event.weights)), f"weights by results after {event.blocks} blocks"
        case _:
            return None, ""


def _summing(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as control takes them: none below zero, one in all."""
    kept = {name: max(weight, 0.0) for name, weight in weights.items()}
    total = sum(kept.values())
    return {name: weight / total for name, weight in kept.items()}
