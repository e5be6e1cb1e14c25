"""The checks of ``conclave verify``: the layers, and what each reads. Each check is a task that one process runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from shared.archive import CorruptError, LostError
from shared.archive.location import archive_location
from shared.archive.store import open_store
from shared.audit.artifacts import Examined, examine
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings
from shared.audit.live import Live, live
from shared.audit.sealed import ArchivedRecording
from shared.audit.source import Bounded, Ends, EntryRange, Recording, places_of
from shared.audit.written import KnownDigest
from shared.runtime.service import Service
from shared.settings import Settings, redis_url_with_password

KINDS: Final = (
    "control",
    "streams",
    "written",
    "votes",
    "ballots",
    "features",
    "predictions",
    "orders",
    "scores",
    "gates",
)


class Where(NamedTuple):
    """What is verified: a server (``url``) or an ``archive`` alone, and the folder of ``artifacts``.

    ``past``: the archive that holds what was trimmed from the server. ``ends``: the last entry to read in each stream;
    None: no limit. ``known``: the digests of what services wrote before ``ends``, from the groups, the checkpoints and
    the archive."""

    url: str
    archive: str
    artifacts: str
    past: str = ""
    ends: Ends | None = None
    known: tuple[KnownDigest, ...] = ()


def where_of(settings: Settings, archive: str | None, artifacts: Path | str | None = None) -> Where:
    """Return what to verify of an installation: its archive and its server, or only ``archive`` if that is given."""
    return Where(
        redis_url_with_password(settings),
        archive or "",
        str(artifacts or Path(settings.installation.state, "artifacts")),
        archive_location(settings),
    )


class Task(NamedTuple):
    """One check that a process runs by itself."""

    kind: str
    partition: int = 0
    model: str = ""


def checked(source: Recording, where: Where, span: EntryRange, task: Task) -> Findings:
    """Return the findings of one check. A sealed file that was changed is a difference in the layer ``file``. If
    entries are neither sealed nor in Redis, the check is inconclusive."""
    findings = Findings()
    try:
        return CHECKS[task.kind](source, Configurations(source, Findings()), where, span, task)
    except CorruptError as error:
        findings.differ(Difference("file", "archive", task.partition, "", "", str(error)))
    except LostError as error:
        findings.skip(str(error))
    return findings


def _streams(source: Recording, _: Configurations, __: Where, ___: EntryRange, task: Task) -> Findings:
    from shared.audit.contiguity import check_streams  # noqa: PLC0415  # one layer's

    own = [place for place in places_of(task.partition + 1) if place.partition == task.partition]
    return check_streams(source, own)


def _written(source: Recording, _: Configurations, where: Where, span: EntryRange, task: Task) -> Findings:
    from shared.audit.written import check_written  # noqa: PLC0415  # one layer's

    return check_written(source, where.known, task.partition, span)


def _votes(source: Recording, configurations: Configurations, _: Where, span: EntryRange, task: Task) -> Findings:
    from shared.audit.votes import check_votes  # noqa: PLC0415  # one layer's

    return check_votes(source, configurations, task.partition, span)


def _ballots(source: Recording, configurations: Configurations, _: Where, span: EntryRange, task: Task) -> Findings:
    from shared.audit.ballots import check_ballots  # noqa: PLC0415  # one layer's

    return check_ballots(source, configurations, task.partition, span)


def _features(source: Recording, configurations: Configurations, _: Where, span: EntryRange, task: Task) -> Findings:
    from services.feature_builder.core import FeatureBuilder  # noqa: PLC0415  # one layer's
    from shared.audit.features import check_features, known_sets  # noqa: PLC0415  # one layer's

    known = known_sets(configurations.newest.artifacts)
    return check_features(source, FeatureBuilder, known, configurations.envelopes, task.partition, span)


def _predictions(
    source: Recording, configurations: Configurations, where: Where, span: EntryRange, task: Task
) -> Findings:
    from services.model_worker.main import service  # noqa: PLC0415  # one layer's
    from shared.artifacts import ArtifactStore  # noqa: PLC0415  # one layer's

    store = ArtifactStore(Path(where.artifacts))
    return predictions(source, configurations, service(task.model, store), store, span, task)


def predictions(
    source: Recording, configurations: Configurations, worker: Service[Any], store: Any, span: EntryRange, task: Task
) -> Findings:
    """Return the findings about one model's predictions, recomputed by ``worker``."""
    from shared.audit.predictions import check_predictions  # noqa: PLC0415  # one layer's

    examined = cast(Callable[[str], Examined], cache(lambda digest: examine(store, digest)))
    return check_predictions(source, worker, task.model, configurations.envelopes, examined, task.partition, span)


def _orders(source: Recording, configurations: Configurations, _: Where, span: EntryRange, task: Task) -> Findings:
    from services.executor.core import BOUNDS  # noqa: PLC0415  # one layer's
    from shared.audit.orders import check_orders  # noqa: PLC0415  # one layer's

    return check_orders(source, configurations, task.partition, span, BOUNDS)


def _scores(source: Recording, configurations: Configurations, _: Where, span: EntryRange, task: Task) -> Findings:
    from services.shadow_recorder.main import service  # noqa: PLC0415  # one layer's
    from shared.audit.scores import check_scores  # noqa: PLC0415  # one layer's

    return check_scores(source, service(), configurations.envelopes, task.partition, span)


def _gates(source: Recording, configurations: Configurations, _: Where, span: EntryRange, task: Task) -> Findings:
    from services.gate_evaluator.core import Evaluator  # noqa: PLC0415  # one layer's
    from shared.audit.gates import check_gates  # noqa: PLC0415  # one layer's

    return check_gates(source, Evaluator(), configurations.envelopes, task.partition, span)


CHECKS: Final[dict[str, Callable[[Recording, Configurations, Where, EntryRange, Task], Findings]]] = {
    "streams": _streams,
    "written": _written,
    "votes": _votes,
    "ballots": _ballots,
    "features": _features,
    "predictions": _predictions,
    "orders": _orders,
    "scores": _scores,
    "gates": _gates,
}


@contextmanager
def source_of(where: Where) -> Iterator[Recording]:
    """Open the recording: only sealed files if ``archive`` is named, otherwise sealed files and then the server. It
    ends at ``ends``, if given."""
    if where.archive:
        yield _cut(ArchivedRecording(open_store(where.archive)), where)
        return
    with live(where.url, open_store(where.past) if where.past else None) as source:
        yield _cut(source, where)


def _cut(source: Recording, where: Where) -> Recording:
    return source if where.ends is None else Bounded(source, where.ends)


def cut(where: Where, settings: Settings | None) -> Where:
    """Return ``where`` with ``ends`` at the present end of each stream and the digests known before that: services may
    write more while it is verified. Raises ``CorruptError``, ``StoreError``."""
    from shared.audit.known import collect  # noqa: PLC0415  # imported where needed

    with source_of(where) as source:
        newest = Configurations(source, Findings()).newest
        partitions = newest.partitions or (settings.installation.partitions if settings else 1)
        checkpoints = Path(settings.installation.state, "checkpoints") if settings and not where.archive else None
        past = where.archive or where.past
        store = open_store(past) if past else None
        url = "" if where.archive else where.url
        known = collect(partitions, url=url, store=store, checkpoints=checkpoints, log_id=newest.log_id)
        return where._replace(ends=_ends(source, partitions), known=tuple(known))


def _ends(source: Recording, partitions: int) -> Ends | None:
    if isinstance(source, ArchivedRecording):
        return source.ends()
    return source.ends(partitions) if isinstance(source, Live) else None
