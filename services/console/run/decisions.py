"""``conclave decisions``: show decisions and their ballots, the newest or those of a symbol and a time."""

import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import click
import msgspec
from rich.text import Text

from schemas.catalogue import partition_of
from schemas.codec import Envelope
from schemas.decisions import DecisionMade
from services.console.context import asynchronous, settings_of
from services.console.output import COLOURS, OUTPUT, coloured, echo_json, echo_unreadable, terminal
from services.console.parsing import COUNT, moment_ms
from shared.archive import SegmentStore, WholeHistory
from shared.archive.location import open_archive
from shared.log import Entry, Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.runtime.process import reached_log

SHORT_ID: Final = 12
"""Hexadecimal digits of an id in a table; `conclave blame` takes six or more."""


class Filter(NamedTuple):
    """The decisions to show: on ``symbol``, on bars that open from ``since`` to ``until`` (ms, both included).

    None does not restrict them."""

    symbol: str | None = None
    since: int | None = None
    until: int | None = None

    def partitions(self, count: int) -> Sequence[int]:
        """Return the partitions that may have such decisions, of an installation of ``count``."""
        return range(count) if self.symbol is None else (partition_of(self.symbol, count),)

    def has(self, decision: DecisionMade) -> bool:
        """Return whether a decision is to be shown."""
        return (
            self.symbol in (None, decision.symbol)
            and (self.since is None or decision.open_time >= self.since)
            and (self.until is None or decision.open_time <= self.until)
        )


NEWEST: Final = Filter()


class Decisions:
    """Read the decisions that ``chosen`` selects. ``past``: the archive of trimmed entries."""

    def __init__(self, log: Log, partitions: int, chosen: Filter = NEWEST, past: SegmentStore | None = None) -> None:
        self._log, self._chosen = log, chosen
        self._history = WholeHistory(log, past)
        self._places = [StreamKey("decisions", partition) for partition in chosen.partitions(partitions)]
        self._after: dict[StreamKey, str] = {}
        self._unreadable = Unreadable()

    async def newest(self, count: int) -> AsyncIterator[Envelope[DecisionMade]]:
        """Yield the newest ``count`` decisions of each partition, oldest first.

        Without a symbol or a time only the end of each stream is read, else all of it, with ``count`` decisions in
        memory. Raises ``LostError`` if entries are neither in the log nor in the archive."""
        read = self._at_end if self._chosen == NEWEST else self._found
        for place in self._places:
            for decision in await read(place, min(count, sys.maxsize)):
                yield decision
        echo_unreadable(self._unreadable)

    async def later(self) -> AsyncIterator[Envelope[DecisionMade]]:
        """Yield every decision that is recorded after those of ``newest``, without end."""
        while True:
            entries = await self._log.read(self._after, count=1000, block_ms=500)
            self._after |= {entry.place: entry.id for entry in entries}
            for decision in self._decisions(entries):
                yield decision
            echo_unreadable(self._unreadable)

    async def _at_end(self, place: StreamKey, count: int) -> Sequence[Envelope[DecisionMade]]:
        """Return the newest decisions of a stream. Late ballots and fences lie between them, so what is read is doubled
        until it has enough."""
        read = count
        while True:
            entries = await self._log.tail(place, read)
            decisions = list(self._decisions(entries))
            if len(decisions) >= count or len(entries) < read:
                self._after[place] = entries[-1].id if entries else (await self._log.extent(place)).last
                return decisions[len(decisions) - min(count, len(decisions)) :]
            read *= 2

    async def _found(self, place: StreamKey, count: int) -> Sequence[Envelope[DecisionMade]]:
        decisions: deque[Envelope[DecisionMade]] = deque(maxlen=count)
        self._after[place] = (await self._log.extent(place)).last
        async for page in self._history.slices(place, until=self._after[place]):
            decisions.extend(self._decisions(page))
        return decisions

    def _decisions(self, entries: Sequence[Entry]) -> Iterator[Envelope[DecisionMade]]:
        for _, envelope in events_of(entries, self._unreadable):
            if isinstance(envelope.event, DecisionMade) and self._chosen.has(envelope.event):
                yield envelope


def decision_line(decision: DecisionMade) -> Text:
    """Return a decision, its ballots, and what voting policies in shadow decide, as one line."""
    when = datetime.fromtimestamp(decision.open_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    verdict = Text.assemble((f"{decision.action:<4}", COLOURS[decision.action]), f" {decision.confidence:.2f}")
    if decision.status == "no_quorum":
        verdict = Text("no quorum", "yellow")
    ballots = [
        Text.assemble(f"{ballot.model} ", coloured(ballot.action), f" {ballot.confidence:.2f}")
        for ballot in decision.counted
    ]
    ballots += [Text(f"{absent.model}: {absent.reason[:40]}", "yellow") for absent in decision.absent]
    ballots += [
        Text.assemble(f"policy {each.policy[:SHORT_ID]} ", coloured(each.action)) for each in decision.candidates or ()
    ]
    return Text.assemble(
        f"{when}  {decision.symbol:<10} ",
        verdict,
        f"  {decision.consensus_count}/{decision.total_models}  v{decision.control_version}  {decision.intent:<9}  ",
        Text("  ").join(ballots),
    )


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Also show new decisions as they are made.")
@click.option(
    "--last", "-n", type=COUNT, default=20, show_default=True, help="Decisions of each partition to show at most."
)
@click.option("--symbol", help="Show only decisions on this symbol.")
@click.option("--from", "since", metavar="TIME", help="Show only bars that open at this time or later (ISO 8601).")
@click.option("--to", "until", metavar="TIME", help="Show only bars that open at this time or earlier.")
@OUTPUT
@click.pass_context
@asynchronous
async def decisions(
    context: click.Context,
    /,
    follow: bool,
    last: int,
    symbol: str | None,
    since: str | None,
    until: str | None,
    output: str,
) -> None:
    """Show the newest decisions and their ballots. Each begins with its id, which `conclave blame` takes.

    With a symbol or a time, all recorded decisions are searched, archived ones included. Times without a zone are
    UTC."""
    chosen = Filter(symbol, moment_ms(since) if since else None, moment_ms(until) if until else None)
    if chosen.since is not None and chosen.until is not None and chosen.since > chosen.until:
        raise click.UsageError(f"--from {since} is later than --to {until}: no bar opens between them")
    if follow and until:
        raise click.UsageError("--follow shows decisions to come, --to ends before them: leave one out")
    settings = settings_of(context)
    console = terminal()

    def show(decision: Envelope[DecisionMade]) -> None:
        if output == "json":
            echo_json({"id": decision.id.hex(), **msgspec.to_builtins(decision.event)})
        else:
            line = Text.assemble(f"{decision.id.hex()[:SHORT_ID]}  ", decision_line(decision.event))
            console.print(line, soft_wrap=True)

    past = open_archive(settings) if chosen != NEWEST else None
    async with reached_log(settings, "conclave:console") as log:
        recorded = Decisions(log, settings.installation.partitions, chosen, past)
        shown = 0
        async for decision in recorded.newest(last):
            show(decision)
            shown += 1
        if not shown and last and not follow:
            nothing = "no decision is recorded so far" if chosen == NEWEST else "no recorded decision is of these"
            click.echo(f"{nothing}; `conclave status` shows who votes, and whether bars wait", err=True)
        if follow:
            async for decision in recorded.later():
                show(decision)
