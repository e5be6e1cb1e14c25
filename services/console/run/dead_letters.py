"""``conclave dead-letters``: list the input that services refused, show one, and append one again."""

import getpass
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, get_args

import click
import msgspec
from rich.table import Table
from rich.text import Text

from schemas.catalogue import STREAMS
from schemas.codec import UnreadableError, UnwritableError, decode
from schemas.operations import DeadLetterRetried, Refusal
from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, echo_json, echo_unreadable, printable, terminal
from services.console.parsing import COUNT
from shared.archive import stream_entries
from shared.archive.installed import store_of
from shared.commands.retrying import Letter, original, retry, unsound
from shared.log import Entry, Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.log.leases import id_order
from shared.runtime.process import opened_log, reached_log

SHOWN_BYTES: Final = 4096
"""The most bytes of an entry that are shown."""
WIDTH: Final = 16


class Filters(NamedTuple):
    """Which letters to list. None: all."""

    stream: str | None = None
    service: str | None = None
    reason: str | None = None

    def holds(self, letter: Letter) -> bool:
        """Return whether a letter is to be listed."""
        event, place = letter.event, letter.place
        return (
            self.stream in (None, place[0].stream if place is not None else None)
            and self.service in (None, event.service, event.service.partition(".")[0])
            and self.reason in (None, event.reason)
        )


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show and retry the input that services refused."""


@dead_letters.command("list")
@click.option("--stream", type=click.Choice(list(STREAMS)), help="Only entries of this stream.")
@click.option("--service", help="Only input that this service refused (ensemble-voter, model-worker.xgboost).")
@click.option("--reason", type=click.Choice(get_args(Refusal)), help="Only input that was refused for this reason.")
@click.option("--last", "-n", type=COUNT, default=20, show_default=True, help="Number of newest letters to list.")
@OUTPUT
@click.pass_context
@asynchronous
async def list_(
    context: click.Context,
    /,
    stream: str | None,
    service: str | None,
    reason: str | None,
    last: int,
    output: str,
) -> None:
    """List the newest dead letters, oldest first."""
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        letters, count = await newest(
            log, settings.installation.partitions, Filters(stream, service, reason), max(last, 0)
        )
    if output == "json":
        for letter in letters:
            echo_json(as_json(letter))
        return
    terminal().print(_table(letters, count))


@dead_letters.command()
@click.argument("letter")
@OUTPUT
@click.pass_context
@asynchronous
async def show(context: click.Context, /, letter: str, output: str) -> None:
    """Show a dead letter: why the input was refused, its source, its bytes, and whether it can be retried.

    LETTER is an id as listed, or its first digits."""
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        found = await letter_by(log, settings.installation.partitions, letter)
        entry = await original(log, store_of(settings), found)
        why_not = await unsound(log, found, entry)
    if output == "json":
        data = None if entry is None else entry.data.hex()
        echo_json({**as_json(found), "raw": found.event.raw, "data": data, "unsound": why_not})
        return
    for line in shown(found, entry, why_not):
        click.echo(line)


@dead_letters.command("retry")
@click.argument("letter")
@click.option("--reason", required=True, help="Why. It is recorded.")
@click.option("--actor", default=getpass.getuser, help="Who retries it (default: your login).")
@click.pass_context
@asynchronous
async def retry_(context: click.Context, /, letter: str, reason: str, actor: str) -> None:
    """Append the entry of a dead letter to its stream again, byte for byte, where that is sound. Record who and why.

    It is sound for a training request, a trade or a bar that this release can read, if nothing that follows on the
    stream contradicts it. Otherwise nothing is written, and the reason is printed (exit code 1)."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        found = await letter_by(log, settings.installation.partitions, letter)
        try:
            done = await retry(log, store_of(settings), found, actor=actor, reason=reason)
        except UnwritableError as error:
            raise click.UsageError(str(error)) from None
    if done.before:
        click.echo(f"nothing was appended: {done.place.key} already has this entry again, as {done.entry}")
    else:
        click.echo(f"appended to {done.place.key} as {done.entry}: {reason}")


async def newest(log: Log, partitions: int, filters: Filters, last: int) -> tuple[list[Letter], int]:
    """Return the newest letters that pass the filters, oldest first, and how many passed."""
    letters, count = deque[Letter](maxlen=last), 0
    retried: dict[str, DeadLetterRetried] = {}
    unreadable = Unreadable()
    found: list[Letter] = []
    for partition in range(partitions):
        letters.clear()
        async for letter in _letters(log, partition, unreadable, retried):
            if filters.holds(letter):
                letters.append(letter)
                count += 1
        found += letters
    echo_unreadable(unreadable)
    found.sort(key=lambda letter: id_order(letter.entry))
    return [letter._replace(retried=retried.get(letter.id)) for letter in found[max(len(found) - last, 0) :]], count


async def letter_by(log: Log, partitions: int, prefix: str) -> Letter:
    """Return the newest dead letter whose id begins with ``prefix``. Raises ``click.BadParameter`` unless all that
    match have one id."""
    matching: dict[str, Letter] = {}
    retried: dict[str, DeadLetterRetried] = {}
    for partition in range(partitions):
        async for letter in _letters(log, partition, Unreadable(), retried):
            if letter.id.startswith(prefix.lower()) and prefix:
                matching[letter.id] = letter
    if len(matching) != 1:
        these = f": {', '.join(name[:16] for name in list(matching)[:5])}" if matching else ""
        raise click.BadParameter(
            f"{len(matching)} dead letters have an id that begins with {prefix!r}, expected one{these}; "
            "`conclave dead-letters list` shows them"
        )
    [letter] = matching.values()
    return letter._replace(retried=retried.get(letter.id))


async def _letters(
    log: Log, partition: int, unreadable: Unreadable, retried: dict[str, DeadLetterRetried]
) -> AsyncIterator[Letter]:
    """Yield the letters of a partition, oldest first. Put the retries into ``retried``, by letter."""
    async for entry in stream_entries(log, StreamKey("dead", partition)):
        for _, envelope in events_of([entry], unreadable):
            if isinstance(envelope.event, DeadLetterRetried):
                retried[envelope.event.letter] = envelope.event
            else:
                yield Letter(partition, entry.id, envelope)


def as_json(letter: Letter) -> dict[str, Any]:
    """Return a letter as ``-o json`` prints it, without its bytes."""
    event, place = letter.event, letter.place
    return {
        "letter": letter.id,
        "at": id_order(letter.entry)[0],
        "partition": letter.partition,
        "entry": letter.entry,
        "service": event.service,
        "reason": event.reason,
        "detail": event.detail,
        "source": event.source,
        "stream": place[0].stream if place is not None else None,
        "retried": None if letter.retried is None else msgspec.to_builtins(letter.retried),
    }


def _table(letters: Sequence[Letter], count: int) -> Table:
    heads = ("when (UTC)", "service", "reason", "source", "detail", "retried")
    caption = f"{len(letters):,} of {count:,}" if count > len(letters) else None
    table = Table("letter", *heads, title="dead letters", caption=caption)
    for letter in letters:
        event = letter.event
        by = f"by {letter.retried.actor}" if letter.retried is not None else ""
        cells = (letter.id[:12], _moment(letter), event.service, event.reason, event.source, event.detail[:120], by)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def shown(letter: Letter, entry: Entry | None, why_not: str | None) -> Iterator[str]:
    """Yield the lines that show a letter. Whatever its input has, the lines are printable."""
    event = letter.event
    yield f"letter   {letter.id}"
    yield f"written  {_moment(letter)} as entry {letter.entry} of {StreamKey('dead', letter.partition).key}"
    yield f"service  {printable(event.service)}"
    yield f"reason   {event.reason}: {printable(event.detail)}"
    yield f"source   {printable(event.source)}"
    if letter.retried is not None:
        retried = letter.retried
        yield f"retried  as {printable(retried.entry)} by {printable(retried.actor)}: {printable(retried.reason)}"
    yield f"retry    {'possible' if why_not is None else 'not possible: ' + printable(why_not)}"
    if entry is None:
        yield "input, as far as it was recorded:"
        yield printable(event.raw)
        return
    try:
        yield f"event    {printable(repr(decode(entry.place.stream, entry.data).event)[:SHOWN_BYTES])}"
    except UnreadableError as error:
        yield f"event    none: {printable(str(error))}"
    yield f"{len(entry.data):,} bytes" + (f", the first {SHOWN_BYTES:,}:" if len(entry.data) > SHOWN_BYTES else ":")
    yield from hexdump(entry.data[:SHOWN_BYTES])


def hexdump(data: bytes) -> Iterator[str]:
    """Yield lines of 16 bytes: the offset, the bytes in hexadecimal, and those that are printable ASCII."""
    for start in range(0, len(data), WIDTH):
        row = data[start : start + WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{start:08x}  {row.hex(' '):<{3 * WIDTH - 1}}  {text}"


def _moment(letter: Letter) -> str:
    ms = min(id_order(letter.entry)[0], 253_402_300_799_000)  # an id may name any time; 9999-12-31 is the last date
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
