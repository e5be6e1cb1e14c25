"""``conclave archive``: show what is sealed, verify it, and restore it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from services.archiver.core import Trim, trim
from services.console.context import asynchronous, login, settings_of
from services.console.output import OUTPUT, echo_json, terminal
from services.console.progress import progress, watched
from services.console.run.server import server_for
from shared.archive.checking import ArchiveCheck, check, check_cuts
from shared.archive.cuts import Cut, newest
from shared.archive.files import Files
from shared.archive.installed import SealedStream, sealed_streams, store_of
from shared.archive.restoring import restore as restored
from shared.archive.sealed import CorruptError
from shared.archive.store import SegmentStore, open_store
from shared.control.stream import now_ms
from shared.log.admin import opened_whole
from shared.settings import redis_url_with_password

LOCATION = click.option(
    "--from", "location", metavar="FOLDER|URL", help="Archive, such as s3://bucket/prefix. Default: from the settings."
)


@click.group()
def archive() -> None:
    """Show, verify and restore the sealed streams."""


def _store(context: click.Context, location: str | None) -> SegmentStore:
    return open_store(location) if location else store_of(settings_of(context))


@archive.command()
@LOCATION
@OUTPUT
@click.pass_context
def status(context: click.Context, location: str | None, output: str) -> None:
    """Show how far each stream is sealed, and what keeps its entries in Redis. Reads only the archive."""
    store = _store(context, location)
    cut, _ = newest(store)
    rows = [_row(stream, cut) for stream in sealed_streams(store)]
    if output == "json":
        facts = {"archive": str(store), "cut": cut.number if cut else 0, "at": cut.at if cut else None, "streams": rows}
        echo_json(facts)
        return
    if not rows:
        click.echo(f"nothing is sealed in {store}")
        return
    table = Table("stream", "files", "entries", "sealed up to", "(UTC)", "may be trimmed up to", "held by")
    for row in rows:
        words = (row["files"], row["entries"], row["last"], _when(row["last"]), row["through"], row["held_by"])
        table.add_row(row["key"], *map(str, words))
    terminal().print(table)
    moment = _when(f"{cut.at}-0") if cut else "none yet: the archiver has not finished its first round"
    click.echo(f"{store}: newest cut {moment}")


def _row(stream: SealedStream, cut: Cut | None) -> dict[str, Any]:
    trimmable = trim(stream.place, cut, now_ms()) if cut else Trim(stream.place, "0-0", "archive")
    return {
        "key": stream.place.key,
        "files": stream.files,
        "entries": stream.entries,
        "last": stream.last,
        "through": trimmable.through,
        "held_by": trimmable.held_by,
    }


@archive.command()
@LOCATION
@OUTPUT
@click.pass_context
def verify(context: click.Context, location: str | None, output: str) -> None:
    """Verify every sealed file: its digests, its entries, the hash chain and the cuts. Redis is not needed.

    Exit code 0 everything is intact, 1 something is damaged (it is listed), 2 the archive cannot be read, 3 it is
    empty."""
    store = _store(context, location)
    streams, faults = [], list[str]()
    places = list(Files.places(store))
    with watched(places, "verifying sealed files", "streams", len(places)) as left:
        for place in left:
            try:
                streams.append(check(store, place))
            except CorruptError as error:
                faults.append(str(error))
    try:
        cut = check_cuts(store)
    except CorruptError as error:
        cut = None
        faults.append(str(error))
    _show(store, streams, faults, cut, output)
    context.exit(1 if faults else 0 if streams else 3)


def _show(
    store: SegmentStore, streams: Sequence[ArchiveCheck], faults: Sequence[str], cut: Cut | None, output: str
) -> None:
    if output == "json":
        rows = [stream._asdict() | {"place": stream.place.key} for stream in streams]
        facts = {"archive": str(store), "cut": cut.number if cut else 0, "streams": rows, "faults": list(faults)}
        echo_json(facts)
        return
    table = Table("stream", "files", "entries", "bytes", "of", "first", "last")
    for stream in streams:
        sizes = (f"{stream.size:,}", f"{stream.raw:,}")
        table.add_row(stream.place.key, str(stream.files), f"{stream.entries:,}", *sizes, stream.first, stream.last)
    terminal().print(table)
    for fault in faults:
        click.echo(f"not whole: {fault}", err=True)
    if not faults:
        click.echo(f"{store}: {'whole' if streams else 'nothing is sealed here'}")


@archive.command()
@LOCATION
@OUTPUT
@click.option("--reason", required=True, help="Why. It is printed, not recorded: keep the output.")
@click.pass_context
@asynchronous
async def restore(context: click.Context, /, location: str | None, reason: str, output: str) -> None:
    """Restore an archive into an empty server: the same entry ids and bytes, and the groups at the newest cut. If none
    answers at an address of this machine, an embedded one is started, and ended afterwards.

    Needs a user who may write every stream (admin). No service may run meanwhile."""
    settings = settings_of(context)
    store = _store(context, location)

    def report(words: str) -> None:
        click.echo(words, err=True)

    async with (
        server_for(settings, restoring=True) as started_here,
        opened_whole(redis_url_with_password(settings), "conclave:restore") as whole,
    ):
        if started_here:
            report(f"no server answers at {settings.redis.url}: an embedded one is started for the restore")
        cut, _ = newest(store)
        total = sum(end.added for end in cut.ends) if cut is not None else None
        with progress("restoring", "entries", total, exact=False) as display:
            done = await restored(store, whole, report, display.advance)
    if output == "json":
        facts = {"cut": done.cut.number, "at": done.cut.at, "entries": done.entries, "groups": done.groups}
        echo_json(facts | {"actor": login(), "reason": reason})
        return
    table = Table("stream", "entries")
    for key, count in done.entries.items():
        table.add_row(key, f"{count:,}")
    terminal().print(table)
    click.echo(
        f"restored as of {_when(f'{done.cut.at}-0')} UTC (cut {done.cut.number}), {done.groups} groups, by "
        f"{login()}: {reason}. What was written after that time is not restored"
    )


def _when(entry_id: str) -> str:
    return datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
