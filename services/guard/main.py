"""Run the guard: one process for the installation, which checks the probations once a second."""

import logging
from collections.abc import Mapping
from typing import Final

import anyio

from services.guard import core
from services.guard.core import GROUP, Counted
from shared.control import Probation
from shared.control.issuing import ControlWriter, Issued, RefusedError
from shared.control.signing import Signer
from shared.log import StreamKey, TruncatedLogError
from shared.log.events import Unreadable, events_of
from shared.runtime.loop import opened_loop
from shared.runtime.process import missing_by
from shared.settings import Settings

CHECK_EVERY_S: Final = 1.0
_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event, signer: Signer | None = None) -> None:
    """Revert unconfirmed probations until ``stop``. Commands are signed by ``signer``, if given."""
    async with opened_loop(settings, GROUP) as loop:
        guard = Guard(ControlWriter(loop.log, signer, missing_by(settings, loop.storage)))
        loop.ready()

        async def turn() -> None:
            await loop.read_clock()
            await guard.turn()

        await loop.repeat(turn, CHECK_EVERY_S, stop)


class Guard:
    """Reverts the probations of one installation. ``actor``: the issuer that is recorded in the command."""

    def __init__(self, writer: ControlWriter, actor: str = GROUP) -> None:
        self._writer = writer
        self._actor = actor
        self._refusal = ""
        self._unreadable = Unreadable()

    async def turn(self) -> None:
        """Revert every probation that is over, and log it. The same refusal is logged only once."""
        try:
            for model, issued in (await self.revert()).items():
                _log.warning("%s: its probation was not confirmed; reverted by version %d", model, issued.version)
        except (RefusedError, TruncatedLogError) as error:
            if str(error) != self._refusal:
                _log.error("a probation is over but could not be reverted: %s", error)
            self._refusal = str(error)

    async def revert(self) -> Mapping[str, Issued]:
        """Revert every probation that is over without a confirmation. Return the issued commands by model.

        Raises ``RefusedError`` if a revert is refused, ``ControlError``, ``TruncatedLogError``,
        ``UnavailableError``."""
        done = {}
        state = await self._writer.state()
        for model, probation in sorted(state.probations.items()):
            command = core.handle(await self._count(model, probation, state.partitions), model, probation)
            if command is None:
                continue
            try:
                done[model] = await self._writer.issue(
                    command,
                    actor=self._actor,
                    reason="not confirmed in time",
                    command_id=f"probation-{probation.version}",
                )
            except RefusedError:
                if (await self._writer.state()).probations.get(model) == probation:
                    raise  # otherwise it was confirmed or reverted in the meantime
        return done

    async def _count(self, model: str, probation: Probation, partitions: int) -> Counted:
        """Count the decisions of a probation over all partitions."""
        counted = Counted()
        for partition in range(partitions):
            place, after = StreamKey("decisions", partition), core.replay_from(probation)
            while counted.decisions < probation.decisions and (
                entries := await self._writer.log.scan(place, after=after)
            ):
                after = entries[-1].id
                decisions = [envelope for _, envelope in events_of(entries, self._unreadable)]
                counted = core.apply(counted, model, probation, decisions)
        self._unreadable.log(_log)
        return counted
