"""``conclave archive``: what is sealed, whether it is whole, and how it comes back."""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from services.archiver.core import Trim, trim
from services.archiver.main import store_of
from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, echo_json
from shared.archive.checking import ArchiveCheck, check, check_cuts
from shared.archive.cuts import Cut, newest
from shared.archive.files import Files
from shared.archive.restoring import restore as restored
from shared.archive.sealed import CorruptError
from shared.archive.store import SegmentStore, open_store
from shared.control.stream import now_ms
from shared.log import StreamKey
from shared.log.admin import opened_whole
from shared.log.durability import check_server
from shared.settings import redis_url_with_password

LOCATION = click.option(
    "--from", "location", metavar="FOLDER|URL", help="Another archive than that of the settings, as s3://bucket/prefix."
)


@click.group()
def archive() -> None:
    """Sealed streams: how far they go, whether they are whole, and how they come back."""


def _store(context: click.Context, location: str | None) -> SegmentStore:
    return open_store(location) if location else store_of(settings_of(context))


@archive.command()
@LOCATION
@OUTPUT
@click.pass_context
def status(context: click.Context, location: str | None, output: str) -> None:
    """How far each stream is sealed, and what keeps its entries in Redis. Reads the archive alone."""
    store = _store(context, location)
    cut, _ = newest(store)
    rows = [_row(store, place, cut) for place in Files.places(store)]
    if output == "json":
        facts = {"archive": str(store), "cut": cut.number if cut else 0, "at": cut.at if cut else None, "streams": rows}
        echo_json(facts)
        return
    if not rows:
        click.echo(f"nothing is sealed in {store}")
        return
    table = Table("stream", "files", "entries", "sealed up to", "(UTC)", "may go up to", "held by")
    for row in rows:
        words = (row["files"], row["entries"], row["last"], _when(row["last"]), row["through"], row["held_by"])
        table.add_row(row["key"], *map(str, words))
    Console().print(table)
    moment = _when(f"{cut.at}-0") if cut else "none yet: an archiver that has not ended its first round"
    click.echo(f"{store}: newest cut {moment}")


def _row(store: SegmentStore, place: StreamKey, cut: Cut | None) -> dict[str, Any]:
    files = Files(store, place)
    numbers, end = files.numbers(), files.end()
    go = trim(place, cut, now_ms()) if cut else Trim(place, "0-0", "archive")
    return {
        "key": place.key,
        "files": len(numbers),
        "entries": end.seen - files.open(numbers[0]).header.before if end else 0,
        "last": end.last if end else "0-0",
        "through": go.through,
        "held_by": go.held_by,
    }


@archive.command()
@LOCATION
@OUTPUT
@click.pass_context
def verify(context: click.Context, location: str | None, output: str) -> None:
    """Reads every sealed file: its digests, its entries, the chain, the cuts. Without Redis.

    Exit code 0 all is whole, 1 something is not (and what), 2 the archive cannot be read, 3 there is nothing."""
    store = _store(context, location)
    found, faults = [], list[str]()
    for place in track(Files.places(store), "reading", console=Console(stderr=True), disable=output == "json"):
        try:
            found.append(check(store, place))
        except CorruptError as error:
            faults.append(str(error))
    try:
        cut = check_cuts(store)
    except CorruptError as error:
        cut = None
        faults.append(str(error))
    _show(store, found, faults, cut, output)
    context.exit(1 if faults else 0 if found else 3)


def _show(
    store: SegmentStore, found: Sequence[ArchiveCheck], faults: Sequence[str], cut: Cut | None, output: str
) -> None:
    if output == "json":
        rows = [one._asdict() | {"place": one.place.key} for one in found]
        facts = {"archive": str(store), "cut": cut.number if cut else 0, "streams": rows, "faults": list(faults)}
        echo_json(facts)
        return
    table = Table("stream", "files", "entries", "bytes", "of", "first", "last")
    for one in found:
        sizes = (f"{one.size:,}", f"{one.raw:,}")
        table.add_row(one.place.key, str(one.files), f"{one.entries:,}", *sizes, one.first, one.last)
    Console().print(table)
    for fault in faults:
        click.echo(f"not whole: {fault}", err=True)
    if not faults:
        click.echo(f"{store}: {'whole' if found else 'nothing is sealed here'}")


@archive.command()
@LOCATION
@OUTPUT
@click.option("--reason", required=True, help="Why; it is shown, and belongs in your records.")
@click.pass_context
@asynchronous
async def restore(context: click.Context, /, location: str | None, reason: str, output: str) -> None:
    """Writes an archive into an empty server: same entry ids, same bytes, groups where they stood at the newest cut.

    Needs a user who may write every stream (admin). Nothing may run meanwhile."""
    settings = settings_of(context)
    url = redis_url_with_password(settings)
    await check_server(url, settings.redis.ephemeral)
    store = _store(context, location)

    def tell(what: str) -> None:
        click.echo(what, err=True)

    async with opened_whole(url, "conclave:restore") as whole:
        done = await restored(store, whole, tell)
    if output == "json":
        facts = {"cut": done.cut.number, "at": done.cut.at, "entries": done.entries, "groups": done.groups}
        echo_json(facts | {"actor": getpass.getuser(), "reason": reason})
        return
    table = Table("stream", "entries")
    for key, count in done.entries.items():
        table.add_row(key, f"{count:,}")
    Console().print(table)
    click.echo(
        f"restored as of {_when(f'{done.cut.at}-0')} UTC (cut {done.cut.number}), {done.groups} groups, by "
        f"{getpass.getuser()}: {reason}. What was written after that moment is not here"
    )


def _when(entry_id: str) -> str:
    return datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
