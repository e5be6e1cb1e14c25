"""The layer of ballots: each decision against ``predictions``.

Each ballot that a decision names is the one on ``predictions``, made under the decision's own stamp; no bar is decided
twice, none without need is left undecided, no ballot that had come is left out (``shared.audit.closing``), and no
deadline is claimed before its time (``shared.audit.clocks``).
"""

from collections.abc import Iterator

from schemas.decisions import BallotLate, CountedBallot, DecisionMade, ShadowBallot
from schemas.predictions import PredictionFailed, PredictionMade
from shared.audit.clocks import Clocks
from shared.audit.closing import Fault, OpenRounds
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.set_aside import set_aside
from shared.audit.silence import Silence
from shared.audit.source import EntryRange, ReadEvent, Recording, difference, order, readable
from shared.audit.window import Cast, Window
from shared.log import StreamKey
from shared.voting.decision import Series

Found = tuple[Layer, str]
"""The layer of a fault, and a sentence."""


def check_ballots(source: Recording, configurations: Configurations, partition: int, span: EntryRange) -> Findings:
    """Every ballot of every decision of a partition within ``span``."""
    findings = Findings()
    _Check(source, configurations, partition, span, findings).run()
    return findings


class _Check:
    def __init__(
        self, source: Recording, configurations: Configurations, partition: int, span: EntryRange, findings: Findings
    ) -> None:
        self.span, self.findings = span, findings
        self.place = StreamKey("decisions", partition)
        self.reads = readable(source, self.place, "vote", Findings(), span)
        self.rounds = OpenRounds(configurations)
        self.silence = Silence(configurations)
        self.clocks = Clocks(configurations, findings if span.after == "0-0" else Findings())
        self.window = Window(_predictions(source, partition, span, findings), self.rounds.hears, self.rounds.arrived)
        self.stamps: dict[Series, int] = {}

    def run(self) -> None:
        for read in self.reads:
            event = read.found.envelope.event
            if read.found.fault:
                continue
            match event:
                case DecisionMade():
                    self._decision(read, event)
                case BallotLate():
                    self.rounds.late(event.event)
                    cast = self.window.find(event.event, order(read.entry)[0])
                    if cast is None:
                        self._differ(
                            read, "ballot", f"{event.model}'s late ballot {event.event[:12]} is not on predictions"
                        )
                    else:
                        self.rounds.reach(cast.number)
                case _:
                    continue
            for fault in (*self.rounds.undecided(self.window), *self.rounds.unrecorded(self.window)):
                self._tell(read, fault)
        for earlier, detail in (*self.silence.left(), *self.clocks.left()):
            self._differ(earlier, "vote", detail)

    def _decision(self, read: ReadEvent, decision: DecisionMade) -> None:
        series = (decision.symbol, decision.interval_ms)
        decided = self.window.series(series).decided
        if decision.open_time <= decided:
            what = "a second decision on this bar" if decision.open_time == decided else "decided after a later bar"
            self._seen(read, ("vote", what))
            return
        moment = order(read.entry)[0]
        casts: list[Cast] = []
        fault = self._unfounded(decision, moment, casts)
        for cast in casts:
            self.rounds.reach(cast.number)
        stamped = [cast for cast in casts if cast.envelope.event.control_head is not None]
        fault = fault or self._misstamped(series, decision, stamped)
        why = self.rounds.unjustified(decision)
        fault = fault or (("vote", why) if why else None)
        why = self.clocks.fault(read, decision, stamped=bool(stamped))
        fault = fault or (("vote", why) if why else None)
        passed = self.silence.judge(self.window, read, decision, moment)
        for found in self.rounds.close(self.window, decision):
            if found.missing:
                self._tell(read, found)
            else:
                fault = ("vote", found.detail)
        self._seen(read, fault)
        for earlier, detail in (*passed, *self.clocks.deadlines(read, decision)):
            self._differ(earlier, "vote", detail)

    def _seen(self, read: ReadEvent, fault: Found | None) -> None:
        if self.span.holds(read.entry):
            self.findings.see("ballots", equal=fault is None)
            if fault is not None:
                self._differ(read, *fault)

    def _misstamped(self, series: Series, decision: DecisionMade, stamped: list[Cast]) -> Found | None:
        """A decision is made under the stamp of its ballots, and stamps never fall."""
        before, self.stamps[series] = self.stamps.get(series, 0), decision.control_version
        for cast in stamped:
            event = cast.envelope.event
            under = (event.control_version, event.control_head.hex())
            if under != (decision.control_version, decision.control_head):
                said = f"{decision.control_version} {decision.control_head[:12]}"
                return (
                    "vote",
                    f"made under version {said}; its ballot {cast.event[:12]} under {under[0]} {under[1][:12]}",
                )
        if stamped and decision.control_version < before:
            return "vote", f"made under version {decision.control_version}, after a decision under {before}"
        return None

    def _unfounded(self, decision: DecisionMade, moment: int, casts: list[Cast]) -> Found | None:
        """A ballot in the decision that is not the one on ``predictions``. Those that are there go into ``casts``."""
        named: tuple[CountedBallot | ShadowBallot, ...] = (*decision.counted, *decision.shadow)
        fault: Found | None = None
        for ballot in named:
            found = self.window.find(ballot.event, moment)
            if found is None:
                fault = fault or ("ballot", f"{ballot.model}'s ballot {ballot.event[:12]} is not on predictions")
                continue
            casts.append(found)
            event = found.envelope.event
            about = (ballot.model, ballot.artifact, decision.symbol, decision.interval_ms, decision.open_time)
            if not isinstance(event, PredictionMade) or event.probabilities != ballot.probabilities:
                fault = fault or (
                    "vote",
                    f"{ballot.model}'s ballot {ballot.event[:12]} says another thing on predictions",
                )
            elif about != (*found.voice, event.symbol, event.interval_ms, event.open_time):
                fault = fault or (
                    "vote",
                    f"{ballot.model}'s ballot {ballot.event[:12]} is about another bar or artifact",
                )
        for absent in decision.absent:
            if absent.event is None:
                continue
            found = self.window.find(absent.event, moment)
            if found is None:
                fault = fault or ("ballot", f"{absent.model}'s failure {absent.event[:12]} is not on predictions")
                continue
            casts.append(found)
            event = found.envelope.event
            if isinstance(event, PredictionFailed) and not absent.reason.startswith(event.reason):
                detail = f"{absent.model} failed with {event.reason}; the decision says {absent.reason}"
                fault = fault or ("vote", detail)
        return fault

    def _tell(self, read: ReadEvent, fault: Fault) -> None:
        """A fault that shows at an entry and is about an earlier bar."""
        if not self.span.holds(read.entry):
            return
        symbol, _, open_time = fault.bar
        where = (self.place.stream, self.place.partition, read.entry, read.found.envelope.id.hex())
        self.findings.differ(Difference("vote", *where, fault.detail, symbol, open_time, fault.missing))

    def _differ(self, read: ReadEvent, layer: Layer, detail: str) -> None:
        if self.span.holds(read.entry):
            self.findings.differ(difference(layer, self.place, read.entry, read.found, detail))


def _predictions(source: Recording, partition: int, span: EntryRange, findings: Findings) -> Iterator[ReadEvent]:
    """Predictions as they are, without those that the voter set aside; whether each is what it should be is another
    layer's question."""
    aside = set_aside(source, "ensemble-voter", partition, findings)
    reads = readable(
        source, StreamKey("predictions", partition), "ballot", Findings(), EntryRange(span.until, span.until)
    )
    return (read for read in reads if ("predictions", read.entry) not in aside)
