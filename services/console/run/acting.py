"""Read from the newest scores how often the ensemble acts."""

from typing import Final

from schemas.scores import PredictionScored
from shared.log import Log, StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.report import acting
from shared.report.acting import Acting, ActingFold, acting_of

NEWEST: Final = 2_000
"""Scores of each partition that are read: `conclave status` is asked often and must be quick."""


async def recent_acting(log: Log, partitions: range) -> Acting | None:
    """Return how often the ensemble acted in the rounds of the newest scores; None if none has an outcome."""
    state = ActingFold()
    for partition in partitions:
        entries = await log.tail(StreamKey("scores", partition), NEWEST)
        for _, envelope in events_of(entries, reported_elsewhere):
            if isinstance(envelope.event, PredictionScored):
                acting.evolve(state, envelope.event)
    return acting_of(state)
