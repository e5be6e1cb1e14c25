"""``conclave artifacts``: list, show, verify and copy the artifacts of the store."""

import click
from msgspec import UNSET
from rich.table import Table

from services.console.context import settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.progress import watched
from shared.archive.store import open_store
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.card import card as card_of
from shared.artifacts.checks import check_stored
from shared.artifacts.copies import pull, push
from shared.artifacts.scoring import interval_text
from shared.artifacts.show import render
from shared.artifacts.store import ArtifactStore
from shared.report.text import moment


@click.group()
def artifacts() -> None:
    """List, show, verify and copy the artifacts in the store of this installation."""


@artifacts.command("list")
@OUTPUT
@click.pass_context
def list_(context: click.Context, /, output: str) -> None:
    """List every artifact: its family, its features, its training data, and its skill on the test part."""
    store = store_of(settings_of(context))
    stored = [(digest, store.manifest(digest)) for digest in store.list()]
    if output == "json":
        for digest, manifest in stored:
            echo_json({"digest": digest, "manifest": manifest})
        return
    table = Table(title=f"{len(stored)} artifacts in {store.path}")
    for heading in (
        "artifact",
        "family",
        "features",
        "window",
        "skill (mnat)",
        "of it moves",
        "direction",
        "trained on",
        "until",
    ):
        table.add_column(heading)
    for digest, manifest in stored:
        test = manifest.metrics.test
        table.add_row(
            digest[:12],
            manifest.family,
            manifest.feature_set.name,
            str(manifest.window),
            interval_text(test.skill),
            *("-" if part is UNSET else f"{part.value:+.1f}" for part in (test.moves, test.direction)),
            ", ".join(manifest.data.symbols),
            moment(manifest.data.last_open_time),
        )
    terminal().print(table)


@artifacts.command()
@click.argument("artifact")
@OUTPUT
@click.pass_context
def show(context: click.Context, /, artifact: str, output: str) -> None:
    """Show the scores of an artifact, compared with the class prior. With -o json: its whole manifest."""
    store = store_of(settings_of(context))
    digest = store.find(artifact)
    manifest = store.manifest(digest)
    if output == "json":
        echo_json(manifest)
    else:
        terminal().print(render(manifest, digest))


@artifacts.command()
@click.argument("artifact")
@click.pass_context
def card(context: click.Context, /, artifact: str) -> None:
    """Print the model card of an artifact, in Markdown: purpose, training data, scores, limits."""
    store = store_of(settings_of(context))
    digest = store.find(artifact)
    click.echo(card_of(digest, store.manifest(digest)))


@artifacts.command()
@click.argument("named", nargs=-1, metavar="[ARTIFACT...]")
@OUTPUT
@click.pass_context
def verify(context: click.Context, /, named: tuple[str, ...], output: str) -> None:
    """Verify artifacts: every byte against the manifest, the predictions for the golden windows, and the checks that
    every model must pass. Without ARTIFACT: all.

    Exit code 0 all passed, 1 one did not."""
    store = store_of(settings_of(context))
    digests = [store.find(prefix) for prefix in named] or list(store.list())
    with watched(digests, "verifying", "artifacts", len(digests)) as left:
        ok = [_verify(store, digest, output) for digest in left]
    if output == "table":
        click.echo(f"{sum(ok)} of {len(ok)} artifacts passed")
    context.exit(0 if all(ok) else 1)


@artifacts.command("push")
@click.argument("artifact")
@click.argument("place", metavar="FOLDER|URL")
@click.pass_context
def push_(context: click.Context, /, artifact: str, place: str) -> None:
    """Copy an artifact to a folder, or to a URL that fsspec supports, such as s3://bucket/artifacts."""
    store = store_of(settings_of(context))
    digest = store.find(artifact)
    size = push(store, digest, open_store(place))
    click.echo(f"{digest}: {size:,} bytes at {place}")


@artifacts.command("pull")
@click.argument("digest")
@click.argument("place", metavar="FOLDER|URL")
@click.pass_context
def pull_(context: click.Context, /, digest: str, place: str) -> None:
    """Copy an artifact from a folder or URL into this store. DIGEST is complete; every byte is verified."""
    click.echo(pull(store_of(settings_of(context)), digest, open_store(place)))


def _verify(store: ArtifactStore, digest: str, output: str) -> bool:
    try:
        report = check_stored(store, digest)
    except ArtifactError as error:
        if output == "json":
            echo_json({"artifact": digest, "passed": False, "error": str(error)})
        else:
            click.echo(f"{digest[:12]}: {error}")
        return False
    passed = not report.failed
    if output == "json":
        echo_json({"artifact": digest, "passed": passed, "checks": [check._asdict() for check in report.checks]})
        return passed
    table = Table(title=f"{digest[:12]}: {'passed' if passed else 'FAILED'}")
    for heading in ("check", "", "found", "limit", ""):
        table.add_column(heading)
    for check in report.checks:
        mark = coloured("passed" if check.passed else "failed")
        table.add_row(check.name, mark, f"{check.value:.6g}", f"{check.limit:.6g}", check.detail)
    terminal().print(table)
    return passed
