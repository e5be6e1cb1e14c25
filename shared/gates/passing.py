"""The verdict that a promotion may name: the newest one on an artifact, if it passed and still holds.

Where there are several partitions, each that has scores must have passed it. A candidate that is no better as a
whole passes all of them no oftener than one, so the error rate stands."""

from typing import Final

from msgspec import structs

from schemas.codec import decode
from schemas.control import Command, Promote
from schemas.gates import EvidenceRestarted, VerdictReached
from shared.control import State
from shared.gates.policies import digest_of
from shared.log import Log, StreamKey

LOOK_BACK: Final = 20_000
"""Events on ``gates`` looked at, newest first."""


class NoVerdict(ValueError):  # noqa: N818  # an answer, not a failure
    """There is no passing verdict. Says what there is instead."""


async def passing_verdict(log: Log, state: State, model: str, artifact: str) -> str:
    """The event id (hexadecimal) of the newest verdict on ``artifact``, if it passed, under the gate
    policy that is in force, against the champion that votes now; of several partitions' that of the first.
    Raises ``NoVerdict`` otherwise."""
    several = max(1, state.partitions)
    places = [place for place in range(several) if several == 1 or await log.tail(StreamKey("scores", place), 1)]
    found = [await _passing(log, state, model, artifact, place) for place in places or [0]]
    return found[0]


async def _passing(log: Log, state: State, model: str, artifact: str, partition: int) -> str:
    who = f"{model} {artifact[:12]}" + (f" in partition {partition}" if state.partitions > 1 else "")
    slot = state.models.get(model)
    for entry in reversed(await log.tail(StreamKey("gates", partition), LOOK_BACK)):
        envelope = decode("gates", entry.data)
        said = envelope.event
        if getattr(said, "artifact", None) != artifact or getattr(said, "model", None) != model:
            continue
        if isinstance(said, EvidenceRestarted):
            raise NoVerdict(f"{who}: its evidence began anew ({', '.join(said.changed)} changed); wait for a verdict")
        if not isinstance(said, VerdictReached):
            continue
        if said.overall != "passed":
            waits = [gate.name for gate in said.gates if gate.verdict != "passed"]
            raise NoVerdict(
                f"{who}: {said.overall} after {said.scores} scores (verdict {envelope.id.hex()}); "
                f"not passed: {', '.join(waits)}"
            )
        if said.policy_digest != digest_of(state.gate):
            raise NoVerdict(f"{who}: it passed under another gate policy ({said.policy}); wait for one under this")
        if said.champion != (slot.champion if slot else None):
            raise NoVerdict(f"{who}: it passed against another champion than the one that votes; wait for a verdict")
        return envelope.id.hex()
    raise NoVerdict(f"{who}: there is no verdict on it; start it in shadow and let it collect scores")


async def with_verdict(log: Log, state: State, command: Command) -> tuple[Command, tuple[str, ...]]:
    """``command`` with the verdict that lets it, where it is a ``Promote`` that is not forced; and why there
    is none. A verdict that it names is held against the one there is. Any other command as it is."""
    if not isinstance(command, Promote) or command.forced:
        return command, ()
    try:
        found = await passing_verdict(log, state, command.model, command.artifact)
    except NoVerdict as why:
        return structs.replace(command, verdict=None), (str(why),)
    if command.verdict not in {None, found}:
        return structs.replace(command, verdict=None), (
            f"{command.model} {command.artifact[:12]}: verdict {command.verdict} is not the one that holds, {found}",
        )
    return structs.replace(command, verdict=found), ()
