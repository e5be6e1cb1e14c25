"""The artifacts with which a model's worker predicts, and whether each is loaded. Pure but for the loader, an argument.

The stamp of a vector selects the artifacts that predict from it: it is the version of the configuration in force when
the bar came (``schemas.features``). The newest version selects only what to load ahead.

Before anything is predicted under a configuration, its champion is loaded. At a start, so is everything that is active.
So a prediction that votes never depends on how fast a file is read. A shadow that is started while the worker runs
loads in the background. Until then its predictions fail with ``not_loaded`` and delay nothing. That is a fact about
this process; no later event depends on it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from schemas.codec import Encoded, Envelope, encode
from schemas.control import CommandRecorded, RegisterArtifact
from schemas.readiness import ArtifactFailed, ArtifactFreed, ArtifactReady
from services.model_worker.inference import Predictor
from shared.control import EMPTY, Model, fold
from shared.control import State as Control

FORMER: Final = 3
"""The number of former champions that stay loaded although they are not active, the newest: targets of a rollback. They
are loaded at a start, too. Any other artifact is freed as soon as it is not active."""
LOADING: Final = "still being loaded; it answers once it is verified and warm"


class Loaded(NamedTuple):
    """An artifact in memory. ``at``: when it was verified and warm (ms since 1970); ``took_ms``: how long that took;
    ``memory_mb``: the resident memory of the process then, if it is known."""

    predictor: Predictor
    at: int
    took_ms: int
    memory_mb: float | None = None


class Fault(NamedTuple):
    """Why an artifact could not be loaded, and when that failed (ms since 1970)."""

    reason: str
    at: int


class Loader(Protocol):
    """Loads artifacts by their digests, each once, and keeps them until ``forget``."""

    def load(self, artifact: str) -> Loaded | Fault:
        """Load an artifact and wait for it. One that failed before is tried again."""

    def request(self, artifact: str) -> None:
        """Start to load an artifact in the background, unless it is loaded or being loaded. One that failed before is
        tried again."""

    def outcome(self, artifact: str) -> Loaded | Fault | None:
        """Return the result of loading an artifact; None while it is being loaded, and if it was never requested."""

    def forget(self, artifact: str) -> None:
        """Free the memory of an artifact."""


class Worker(NamedTuple):
    """The process that announces: its model, its owner as ``status`` shows it, and ``life``, a random name of its
    start."""

    model: str
    owner: str
    life: str


class Member(NamedTuple):
    """An active artifact: its digest (hexadecimal and bytes), its registration, and its predictor, or the fault for
    which it is not loaded."""

    artifact: str
    digest: bytes
    feature_set: bytes
    registered: RegisterArtifact
    predictor: Predictor | None
    fault: str


class ActiveArtifacts(Struct):
    """The configuration as far as it was read, and the artifacts that are active under ``stamp``, the version of the
    vectors that are predicted from now.

    ``members``: those artifacts in the order of their predictions (shadows first, the champion last). ``former``: the
    former champions, newest last. ``requested``: the artifacts that the loader has, or was asked for. ``announced``:
    the outcome that was announced last for each artifact. ``freed``: artifacts that were announced as ready, and are
    not yet announced as freed. ``settled``: nothing is being loaded, and everything is announced. ``started_with``: the
    version at the start of this process. ``switched``: whether the artifacts of ``stamp`` were loaded."""

    control: Control = EMPTY
    stamp: int = 0
    started_with: int = 0
    switched: bool = False
    members: tuple[Member, ...] = ()
    former: tuple[str, ...] = ()
    requested: frozenset[str] = frozenset()
    announced: dict[str, Loaded | Fault] = {}
    freed: tuple[str, ...] = ()
    settled: bool = True


def follow(active: ActiveArtifacts, model: str, control: Sequence[Envelope[CommandRecorded]]) -> None:
    """Fold commands into the configuration, and note each champion that is replaced."""
    for envelope in control:
        before = active.control.models.get(model, Model()).champion
        active.control = fold(active.control, envelope.event)
        after = active.control.models.get(model, Model()).champion
        if before is not None and before != after:
            active.former = (*(artifact for artifact in active.former if artifact != before), before)


def load(active: ActiveArtifacts, model: str, loader: Loader, *, starting: bool) -> None:
    """Request the artifacts that the newest configuration and the stamp need, and free all others. When ``starting``,
    wait until the active ones are loaded."""
    newest = active.control.models.get(model, Model())
    wanted = frozenset(
        (*_active_digests(newest), *_idle(active, newest), *_active_digests(model_under_stamp(active, model)))
    )
    for artifact in sorted(active.requested - wanted):
        loader.forget(artifact)
        if isinstance(active.announced.pop(artifact, None), Loaded):
            active.freed += (artifact,)
    active.requested = wanted
    if starting:
        active.started_with = active.control.version
    for artifact in filter(None, (newest.champion, *newest.shadows)):
        (loader.load if starting else loader.request)(artifact)
    for artifact in _idle(active, newest):
        loader.request(artifact)
    active.settled = False


def switch(active: ActiveArtifacts, model: str, loader: Loader, stamp: int) -> None:
    """Make ``stamp`` the version under which vectors are predicted from. Wait until its champion is loaded, and its
    shadows if it was in force before this process started."""
    active.stamp, active.switched = stamp, True
    load(active, model, loader, starting=False)
    current = model_under_stamp(active, model)
    for artifact in current.shadows:
        (loader.load if stamp <= active.started_with else loader.request)(artifact)
    if current.champion is not None:
        loader.load(current.champion)
    refresh(active, model, loader)


def announce(active: ActiveArtifacts, worker: Worker, loader: Loader) -> list[Encoded]:
    """Return the announcements of what was freed, was loaded or failed since the last call, and update the members."""
    newest = active.control.models.get(worker.model, Model())
    process = _process(active, worker)
    announcements = [encode("readiness", ArtifactFreed(artifact=artifact, **process)) for artifact in active.freed]
    active.freed = ()
    active.settled = True
    under_stamp = _active_digests(model_under_stamp(active, worker.model))
    for artifact in dict.fromkeys((*_active_digests(newest), *_idle(active, newest), *under_stamp)):
        outcome = loader.outcome(artifact)
        if outcome is None:
            active.settled = False
        elif active.announced.get(artifact) is not outcome:
            active.announced[artifact] = outcome
            announcements.append(_announcement(active, worker, artifact, outcome))
    if announcements:
        refresh(active, worker.model, loader)
    return announcements


def model_under_stamp(active: ActiveArtifacts, model: str) -> Model:
    """Return the model's part of the configuration under the stamp."""
    return active.control.past[active.stamp].models.get(model, Model()) if active.stamp else Model()


def _active_digests(current: Model) -> tuple[str, ...]:
    return (*current.shadows, current.champion) if current.champion else current.shadows


def _idle(active: ActiveArtifacts, current: Model) -> Iterator[str]:
    """Return the newest former champions that are neither active nor retired."""
    idle = [a for a in active.former if a not in _active_digests(current) and a not in active.control.retired]
    return iter(idle[-FORMER:])


def refresh(active: ActiveArtifacts, model: str, loader: Loader) -> None:
    """Make ``members`` new: the active artifacts of the stamp, each with the loader's outcome."""
    active.members = tuple(
        _member(active.control, artifact, loader.outcome(artifact))
        for artifact in _active_digests(model_under_stamp(active, model))
    )


def _member(control: Control, artifact: str, outcome: Loaded | Fault | None) -> Member:
    registered = control.artifacts[artifact]
    fault = LOADING if outcome is None else _fault(registered, outcome)
    predictor = outcome.predictor if isinstance(outcome, Loaded) and not fault else None
    return Member(
        artifact, bytes.fromhex(artifact), bytes.fromhex(registered.feature_set), registered, predictor, fault
    )


def _fault(registered: RegisterArtifact, outcome: Loaded | Fault) -> str:
    if isinstance(outcome, Fault):
        return outcome.reason
    expected = (registered.feature_set, registered.interval_ms)
    actual = (outcome.predictor.feature_set, outcome.predictor.interval_ms)
    return (
        "" if actual == expected else f"registered for feature set and interval {expected}, its manifest says {actual}"
    )


def _announcement(active: ActiveArtifacts, worker: Worker, artifact: str, outcome: Loaded | Fault) -> Encoded:
    fault = _fault(active.control.artifacts[artifact], outcome)
    process = _process(active, worker)
    if isinstance(outcome, Loaded) and not fault:
        ready = ArtifactReady(
            artifact=artifact, **process, took_ms=outcome.took_ms, at=outcome.at, memory_mb=outcome.memory_mb
        )
        return encode("readiness", ready)
    return encode("readiness", ArtifactFailed(artifact=artifact, **process, reason=fault[:2000], at=outcome.at))


def _process(active: ActiveArtifacts, worker: Worker) -> dict[str, Any]:
    """Return the fields that every announcement of this process has now."""
    return {
        "model": worker.model,
        "owner": worker.owner,
        "life": worker.life,
        "control_version": active.control.version,
    }
