"""``conclave whatif``: what would have been decided under another configuration."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs
from rich.console import Group
from rich.text import Text

from schemas.codec import Envelope, encode
from schemas.control import Command, CommandRecorded, Found, Promote, RegisterArtifact
from services.console.audit.tasks import source_of, where_of
from services.console.audit.verify import entry_range
from services.console.context import settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, echo_json, terminal, terminal_table
from services.console.parsing import NewFile, pairs
from services.console.progress import progress
from services.model_worker.main import service as worker_of
from shared.artifacts import ArtifactError, ArtifactStore
from shared.artifacts.registration import registration
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import PAGE, EntryRange, Recording, readable
from shared.audit.whatif import Changes, ChangesError, Rescorer, WhatifResult, compare
from shared.control import EMPTY, fold, propose
from shared.log import StreamKey
from shared.report import whatif as drawn
from shared.report.drawing import require_charts
from shared.report.text import in_force_words
from shared.runtime.service import Batch, Received
from shared.voting.in_force import PolicyUses


@click.command()
@click.option("--since", metavar="TIME", help="Only rounds decided after this time (ISO 8601). Default: all.")
@click.option("--until", metavar="TIME", help="Only rounds decided until this time.")
@click.option("--set", "champions", multiple=True, metavar="MODEL=ARTIFACT", help="Another champion, by digest prefix.")
@click.option("--weight", "weights", multiple=True, metavar="MODEL=WEIGHT", help="Another weight; the others shrink.")
@click.option("--policy", "policy", multiple=True, metavar="FIELD=VALUE", help="Another policy field, as edge=0.05.")
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Read only sealed files, not Redis.")
@click.option("--html", type=NewFile(), help="Write a page with charts to this file.")
@OUTPUT
@click.pass_context
def whatif(
    context: click.Context,
    since: str | None,
    until: str | None,
    champions: tuple[str, ...],
    weights: tuple[str, ...],
    policy: tuple[str, ...],
    archive: str | None,
    html: Path | None,
    output: str,
) -> None:
    """Count recorded ballots again under another configuration, and compare the decisions.

    Without a change every decision must be the same. Exit code 0 done, 2 the change is not valid, 3 there is no
    round."""
    if html is not None:
        require_charts()
    settings = settings_of(context)
    store = store_of(settings)
    with source_of(where_of(settings, archive, store.path)) as source:
        configurations = Configurations(source, Findings())
        try:
            wanted = Changes(
                {model: _artifact(store, configurations, prefix) for model, prefix in pairs(champions).items()},
                {model: float(weight) for model, weight in pairs(weights).items()},
                pairs(policy),
            )
            span = entry_range(since, until)
            with progress("counting recorded ballots again"):
                result = whatif_result(source, configurations, wanted, store, span)
        except (ChangesError, ArtifactError, ValueError) as error:
            raise click.UsageError(str(error)) from None
    words = drawn.words_of(wanted)
    if html is not None:
        html.write_text(drawn.page(result, words), encoding="utf-8")
    if output == "json":
        echo_json({"asked": wanted, **msgspec.structs.asdict(result)})
    else:
        terminal().print(_shown(result, words))
    context.exit(0 if result.rounds else 3)


def whatif_result(
    source: Recording,
    configurations: Configurations,
    wanted: Changes,
    store: ArtifactStore,
    span: EntryRange = EntryRange(),  # noqa: B008  # a plain value
) -> WhatifResult:
    """Compare the decisions of all partitions. Raises ``ChangesError``, ``ArtifactError``."""
    state = configurations.newest
    unknown = sorted({*wanted.champions, *wanted.weights} - set(state.voting))
    if unknown:
        raise ChangesError(f"{', '.join(unknown)} does not vote; the voting models are {', '.join(state.voting)}")
    known: dict[str, RegisterArtifact] = {}
    for model, artifact in wanted.champions.items():
        there = state.artifacts.get(artifact)
        known[artifact] = there or registration(model, artifact, store.manifest(artifact))
        if known[artifact].model != model:
            raise ChangesError(f"artifact {artifact[:12]} is registered for {known[artifact].model}, not for {model}")
    result, uses = WhatifResult(), PolicyUses()
    for partition in range(state.partitions or 1):
        made: dict[str, Rescorer] = {}

        def rescored(
            artifact: str, symbol: str, interval_ms: int, open_time: int,
            partition: int = partition, made: dict[str, Rescorer] = made,
        ) -> Any:  # fmt: skip
            if artifact not in known:
                return None
            if artifact not in made:
                made[artifact] = Rescorer(rescored_predictions(source, known[artifact], store, partition))
            return made[artifact](symbol, interval_ms, open_time)

        compare(source, configurations, wanted, known, rescored, partition, span, result, uses)
    result.policies = uses.found()
    return result


def rescored_predictions(
    source: Recording, registered: RegisterArtifact, store: ArtifactStore, partition: int
) -> Iterator[Any]:
    """Yield the prediction of an artifact for every recorded vector: a model worker with only this champion."""
    store.load(registered.artifact)
    worker = worker_of(registered.model, store)
    state = worker.initial(b"")
    worker.apply(state, Batch([encode("control", entry).envelope for entry in _alone(registered)], ()))
    vectors = readable(source, StreamKey("features", partition), "feature", Findings(), EntryRange("+"))
    while page := list(islice(vectors, PAGE)):
        received = [Received("features", read.entry, _unstamped(read.opened.envelope)) for read in page]
        for encoded in worker.handle(state, Batch((), received)):
            if encoded.stream == "predictions":
                yield encoded.envelope.event


def _unstamped(vector: Envelope[Any]) -> Envelope[Any]:
    """Return a recorded vector without its control version, so that the worker uses its own configuration."""
    return structs.replace(vector, event=structs.replace(vector.event, control_version=0, control_head=None))


def _alone(registered: RegisterArtifact) -> Iterator[CommandRecorded]:
    state = EMPTY
    promote = Promote(registered.model, registered.artifact, forced=True, weight=1.0)
    commands: tuple[Command, ...] = (Found(1, "a-what-if"), registered, promote)
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=f"{number}", actor="whatif", reason="rescoring", at=0)
        if not isinstance(entry, CommandRecorded):
            raise ChangesError(f"{registered.artifact[:12]} cannot predict: {entry}")
        state = fold(state, entry)
        yield entry


def _artifact(store: ArtifactStore, configurations: Configurations, prefix: str) -> str:
    """Return the one artifact that begins with ``prefix``: first in ``control``, then in the store."""
    matches = {digest for digest in configurations.newest.artifacts if digest.startswith(prefix)}
    if len(matches) == 1:
        return matches.pop()
    return store.find(prefix)


def _shown(result: WhatifResult, words: str) -> Group:
    lines: list[Any] = [terminal_table(drawn.compared(result, words)), drawn.changed_words(result)]
    lines += [in_force_words(result.policies)] if result.policies else []
    if result.silent:
        lines.append(Text(f"in {result.silent:,} rounds a changed model had no prediction", "yellow"))
    return Group(*lines)
