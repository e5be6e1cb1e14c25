"""What must hold after every step of a simulation, and at its end.

After every step: no event is there twice; stamps never fall along a stream; every stamp is that of a command on the
control stream; a bar, its predictions and its decision have one version; a shadow's ballot is not counted; an intent
belongs to a decision, and is written only while the fence of its partition is open and no halt was accepted; an intent
is traded or refused once, and traded only while the fence is open.

At the end: each bar of the source is there once, in order; has one vector of each feature set, one prediction of each
artifact that was active under its stamp, and one decision; each prediction has one score, or a reason that fits; each
intent was traded or refused;
``verify`` finds nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from schemas.codec import decode
from schemas.decisions import DecisionMade, FenceClosed, FenceOpened
from schemas.features import BarsMissing
from schemas.market import BarClosed
from schemas.orders import IntentRefused, OrderPlaced
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.scores import InterferenceChecked, PredictionScored, PredictionUnscored
from shared.control import ControlReader
from shared.control.state import Past
from shared.log import Entry, StreamKey
from shared.log.memory import MemoryLog
from tests.simulation.artifacts import HORIZON, HOUR, bar_number

Bar = tuple[str, int]


class ViolationError(AssertionError):
    """An invariant does not hold. The message says which, and where."""


class Invariants:
    """The invariants of one log, whose entries are observed one after another. ``halted``: a halt was accepted, and no
    resume was issued since."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.halted = False
        self.restart()

    def restart(self) -> None:
        """Begin again with the entries that the log has: it lost its newest ones."""
        self.control = ControlReader()
        self.halted_versions: set[int] = set()
        self.open = False
        self.bars: dict[Bar, str] = {}
        self.newest: dict[str, int] = {}
        self.vectors: dict[Bar, int] = {}
        self.predicted: dict[tuple[Bar, bytes], bytes] = {}
        self.decided_by_policies: dict[tuple[Bar, bytes], bytes] = {}
        self.decided: dict[Bar, DecisionMade] = {}
        self.issued: dict[str, bool] = {}
        self.traded: dict[str, bool] = {}
        self.scored = Counter[tuple[bytes, bytes]]()
        self.unscored: list[PredictionUnscored] = []
        self.stamps: dict[str, int] = {}
        self.events = Counter[str]()
        for place in ORDER:
            for entry in run(self.log.scan, place, count=1_000_000):
                self._observe(entry, past=True)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Check entries that one request added. Raises ``ViolationError``."""
        for entry in entries:
            self._observe(entry)

    def _observe(self, entry: Entry, past: bool = False) -> None:
        stream = entry.place.stream
        self.events[stream] += 1
        if stream == "control":
            self.control.take(entry.id, entry.data)
            if self.control.state.halted:
                self.halted_versions.add(self.control.state.version)
            else:
                self.halted = False
            return
        if stream not in CHECKS:
            return
        envelope = decode(stream, entry.data)
        CHECKS[stream](self, envelope.event, envelope, past)

    def version(self, version: int) -> Past:
        """Return the configuration of a version. Raises ``ViolationError`` if control has none."""
        if not 1 <= version <= self.control.state.version:
            raise ViolationError(f"version {version} is not on control, which ends at {self.control.state.version}")
        return self.control.state.past[version]

    def _stamp(self, place: str, event: Any) -> Past:
        head = event.control_head if isinstance(event.control_head, str) else event.control_head.hex()
        known = self.version(event.control_version)
        require(known.head == head, f"{place}: the head of {bar_of(event)} is not that of its version")
        former = self.stamps.get(place, 0)
        require(
            event.control_version >= former,
            f"{place}: the stamp falls from {former} to {event.control_version} at {bar_of(event)}",
        )
        self.stamps[place] = event.control_version
        return known

    def market(self, event: BarClosed, _: Any, __: bool) -> None:
        """A bar is written once, and bars are in order."""
        require(event.open_time > self.newest.get(event.symbol, -1), f"market: {bar_of(event)} is there twice, or late")
        self.newest[event.symbol] = event.open_time
        self.bars[key_of(event)] = event.origin

    def features(self, event: Any, _: Any, __: bool) -> None:
        """A vector is written once, for a bar that is there, under a stamp that does not fall."""
        self._stamp("features", event)
        if isinstance(event, BarsMissing):
            return
        require(key_of(event) in self.bars, f"features: there is no bar {bar_of(event)}")
        require(key_of(event) not in self.vectors, f"features: {bar_of(event)} is there twice")
        self.vectors[key_of(event)] = event.control_version

    def predictions(self, event: PredictionMade | PredictionFailed, envelope: Any, _: bool) -> None:
        """An artifact answers a bar once, under the stamp of the bar."""
        name = f"{event.model} {event.artifact.hex()[-2:]}"
        self._stamp(f"predictions of {event.model}", event)
        key = (key_of(event), event.artifact)
        require(key not in self.predicted, f"predictions: {name} answers {bar_of(event)} twice")
        self.predicted[key] = envelope.id if isinstance(event, PredictionMade) else b""
        stamp = self.vectors.get(key_of(event))
        require(stamp == event.control_version, f"predictions: {name} at {bar_of(event)} is not under its bar's stamp")

    def decisions(self, event: Any, envelope: Any, past: bool) -> None:
        """A bar is decided once, under its stamp, by champions. An intent is issued only while that is allowed."""
        if isinstance(event, FenceClosed | FenceOpened):
            self.open = isinstance(event, FenceOpened)
        if not isinstance(event, DecisionMade):
            return
        known = self._stamp(f"decisions of {event.symbol}", event)
        where = f"decisions: {bar_of(event)}"
        require(key_of(event) not in self.decided, f"{where} is decided twice")
        self.decided[key_of(event)] = event
        require(self.vectors.get(key_of(event)) == event.control_version, f"{where} is not decided under its stamp")
        champions = {(model, each.champion) for model, each in known.models.items()}
        for ballot in event.counted:
            require(
                (ballot.model, ballot.artifact) in champions, f"{where}: a ballot of {ballot.model} is no champion's"
            )
        shadows = tuple(each.policy for each in event.candidates or ())
        require(shadows == known.policy_shadows, f"{where}: not every voting policy in shadow has decided")
        for each in event.candidates or ():
            if event.status == each.status == "decided":
                self.decided_by_policies[key_of(event), bytes.fromhex(each.policy)] = envelope.id
        if event.intent == "issued":
            require(event.control_version not in self.halted_versions, f"{where}: an intent in a halted period")
            require(self.open, f"{where}: an intent while the fence is closed")
            require(past or not self.halted, f"{where}: an intent after a halt was accepted")
            self.issued[envelope.id.hex()] = False

    def intents(self, event: Any, envelope: Any, _: bool) -> None:
        """An intent belongs to one decision that issued it."""
        self.traded[envelope.id.hex()] = False
        require(
            self.issued.get(event.decision) is False, f"intents: {bar_of(event)} has no decision, or is there twice"
        )
        self.issued[event.decision] = True

    def orders(self, event: Any, _: Any, past: bool) -> None:
        """An intent is traded or refused once, and traded only while that is allowed."""
        match event:
            case OrderPlaced(cause="intent", order=intent) | IntentRefused(intent=intent):
                where = f"orders: the intent at {bar_of(event)}"
                require(self.traded.get(intent) is False, f"{where} is not there, or has two outcomes")
                self.traded[intent] = True
                if isinstance(event, OrderPlaced):
                    require(past or self.open, f"{where} is traded while the fence is closed")
                    require(past or not self.halted, f"{where} is traded after a halt was accepted")
            case _:
                pass

    def scores(self, event: Any, _: Any, __: bool) -> None:
        """A prediction, and a decision for each voting policy in shadow, has one score, or one reason for none; no
        shadow changed a vote."""
        if isinstance(event, PredictionScored | PredictionUnscored):
            about = event.prediction, event.artifact
            self.scored[about] += 1
            require(self.scored[about] == 1, f"scores: a prediction at {bar_of(event)} is scored twice")
        if isinstance(event, PredictionUnscored):
            self.unscored.append(event)
        if isinstance(event, InterferenceChecked):
            require(event.equal, f"scores: a shadow changed the vote at {bar_of(event)}")

    def end(self, expected: Sequence[BarClosed], *, gaps: bool) -> None:
        """Check what must hold once everything was handled. ``gaps``: bars are missing in the source."""
        missing = [bar_of(bar) for bar in expected if key_of(bar) not in self.bars]
        require(not missing, f"market: lost {', '.join(missing[:5])}")
        require(len(self.bars) == len(expected), "market: has bars that the source does not have")
        for bar in expected:
            self._complete(bar)
        waiting = [each for each, used in self.issued.items() if not used]
        require(not waiting, f"intents: {len(waiting)} decisions issued none")
        lost = sum(not outcome for outcome in self.traded.values())
        require(not lost, f"orders: {lost} intents have no outcome")
        for event in self.unscored:
            require(
                event.reason in {"withheld", "failed", "warming"} or (gaps and event.reason == "gap"),
                f"scores: the prediction of {event.model} at {bar_of(event)} is unscored as {event.reason!r}: "
                f"{event.detail}",
            )
        self._scores_are_complete(expected)

    def _complete(self, bar: BarClosed) -> None:
        key, where = key_of(bar), bar_of(bar)
        require(key in self.vectors, f"features: lost {where}")
        known = self.version(self.vectors[key])
        champions = False
        for model, each in known.models.items():
            for artifact in filter(None, (each.champion, *each.shadows)):
                answered = (key, bytes.fromhex(artifact)) in self.predicted
                require(answered, f"predictions: lost that of {model} {artifact[-2:]} at {where}")
            champions |= each.champion is not None
        require(not champions or key in self.decided, f"decisions: lost {where}")

    def _scores_are_complete(self, expected: Sequence[BarClosed]) -> None:
        """Each prediction whose outcome is known is scored, and each decision for each voting policy in shadow."""
        rank: dict[str, list[int]] = {}
        for bar in expected:
            rank.setdefault(bar.symbol, []).append(bar.open_time)
        for (key, artifact), prediction in (*self.predicted.items(), *self.decided_by_policies.items()):
            times = rank[key[0]]
            outcome_known = times[-1] >= key[1] + HORIZON * HOUR
            if prediction and outcome_known:
                where = f"that of {artifact.hex()[-2:]} at bar {bar_number(key[1])} of {key[0]}"
                require(self.scored[prediction, artifact] == 1, f"scores: {where} is lost")


def require(holds: bool, text: str) -> None:
    """Raise ``ViolationError`` unless something holds."""
    if not holds:
        raise ViolationError(text)


def run(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the result of a call of the log that does not wait."""
    try:
        call(*arguments, **options).send(None)
    except StopIteration as done:
        return done.value
    raise TypeError("the call waits")


def key_of(event: Any) -> Bar:
    """Return what identifies the bar of an event."""
    return event.symbol, event.open_time


def bar_of(event: Any) -> str:
    """Return the bar of an event in words."""
    return f"bar {bar_number(event.open_time)} of {event.symbol}"


CHECKS: dict[str, Callable[[Invariants, Any, Any, bool], None]] = {
    "market": Invariants.market,
    "features": Invariants.features,
    "predictions": Invariants.predictions,
    "decisions": Invariants.decisions,
    "intents": Invariants.intents,
    "orders": Invariants.orders,
    "scores": Invariants.scores,
}
ORDER = tuple(StreamKey(stream) for stream in ("control", *CHECKS))
