"""``conclave proof VERSION | check``: a pack that shows what was put into service, and on what evidence."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from schemas.control import Promote
from services.console.audit.tasks import source_of, where_of
from services.console.context import settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, coloured, echo_json
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof import ProofCheck, ProofError, check, gather, sign_pack
from shared.control.signing import load_private
from shared.report.proof import page


class _OrMake(click.Group):
    """``proof 12`` is ``proof make 12``."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["make", *args])


@click.group(cls=_OrMake)
def proof() -> None:
    """Proof packs: what was promoted, that it loaded, that it had not voted before, by whom and on what evidence."""


@proof.command()
@click.argument("what", metavar="VERSION|MODEL")
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="Sign with this private key (PEM).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=".", help="Folder for the files.")
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Sealed files alone, without Redis.")
@OUTPUT
@click.pass_context
def make(context: click.Context, what: str, key: Path | None, out: Path, archive: str | None, output: str) -> None:
    """Writes the pack of a promotion, by its version or a model's newest: JSON and a page.

    Exit code 0 written and each claim holds, 1 a claim does not, 2 there is no such promotion."""
    settings = settings_of(context)
    store = store_of(settings)
    with source_of(where_of(settings, archive, store.path)) as source:
        configurations = Configurations(source, Findings())
        try:
            pack = gather(source, configurations, _version(configurations, what), store)
        except ProofError as error:
            raise click.UsageError(str(error)) from None
    if key is not None:
        pack = sign_pack(pack, load_private(key))
    name = f"proof-{pack['body']['version']}"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(pack, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (out / f"{name}.html").write_text(page(pack), encoding="utf-8")
    found = [one for one in check(pack) if key is not None or one.what != "signature"]
    _tell(found, output, f"{out / name}.json and .html")
    context.exit(0 if all(one.good for one in found) else 1)


@proof.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--public", metavar="PUBLIC", help="The public key (64 hexadecimal digits) it must be signed by.")
@OUTPUT
@click.pass_context
def check_(context: click.Context, file: Path, public: str | None, output: str) -> None:
    """Checks a pack by itself: no server, no store. Exit code 0 it holds, 1 it does not."""
    try:
        found = check(json.loads(file.read_text(encoding="utf-8")), public)
    except ValueError as error:
        found = [ProofCheck("format", False, f"{file}: {error}")]
    _tell(found, output, str(file))
    context.exit(0 if all(one.good for one in found) else 1)


def _version(configurations: Configurations, what: str) -> int:
    if what.isdecimal():
        return int(what)
    for envelope in reversed(configurations.envelopes):
        command = envelope.event.command
        if isinstance(command, Promote) and (command.model == what or command.artifact.startswith(what)):
            return envelope.event.version
    raise ProofError(f"no promotion of {what!r}; `conclave history` shows which there are")


def _tell(found: list[ProofCheck], output: str, title: str) -> None:
    if output == "json":
        echo_json([one._asdict() for one in found])
        return
    table = Table("what", "holds", "found", title=title)
    for one in found:
        table.add_row(one.what, coloured("yes" if one.good else "no"), one.detail)
    Console().print(table)
