"""Find the verdict that a promotion may name: the newest one for an artifact or a voting policy, if it passed and is
still valid.

Where there are several partitions, it must have passed in each that has scores. A candidate that is not better overall
passes in all of them no more often than in one, so the error rate is kept.
"""

import logging
from collections.abc import Iterable
from typing import Final

from msgspec import structs

from schemas.codec import Envelope
from schemas.common import ENSEMBLE
from schemas.control import Command, Promote, PromotePolicy
from schemas.gates import EvidenceRestarted, GateEvent, VerdictReached
from shared.control import State
from shared.control.policies import champion_of
from shared.gates.policies import digest_of
from shared.log import Entry, Log, StreamKey
from shared.log.events import Unreadable, events_of

NEWEST_EVENTS: Final = 20_000
"""Number of events on ``gates`` that are searched, newest first."""
_log = logging.getLogger(__name__)


class NoVerdict(ValueError):  # noqa: N818  # a result, not an error
    """There is no passing verdict; the message describes the newest one instead."""


async def passing_verdict(log: Log, state: State, model: str, artifact: str) -> str:
    """Return the event id (hexadecimal) of the newest verdict for ``artifact``, if it passed. Raises ``NoVerdict``
    otherwise.

    It must be by the gate policy in force and against the present champion: for the model ``ENSEMBLE``, the voting
    policy in force. Of several partitions it is the first one's verdict."""
    partitions = max(1, state.partitions)
    with_scores = [
        place for place in range(partitions) if partitions == 1 or await log.tail(StreamKey("scores", place), 1)
    ]
    verdicts = [await _passing(log, state, model, artifact, place) for place in with_scores or [0]]
    return verdicts[0]


async def _passing(log: Log, state: State, model: str, artifact: str, partition: int) -> str:
    who = f"{model} {artifact[:12]}" + (f" in partition {partition}" if state.partitions > 1 else "")
    unreadable = Unreadable()
    newest = reversed(await log.tail(StreamKey("gates", partition), NEWEST_EVENTS))
    try:
        return _newest_passing(events_of(newest, unreadable), state, model, artifact, who)
    finally:
        unreadable.log(_log)


def _newest_passing(
    newest: Iterable[tuple[Entry, Envelope[GateEvent]]], state: State, model: str, artifact: str, who: str
) -> str:
    """Search the events of a partition, newest first."""
    champion = champion_of(state, model)
    for _, envelope in newest:
        event = envelope.event
        if getattr(event, "artifact", None) != artifact or getattr(event, "model", None) != model:
            continue
        if isinstance(event, EvidenceRestarted):
            raise NoVerdict(f"{who}: its evidence restarted ({', '.join(event.changed)} changed); wait for a verdict")
        if not isinstance(event, VerdictReached):
            continue
        if event.overall != "passed":
            not_passed = [gate.name for gate in event.gates if gate.verdict != "passed"]
            raise NoVerdict(
                f"{who}: {event.overall} after {event.scores} scores (verdict {envelope.id.hex()}); "
                f"not passed: {', '.join(not_passed)}"
            )
        if event.policy_digest != digest_of(state.gate):
            raise NoVerdict(f"{who}: it passed under another gate policy ({event.policy}); wait for one under this")
        if event.champion != champion:
            kind = "voting policy than the one in force" if model == ENSEMBLE else "champion than the one that votes"
            raise NoVerdict(f"{who}: it passed against another {kind}; wait for a verdict")
        return envelope.id.hex()
    raise NoVerdict(f"{who}: there is no verdict on it; start it in shadow and let it collect scores")


async def with_verdict(log: Log, state: State, command: Command) -> tuple[Command, tuple[str, ...]]:
    """Return a promotion with the verdict that permits it, and the reasons why there is none.

    A verdict that the command names must be the valid one. Forced promotions and other commands are returned
    unchanged."""
    if not isinstance(command, Promote | PromotePolicy) or command.forced:
        return command, ()
    model, artifact = (command.model, command.artifact) if isinstance(command, Promote) else (ENSEMBLE, command.policy)
    try:
        verdict = await passing_verdict(log, state, model, artifact)
    except NoVerdict as why:
        return structs.replace(command, verdict=None), (str(why),)
    if command.verdict not in {None, verdict}:
        return structs.replace(command, verdict=None), (
            f"{model} {artifact[:12]}: verdict {command.verdict} is not the valid one, {verdict}",
        )
    return structs.replace(command, verdict=verdict), ()
