"""When a prediction has its score, and when it never will."""

from collections.abc import Iterator
from typing import Any, Final

from schemas.codec import Envelope, Sealed, seal
from schemas.predictions import PredictionFailed
from schemas.scores import PredictionUnscored, Role, Unscored
from services.shadow_recorder.rounds import LATE, Rounds, Voice
from services.shadow_recorder.scoring import scored
from services.shadow_recorder.state import Feed, Line, State, Waiting
from shared.log.rules import order
from shared.outcomes import Unlabelled

SUMS_WITHIN: Final = 1e-6
UNHEARD: Final = f"no round of its bar, not in use when the round closed, or more than {LATE} bars behind it"
"""One sentence for the three: which of them it was is no longer known once the round is let go."""


def settle(state: State, feed: Feed, voice: Voice, line: Line) -> Iterator[Sealed]:
    """The first in line goes first: scores of one artifact about one symbol come in the order of bars."""
    while line.queue:
        waiting = line.queue[0]
        event = _scored(state, feed, voice, waiting)
        if event is None:
            return
        line.queue.popleft()
        line.settled, line.entry = waiting.open_time, waiting.entry
        yield caused(waiting.envelope, event)


def _scored(state: State, feed: Feed, voice: Voice, waiting: Waiting) -> Any:
    """The score, or why there will be none; None while either may be. Round first, then outcome: so
    the answer does not depend on which of them was read first."""
    panels = state.panels
    envelope = waiting.envelope
    said = envelope.event
    p = said.probabilities
    registered = panels.registered(voice[1])
    if abs(p[0] + p[1] + p[2] - 1.0) > SUMS_WITHIN:
        return unscored(state, envelope, "bad_probabilities", f"they sum to {p[0] + p[1] + p[2]:.6g}")
    if registered.horizon is None or registered.kappa is None:
        return unscored(state, envelope, "unlabelled", "its registration has no horizon and kappa: register it anew")
    joined, late = None, False
    if panels.voted(said.control_version):
        rounds = state.rounds.get((said.symbol, said.interval_ms), Rounds())
        joined = rounds.kept.get(said.open_time)
        event = envelope.id.hex()
        if joined is None:
            if rounds.newest < said.open_time:
                return None
            return unscored(state, envelope, "unheard", UNHEARD)
        if event not in joined.listed:
            if not panels.active(joined.decision.control_version, *voice):
                return unscored(state, envelope, "unheard", UNHEARD)
            late = event in joined.late
            if not late:
                if not rounds.closed(said.open_time, said.interval_ms):
                    return None
                return unscored(state, envelope, "unheard", UNHEARD)
    came = feed.track.outcome(said.open_time, registered.horizon, registered.kappa)
    if isinstance(came, Unlabelled):
        return unscored(state, envelope, "warming" if came.reason == "warming" else "gap", came.detail)
    if came is None:
        return None
    latency = order(waiting.entry)[0] - order(came.entry)[0]
    return scored(panels, said, envelope.id, joined, came, late, max(latency, 0))


def failed(state: State, envelope: Envelope[PredictionFailed]) -> Sealed:
    """There is no answer to score, and the worker said why."""
    event = envelope.event
    reason: Unscored = "withheld" if event.reason == "features_withheld" else "failed"
    return caused(envelope, unscored(state, envelope, reason, f"{event.reason}: {event.detail}".rstrip(": ")))


def given_up(state: State, feed: Feed) -> Iterator[Sealed]:
    """What waits for bars that will not come."""
    for _, line in sorted(feed.lines.items()):
        for waiting in line.queue:
            yield caused(waiting.envelope, unscored(state, waiting.envelope, "gap", "no bar came any more"))


def unscored(state: State, envelope: Envelope[Any], reason: Unscored, detail: str) -> PredictionUnscored:
    """A prediction without a score, for good."""
    said = envelope.event
    return PredictionUnscored(
        said.symbol,
        said.interval_ms,
        said.open_time,
        said.origin,
        said.model,
        said.artifact,
        _role(state, said.control_version, said.model, said.artifact.hex()),
        reason,
        detail[:2000],
        said.control_version,
        envelope.id,
    )


def _role(state: State, version: int, model: str, artifact: str) -> Role:
    return "voting" if state.panels.role(version, model, artifact) else "shadow"


def caused(envelope: Envelope[Any], event: Any) -> Sealed:
    """An event on ``scores`` that followed from another."""
    return seal("scores", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
