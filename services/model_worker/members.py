"""Which artifacts a model's worker answers with, and what became of loading each. Pure but for the
loader, which it is given.

Which artifacts answer a vector is said by the vector's stamp, the version of the configuration that was in force when
the bar came (``schemas.features``). The newest version only says what to load ahead.

A champion is loaded before anything is answered under its configuration, and so is everything that is
active at a start: what votes never depends on how fast a file was read. A shadow that is started while
live loads in the background; until then it answers ``not_loaded``, and delays nobody. That is a fact about this
process, and nothing later follows from it.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from schemas.codec import Encoded, Envelope, encode
from schemas.control import CommandRecorded, RegisterArtifact
from schemas.readiness import ArtifactFailed, ArtifactFreed, ArtifactReady
from services.model_worker.inference import Predictor
from shared.control import EMPTY, Model, fold
from shared.control import State as Control

FORMER: Final = 3
"""How many former champions that are not active stay loaded, the newest: a rollback's targets. At a
start they are loaded too. Everything else is freed as soon as it is not active."""
LOADING: Final = "still being loaded; it answers once it is verified and warm"


class Loaded(NamedTuple):
    """An artifact in memory: when it was verified and warm (ms since 1970), and how long that took."""

    predictor: Predictor
    at: int
    took_ms: int


class Fault(NamedTuple):
    """Why an artifact could not be loaded, and when that was found."""

    reason: str
    at: int


class Loader(Protocol):
    """Turns an artifact's digest into the artifact, once; keeps what it loaded until told to forget."""

    def load(self, artifact: str) -> Loaded | Fault:
        """Waits for it. What failed before is tried again."""

    def request(self, artifact: str) -> None:
        """Begins in the background; does nothing where it is loaded, or being loaded. What failed
        before is tried again."""

    def outcome(self, artifact: str) -> Loaded | Fault | None:
        """What became of it; None while it is being loaded, and where nobody asked for it."""

    def forget(self, artifact: str) -> None:
        """Frees its memory."""


class Worker(NamedTuple):
    """Who announces: the model, this process as ``status`` shows it, and a random name of its start."""

    model: str
    owner: str
    life: str


class Member(NamedTuple):
    """An active artifact: by digest (hexadecimal and bytes), what it was registered for, and itself,
    or why it is not loaded."""

    artifact: str
    digest: bytes
    feature_set: bytes
    registered: RegisterArtifact
    predictor: Predictor | None
    fault: str


class ActiveArtifacts(Struct):
    """The configuration as far as it was read, and ``stamp``, the version under which vectors are answered now.

    ``members`` are the artifacts active under the stamp in the order in which they answer (shadows first, the champion
    last), ``former`` the former champions (newest last). ``held``: what the loader was asked for and not yet told to
    forget; ``told``: what was announced about each artifact; ``freed``: what was ready and is not yet announced as
    freed. ``settled``: nothing is being loaded, and all is announced. ``begun``: the version that this process started
    with; ``entered``: whether what the stamp needs was loaded."""

    control: Control = EMPTY
    stamp: int = 0
    begun: int = 0
    entered: bool = False
    members: tuple[Member, ...] = ()
    former: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()
    told: dict[str, Loaded | Fault] = {}
    freed: tuple[str, ...] = ()
    settled: bool = True


def follow(roster: ActiveArtifacts, model: str, control: Sequence[Envelope[CommandRecorded]]) -> None:
    """Folds commands, and notes who was champion on the way."""
    for envelope in control:
        before = roster.control.models.get(model, Model()).champion
        roster.control = fold(roster.control, envelope.event)
        after = roster.control.models.get(model, Model()).champion
        if before is not None and before != after:
            roster.former = (*(artifact for artifact in roster.former if artifact != before), before)


def load(roster: ActiveArtifacts, model: str, loader: Loader, *, starting: bool) -> None:
    """Has loaded what the newest configuration wants beside what the stamp needs, and nothing else. At a start it
    waits until all of that is there."""
    newest = roster.control.models.get(model, Model())
    wanted = frozenset((*_active(newest), *_idle(roster, newest), *_active(slot_at(roster, model))))
    for artifact in sorted(roster.held - wanted):
        loader.forget(artifact)
        if isinstance(roster.told.pop(artifact, None), Loaded):
            roster.freed += (artifact,)
    roster.held = wanted
    if starting:
        roster.begun = roster.control.version
    for artifact in filter(None, (newest.champion, *newest.shadows)):
        (loader.load if starting else loader.request)(artifact)
    for artifact in _idle(roster, newest):
        loader.request(artifact)
    roster.settled = False


def enter(roster: ActiveArtifacts, model: str, loader: Loader, stamp: int) -> None:
    """Answers under ``stamp`` from here on: its champion is loaded first, and so are the shadows of a configuration
    that was there when this process started."""
    roster.stamp, roster.entered = stamp, True
    load(roster, model, loader, starting=False)
    current = slot_at(roster, model)
    for artifact in current.shadows:
        (loader.load if stamp <= roster.begun else loader.request)(artifact)
    if current.champion is not None:
        loader.load(current.champion)
    refresh(roster, model, loader)


def announce(roster: ActiveArtifacts, worker: Worker, loader: Loader) -> list[Encoded]:
    """Announces what was freed, was loaded or failed since it was last asked; seats what is new."""
    newest = roster.control.models.get(worker.model, Model())
    who = (worker.owner, worker.life, roster.control.version)
    announced = [encode("readiness", ArtifactFreed(worker.model, artifact, *who)) for artifact in roster.freed]
    roster.freed = ()
    roster.settled = True
    under_stamp = _active(slot_at(roster, worker.model))
    for artifact in dict.fromkeys((*_active(newest), *_idle(roster, newest), *under_stamp)):
        outcome = loader.outcome(artifact)
        if outcome is None:
            roster.settled = False
        elif roster.told.get(artifact) is not outcome:
            roster.told[artifact] = outcome
            announced.append(_announcement(roster, worker, artifact, outcome))
    if announced:
        refresh(roster, worker.model, loader)
    return announced


def slot_at(roster: ActiveArtifacts, model: str) -> Model:
    """The model's slot under the stamp."""
    return roster.control.past[roster.stamp].models.get(model, Model()) if roster.stamp else Model()


def _active(current: Model) -> tuple[str, ...]:
    return (*current.shadows, current.champion) if current.champion else current.shadows


def _idle(roster: ActiveArtifacts, current: Model) -> Iterator[str]:
    """The newest former champions that are neither active nor retired."""
    idle = [a for a in roster.former if a not in _active(current) and a not in roster.control.retired]
    return iter(idle[-FORMER:])


def refresh(roster: ActiveArtifacts, model: str, loader: Loader) -> None:
    """Makes the members of the stamp, each with what the loader has of it."""
    active = _active(slot_at(roster, model))
    roster.members = tuple(_member(roster.control, artifact, loader.outcome(artifact)) for artifact in active)


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
    said = (registered.feature_set, registered.interval_ms)
    found = (outcome.predictor.feature_set, outcome.predictor.interval_ms)
    return "" if found == said else f"registered for feature set and interval {said}, its manifest says {found}"


def _announcement(roster: ActiveArtifacts, worker: Worker, artifact: str, outcome: Loaded | Fault) -> Encoded:
    fault = _fault(roster.control.artifacts[artifact], outcome)
    who = (worker.model, artifact, worker.owner, worker.life, roster.control.version)
    if isinstance(outcome, Loaded) and not fault:
        return encode("readiness", ArtifactReady(*who, outcome.took_ms, outcome.at))
    return encode("readiness", ArtifactFailed(*who, fault[:2000], outcome.at))
