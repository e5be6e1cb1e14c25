"""Operators of a simulation: each command is issued by a process of its own."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from schemas.control import Command, Halt, SetWeights
from services.console.run import recover
from shared.control.issuing import ControlWriter, RefusedError, current
from shared.control.stream import CONTROL, now_ms
from shared.runtime.process import record_of
from tests.simulation.processes import HERE, Life, in_words, opened_log
from tests.simulation.supervisor import Supervisor

RECOVER_S: Final = 3.0
"""So long after the server came back without its last writes, an operator looks at what is missing."""
OPERATOR: Final = "operator"
REASON: Final = "a simulation"


class Operators:
    """The operators of one world."""

    def __init__(self, world: Supervisor) -> None:
        self._world = world

    def issue(self, command: Command) -> Life:
        """Issue a command, and return the process that does so."""
        number = self._world.next_number()
        return self._begin(number, lambda: self._operate(command, f"command-{number}"))

    def recover(self) -> None:
        """Append the commands that the server lost, or give them up; open the fences that the loss closed."""
        self._begin(self._world.next_number(), self._append_or_accept)

    def _begin(self, number: int, work: Callable[[], Coroutine[Any, Any, None]]) -> Life:
        life = Life(OPERATOR, number, HERE)
        self._world.begin(life, work(), self._ended)
        return life

    def _ended(self, life: Life, task: Any) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not life.dead:
            self._world.tell(f"operator: the command fails: {in_words(error)}")

    async def _operate(self, command: Command, command_id: str) -> None:
        name = _command_in_words(command)
        record = record_of(self._world.settings)
        assert record is not None
        async with opened_log(self._world.settings, "operator") as log:
            writer = ControlWriter(log, None, record.why)
            if isinstance(command, SetWeights):
                voting = (await writer.state()).voting
                command = SetWeights(dict.fromkeys(voting, 1 / len(voting)) if voting else {"alpha": 1.0})
            try:
                issued = await writer.issue(command, actor="ada", reason=REASON, command_id=command_id)
            except RefusedError as error:
                self._world.tell(f"operator: {name} is refused: {str(error)[:80]}")
                return
            self._world.tell(f"operator: {name} is accepted as version {issued.version}")
            if isinstance(command, Halt):
                self._world.invariants.halted = self._world.invariants.control.state.halted
            if not issued.repeated:
                entries = await log.tail(CONTROL, 1)
                record.keep([each for each in entries if each.id == f"{issued.version}-0"], issued.state, now_ms())

    async def _append_or_accept(self) -> None:
        record = record_of(self._world.settings)
        assert record is not None
        async with opened_log(self._world.settings, "operator") as log:
            state = await current(log)
            gone = record.missing(state)
            if gone is not None and gone.complete and not gone.replaced:
                await recover._append(log, gone)
                self._world.tell(f"operator: appends the lost commands again: {gone}")
            elif gone is not None:
                record.give_up(gone, state, REASON, now_ms())
                self._world.invariants.halted = state.halted
                self._world.tell(f"operator: gives up the lost commands: {gone}")
            for partition in await recover._open(log, state, REASON):
                self._world.tell(f"operator: opens the fence of partition {partition}")


def _command_in_words(command: Command) -> str:
    """Return a command with what it is about."""
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    about = [str(fields["model"])] if fields.get("model") else []
    about += [str(fields["artifact"])[-2:]] if fields.get("artifact") else []
    return " ".join(["`" + str(type(command).__struct_config__.tag), *about]) + "`"
