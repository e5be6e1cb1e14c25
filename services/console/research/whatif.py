"""``conclave whatif``: what would have been decided under another configuration."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs
from rich.console import Console, Group

from schemas.codec import Envelope, encode
from schemas.control import Command, CommandRecorded, Found, Promote, RegisterArtifact
from services.console.audit.tasks import source_of, where_of
from services.console.audit.verify import entry_range
from services.console.context import settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, echo_json, terminal_table
from services.console.parsing import pairs
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
from shared.runtime.service import Batch, Received


@click.command()
@click.option("--since", metavar="TIME", help="Rounds decided after this time (ISO 8601). Default: all.")
@click.option("--until", metavar="TIME", help="Rounds decided until this time.")
@click.option("--set", "champions", multiple=True, metavar="MODEL=ARTIFACT", help="Another champion, by digest prefix.")
@click.option("--weight", "weights", multiple=True, metavar="MODEL=WEIGHT", help="Another weight; the rest yields.")
@click.option("--policy", "policy", multiple=True, metavar="FIELD=VALUE", help="Another voting policy, as edge=0.05.")
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Sealed files alone, without Redis.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with pictures.")
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
    """Votes again over recorded ballots, under another configuration. Without a change: all must be as it was.

    Exit code 0 done, 2 it cannot be asked, 3 there is no round."""
    if html is not None:
        require_charts()
    settings = settings_of(context)
    store = store_of(settings)
    with source_of(where_of(settings, archive, store.path)) as source:
        configurations = Configurations(source, Findings())
        try:
            asked = Changes(
                {model: _artifact(store, configurations, prefix) for model, prefix in pairs(champions).items()},
                {model: float(weight) for model, weight in pairs(weights).items()},
                pairs(policy),
            )
            span = entry_range(since, until)
            answer = asked_of(source, configurations, asked, store, span)
        except (ChangesError, ArtifactError, ValueError) as error:
            raise click.UsageError(str(error)) from None
    words = _words(asked)
    if html is not None:
        html.write_text(drawn.page(answer, words), encoding="utf-8")
    if output == "json":
        echo_json({"asked": asked, **msgspec.structs.asdict(answer)})
    else:
        Console().print(_shown(answer, words))
    context.exit(0 if answer.rounds else 3)


def asked_of(
    source: Recording,
    configurations: Configurations,
    asked: Changes,
    store: ArtifactStore,
    span: EntryRange = EntryRange(),  # noqa: B008  # a plain value
) -> WhatifResult:
    """The answer over all partitions. Raises ``ChangesError``, ``ArtifactError``."""
    state = configurations.newest
    unknown = sorted({*asked.champions, *asked.weights} - set(state.voting))
    if unknown:
        raise ChangesError(f"{', '.join(unknown)} does not vote; the voting models are {', '.join(state.voting)}")
    known: dict[str, RegisterArtifact] = {}
    for model, artifact in asked.champions.items():
        there = state.artifacts.get(artifact)
        known[artifact] = there or registration(model, artifact, store.manifest(artifact))
        if known[artifact].model != model:
            raise ChangesError(f"artifact {artifact[:12]} is registered for {known[artifact].model}, not for {model}")
    answer = WhatifResult()
    for partition in range(state.partitions or 1):
        made: dict[str, Rescorer] = {}

        def rescored(
            artifact: str, symbol: str, interval_ms: int, open_time: int,
            partition: int = partition, made: dict[str, Rescorer] = made,
        ) -> Any:  # fmt: skip
            if artifact not in known:
                return None
            if artifact not in made:
                made[artifact] = Rescorer(rescored_answers(source, known[artifact], store, partition))
            return made[artifact](symbol, interval_ms, open_time)

        compare(source, configurations, asked, known, rescored, partition, span, answer)
    return answer


def rescored_answers(
    source: Recording, registered: RegisterArtifact, store: ArtifactStore, partition: int
) -> Iterator[Any]:
    """What an artifact says to every recorded vector: the model's worker, with this champion alone."""
    store.load(registered.artifact)
    worker = worker_of(registered.model, store)
    state = worker.initial(b"")
    worker.apply(state, Batch([encode("control", entry).envelope for entry in _alone(registered)], ()))
    vectors = readable(source, StreamKey("features", partition), "feature", Findings(), EntryRange("+"))
    while page := list(islice(vectors, PAGE)):
        received = [Received("features", read.entry, _unstamped(read.opened.envelope)) for read in page]
        for sealed in worker.handle(state, Batch((), received)):
            if sealed.stream == "predictions":
                yield sealed.envelope.event


def _unstamped(vector: Envelope[Any]) -> Envelope[Any]:
    """A recorded vector without its stamp, so that it is answered under the configuration that is asked for."""
    return structs.replace(vector, event=structs.replace(vector.event, control_version=0, control_head=None))


def _alone(registered: RegisterArtifact) -> Iterator[CommandRecorded]:
    state = EMPTY
    promote = Promote(registered.model, registered.artifact, forced=True, weight=1.0)
    commands: tuple[Command, ...] = (Found(1, "a-what-if"), registered, promote)
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=f"{number}", actor="whatif", reason="rescoring", at=0)
        if not isinstance(entry, CommandRecorded):
            raise ChangesError(f"{registered.artifact[:12]} cannot be asked: {entry}")
        state = fold(state, entry)
        yield entry


def _artifact(store: ArtifactStore, configurations: Configurations, prefix: str) -> str:
    """The one artifact that begins so: of those in control, or in the store."""
    found = {digest for digest in configurations.newest.artifacts if digest.startswith(prefix)}
    if len(found) == 1:
        return found.pop()
    return store.find(prefix)


def _words(asked: Changes) -> str:
    parts = [f"{model} = {artifact[:12]}" for model, artifact in asked.champions.items()]
    parts += [f"weight of {model} {weight:g}" for model, weight in asked.weights.items()]
    parts += [f"{name} {value}" for name, value in asked.policy.items()]
    return "With " + ", ".join(parts) if parts else "With nothing changed"


def _shown(answer: WhatifResult, words: str) -> Group:
    lines: list[Any] = [terminal_table(drawn.compared(answer, words)), drawn.changed_words(answer)]
    if answer.silent:
        lines.append(f"[yellow]in {answer.silent:,} rounds a model that is asked for had no answer[/]")
    return Group(*lines)
