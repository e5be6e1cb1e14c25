"""Run the guard: one process for the installation, which checks probations and accounts once a second."""

import logging
from collections.abc import Mapping
from typing import Final

import anyio

from services.guard import core
from services.guard.core import GROUP, Counted, Difference
from shared.control import Probation
from shared.control.fence import FenceError
from shared.control.issuing import ControlWriter, Issued, RefusedError
from shared.control.signing import Signer
from shared.log import START, StreamKey, TruncatedLogError
from shared.log.events import Unreadable, events_of
from shared.money.venue import exchange_of, venue_of
from shared.runtime.loop import opened_loop
from shared.runtime.process import missing_by
from shared.settings import Settings

CHECK_EVERY_S: Final = 1.0
NEWEST_ORDERS: Final = 10_000
"""Entries of ``orders`` in each partition that are read after a start."""
DETAIL: Final = 1_000
"""Characters of a difference that become part of a halt's reason."""
_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event, signer: Signer | None = None) -> None:
    """Revert unconfirmed probations, and halt for differences, until ``stop``. Commands are signed by ``signer``, if
    given."""
    async with opened_loop(settings, GROUP) as loop:
        guard = Guard(ControlWriter(loop.log, signer, missing_by(settings, loop.storage)))
        loop.ready()

        async def turn() -> None:
            await loop.read_clock()
            await guard.turn()

        await loop.repeat(turn, CHECK_EVERY_S, stop)


class Guard:
    """Reverts the probations of one installation, and halts it. ``actor``: the issuer that is recorded in commands."""

    def __init__(self, writer: ControlWriter, actor: str = GROUP) -> None:
        self._writer = writer
        self._actor = actor
        self._refusals: dict[str, str] = {}
        self._unreadable = Unreadable()
        self._read: dict[int, str] = {}
        self._differences: dict[int, Difference | None] = {}

    async def turn(self) -> None:
        """Halt for every difference, revert every probation that is over, and log it. The same refusal is logged only
        once."""
        try:
            for difference, version in await self.halt():
                _log.error("halted by version %d: %s: %s", version, difference.venue, difference.detail)
        except (RefusedError, FenceError, TruncatedLogError) as error:
            if isinstance(error, TruncatedLogError):
                self._read.clear()
                self._differences.clear()
            self._refused("an account differs from the log, but not everything could be halted", error)
        try:
            for model, issued in (await self.revert()).items():
                _log.warning("%s: its probation was not confirmed; reverted by version %d", model, issued.version)
        except (RefusedError, TruncatedLogError) as error:
            self._refused("a probation is over but could not be reverted", error)

    async def halt(self) -> list[tuple[Difference, int]]:
        """Halt once for every account that differs. Return each difference with the version of its halt.

        Raises ``RefusedError`` if a halt is refused, ``FenceError`` if it is recorded and a fence stayed open,
        ``ControlError``, ``TruncatedLogError``, ``UnavailableError``."""
        done: list[tuple[Difference, int]] = []
        state = await self._writer.state()
        if not exchange_of(venue_of(state.execution)):
            return done
        for partition in range(state.partitions):
            difference = await self._difference(partition)
            command = core.halt_for(difference, await self._writer.state())
            if difference is None or command is None:
                continue
            issued = await self._writer.issue(
                command,
                actor=self._actor,
                reason=f"the account at {difference.venue} differs from the log: {difference.detail[:DETAIL]}",
                command_id=difference.command_id,
            )
            if not issued.repeated:
                done.append((difference, issued.version))
        return done

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

    async def _difference(self, partition: int) -> Difference | None:
        """Return what the last comparison of a partition's account found."""
        place, log = StreamKey("orders", partition), self._writer.log
        entries = [] if partition in self._read else await log.tail(place, NEWEST_ORDERS)
        self._read.setdefault(partition, START)
        while entries or (entries := await log.scan(place, after=self._read[partition])):
            events = [envelope for _, envelope in events_of(entries, self._unreadable)]
            self._differences[partition] = core.compared(self._differences.get(partition), events)
            self._read[partition], entries = entries[-1].id, []
        self._unreadable.log(_log)
        return self._differences.get(partition)

    def _refused(self, what: str, error: Exception) -> None:
        if self._refusals.get(what) != str(error):
            _log.error("%s: %s", what, error)
        self._refusals[what] = str(error)
