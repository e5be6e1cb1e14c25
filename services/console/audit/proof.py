"""``conclave proof VERSION | check``: a pack that shows what was promoted, and on what evidence."""

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from services.console.audit.judging import judged_again
from services.console.audit.tasks import source_of, where_of
from services.console.context import settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.parsing import FilePath
from services.console.progress import progress
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof import ProofError, gather, packed, sign_pack
from shared.audit.proof_checks import PROMOTION, SIGNATURE, ProofCheck, check
from shared.audit.proof_subject import subject_of
from shared.control import effect_of
from shared.control.signing import load_private
from shared.report.proof import page, write_pack


class _OrMake(click.Group):
    """A group in which ``proof 12`` means ``proof make 12``."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["make", *args])


@click.group(cls=_OrMake)
def proof() -> None:
    """Make and check proof packs.

    A pack shows what was promoted, by whom, on what evidence, that it loaded and that it had not voted before."""


@proof.command()
@click.argument("what", metavar="VERSION|MODEL")
@click.option("--key", type=FilePath(), help="Sign with this private key (PEM).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=".", help="Folder for the files.")
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Read only sealed files, not Redis.")
@OUTPUT
@click.pass_context
def make(context: click.Context, what: str, key: Path | None, out: Path, archive: str | None, output: str) -> None:
    """Write the pack of a promotion, as JSON and as a page: of this VERSION, or the newest of this MODEL. The model
    `ensemble` is the voting policy.

    Exit code 0 every claim holds, 1 a claim does not (the pack is written all the same), 2 there is no such
    promotion."""
    settings = settings_of(context)
    store = store_of(settings)
    with source_of(where_of(settings, archive, store.path)) as source:
        configurations = Configurations(source, Findings())
        try:
            with progress("gathering the evidence"):
                pack = gather(source, configurations, _version(configurations, what), store)
        except ProofError as error:
            raise click.UsageError(str(error)) from None
    if key is not None:
        pack = sign_pack(pack, load_private(key))
    file, _ = write_pack(pack, out)
    checks = [one for one in check(pack, judge=judged_again) if key is not None or one.what != SIGNATURE]
    _show(checks, output, f"{file} and .html")
    context.exit(0 if all(one.good for one in checks) else 1)


@proof.command()
@click.argument("file", type=FilePath())
@click.option("--key", required=True, type=FilePath(), help="Sign with this private key (PEM).")
@OUTPUT
@click.pass_context
def sign(context: click.Context, file: Path, key: Path, output: str) -> None:
    """Sign a pack that is not signed, such as one that was downloaded from the observatory. Its page is written again.

    Its claims are checked first. Exit code 0 it is signed, 1 a claim does not hold, so it is not signed, 2 it was
    signed before."""
    pack, checks = _read(file)
    if any(one.good for one in checks if one.what == SIGNATURE):
        raise click.UsageError(f"{file} was signed before, by {pack['signed_by']['key_id']}")
    if all(one.good for one in checks if one.what != SIGNATURE):
        pack = sign_pack(pack, load_private(key))
        file.write_bytes(packed(pack))
        file.with_suffix(".html").write_text(page(pack), encoding="utf-8")
        checks = check(pack, judge=judged_again)
    _show(checks, output, str(file))
    context.exit(0 if all(one.good for one in checks) else 1)


@proof.command("check")
@click.argument("file", type=FilePath())
@click.option("--public", metavar="PUBLIC", help="The public key (64 hexadecimal digits) that must have signed it.")
@OUTPUT
@click.pass_context
def check_(context: click.Context, file: Path, public: str | None, output: str) -> None:
    """Check a pack without a server or a store. Exit code 0 it holds, 1 it does not."""
    _, checks = _read(file, public)
    _show(checks, output, str(file))
    context.exit(0 if all(one.good for one in checks) else 1)


def _read(file: Path, public: str | None = None) -> tuple[Any, list[ProofCheck]]:
    """Return the content of a file, and what is found in it."""
    try:
        pack = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return None, [ProofCheck("format", False, f"{file}: {error}")]
    return pack, check(pack, public, judged_again)


def _version(configurations: Configurations, what: str) -> int:
    if what.isdecimal():
        return int(what)
    for envelope in reversed(configurations.envelopes):
        promoted = subject_of(effect_of(envelope.event.command))
        if promoted is not None and (promoted.model == what or promoted.artifact.startswith(what)):
            return envelope.event.version
    raise ProofError(f"no promotion of {what!r}; `conclave history` lists the promotions")


def _show(checks: list[ProofCheck], output: str, title: str) -> None:
    if output == "json":
        echo_json([one._asdict() for one in checks])
        return
    table = Table("claim", "holds", "found", title=title)
    for one in checks:
        if one.what == PROMOTION:
            table.add_row(one.what, coloured("but"), Text(one.detail, "bold red"))
        else:
            table.add_row(one.what, coloured("yes" if one.good else "no"), one.detail)
    terminal().print(table)
