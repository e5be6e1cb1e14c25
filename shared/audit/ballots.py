"""The layer of ballots: compare each decision with ``predictions``.

- Each ballot that a decision names must be the one on ``predictions``, made under the decision's own stamp.
- No bar may be decided twice, or be left undecided without need.
- No ballot that the voter had read may be left out (``shared.audit.closing``).
- No deadline may be claimed before its time (``shared.audit.clocks``).
"""

from collections.abc import Iterator

from schemas.decisions import BallotLate, CountedBallot, DecisionMade, ShadowBallot
from schemas.predictions import PredictionFailed, PredictionMade
from shared.audit.clocks import Clocks
from shared.audit.closing import Fault, OpenRounds
from shared.audit.comparison import Comparison
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings, Layer
from shared.audit.set_aside import set_aside
from shared.audit.silence import Silence
from shared.audit.source import EntryRange, ReadEvent, Recording, readable
from shared.audit.window import Cast, Window
from shared.log import StreamKey
from shared.log.leases import id_order
from shared.voting.decision import Series

LayerFault = tuple[Layer, str]
"""The layer of a fault, and its description."""


def check_ballots(source: Recording, configurations: Configurations, partition: int, span: EntryRange) -> Findings:
    """Check every ballot of every decision of a partition within ``span``."""
    findings = Findings()
    _Check(source, configurations, partition, span, findings).run()
    return findings


class _Check:
    def __init__(
        self, source: Recording, configurations: Configurations, partition: int, span: EntryRange, findings: Findings
    ) -> None:
        self.span, self.findings = span, findings
        self.compared = Comparison("ballots", StreamKey("decisions", partition), span, findings)
        self.reads = readable(source, self.compared.place, "vote", Findings(), span)
        self.rounds = OpenRounds(configurations)
        self.silence = Silence(configurations)
        self.clocks = Clocks(configurations, findings if span.after == "0-0" else Findings())
        self.window = Window(
            _predictions(source, partition, span, findings), self.rounds.enters_round, self.rounds.arrived
        )
        self.stamps: dict[Series, int] = {}

    def run(self) -> None:
        for read in self.reads:
            event = read.opened.envelope.event
            if read.opened.fault:
                continue
            match event:
                case DecisionMade():
                    self._decision(read, event)
                case BallotLate():
                    self.rounds.late(event.event)
                    cast = self.window.find(event.event, id_order(read.entry)[0])
                    if cast is None:
                        self.compared.differ(
                            "ballot", read, f"{event.model}'s late ballot {event.event[:12]} is not on predictions"
                        )
                    else:
                        self.rounds.reach(cast.number)
                case _:
                    continue
            for fault in (*self.rounds.undecided(self.window), *self.rounds.unrecorded(self.window)):
                self._add_fault(read, fault)
        for earlier, detail in (*self.silence.unjustified(), *self.clocks.unjustified()):
            self.compared.differ("vote", earlier, detail)

    def _decision(self, read: ReadEvent, decision: DecisionMade) -> None:
        series = (decision.symbol, decision.interval_ms)
        decided = self.window.series(series).decided
        if decision.open_time <= decided:
            what = "a second decision on this bar" if decision.open_time == decided else "decided after a later bar"
            self._count(read, ("vote", what))
            return
        moment = id_order(read.entry)[0]
        casts: list[Cast] = []
        fault = self._ballot_fault(decision, moment, casts)
        for cast in casts:
            self.rounds.reach(cast.number)
        stamped = [cast for cast in casts if cast.envelope.event.control_head is not None]
        fault = fault or self._stamp_fault(series, decision, stamped)
        detail = self.rounds.unjustified(decision)
        fault = fault or (("vote", detail) if detail else None)
        detail = self.clocks.fault(read, decision, stamped=bool(stamped))
        fault = fault or (("vote", detail) if detail else None)
        passed = self.silence.check(self.window, read, decision, moment, self.rounds.reached)
        for closing_fault in self.rounds.close(self.window, decision):
            if closing_fault.missing:
                self._add_fault(read, closing_fault)
            else:
                fault = ("vote", closing_fault.detail)
        self._count(read, fault)
        for earlier, detail in (*passed, *self.clocks.deadlines(read, decision)):
            self.compared.differ("vote", earlier, detail)

    def _count(self, read: ReadEvent, fault: LayerFault | None) -> None:
        layer, detail = fault or ("vote", "")
        self.compared.count(layer, read, detail)

    def _stamp_fault(self, series: Series, decision: DecisionMade, stamped: list[Cast]) -> LayerFault | None:
        """Return a fault where a decision's stamp is not that of its ballots, or falls below the stamp of the decision
        before."""
        before, self.stamps[series] = self.stamps.get(series, 0), decision.control_version
        for cast in stamped:
            event = cast.envelope.event
            under = (event.control_version, event.control_head.hex())
            if under != (decision.control_version, decision.control_head):
                stamp = f"{decision.control_version} {decision.control_head[:12]}"
                return (
                    "vote",
                    f"made under version {stamp}; its ballot {cast.event[:12]} under {under[0]} {under[1][:12]}",
                )
        if stamped and decision.control_version < before:
            return "vote", f"made under version {decision.control_version}, after a decision under {before}"
        return None

    def _ballot_fault(self, decision: DecisionMade, moment: int, casts: list[Cast]) -> LayerFault | None:
        """Return a fault where a ballot in the decision is not the one on ``predictions``; add those that were found to
        ``casts``."""
        named: tuple[CountedBallot | ShadowBallot, ...] = (*decision.counted, *decision.shadow)
        fault: LayerFault | None = None
        for ballot in named:
            cast = self.window.find(ballot.event, moment)
            if cast is None:
                fault = fault or ("ballot", f"{ballot.model}'s ballot {ballot.event[:12]} is not on predictions")
                continue
            casts.append(cast)
            event = cast.envelope.event
            about = (ballot.model, ballot.artifact, decision.symbol, decision.interval_ms, decision.open_time)
            if not isinstance(event, PredictionMade) or event.probabilities != ballot.probabilities:
                fault = fault or (
                    "vote",
                    f"{ballot.model}'s ballot {ballot.event[:12]} has other probabilities on predictions",
                )
            elif about != (*cast.key, event.symbol, event.interval_ms, event.open_time):
                fault = fault or (
                    "vote",
                    f"{ballot.model}'s ballot {ballot.event[:12]} is about another bar or artifact",
                )
        for absent in decision.absent:
            if absent.event is None:
                continue
            cast = self.window.find(absent.event, moment)
            if cast is None:
                fault = fault or ("ballot", f"{absent.model}'s failure {absent.event[:12]} is not on predictions")
                continue
            casts.append(cast)
            event = cast.envelope.event
            if isinstance(event, PredictionFailed) and not absent.reason.startswith(event.reason):
                detail = f"{absent.model} failed with {event.reason}; the decision records {absent.reason}"
                fault = fault or ("vote", detail)
        return fault

    def _add_fault(self, read: ReadEvent, fault: Fault) -> None:
        """Record a fault that shows at an entry and concerns an earlier bar."""
        if not self.span.holds(read.entry):
            return
        symbol, _, open_time = fault.bar
        where = (self.compared.place.stream, self.compared.place.partition, read.entry, read.opened.envelope.id.hex())
        self.findings.differ(Difference("vote", *where, fault.detail, symbol, open_time, fault.missing))


def _predictions(source: Recording, partition: int, span: EntryRange, findings: Findings) -> Iterator[ReadEvent]:
    """Yield the recorded predictions, without those that the voter set aside.

    Whether each is what it should be is the question of another layer."""
    aside = set_aside(source, "ensemble-voter", partition, findings)
    reads = readable(
        source, StreamKey("predictions", partition), "ballot", Findings(), EntryRange(span.until, span.until)
    )
    return (read for read in reads if ("predictions", read.entry) not in aside)
